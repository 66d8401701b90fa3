"""Each warning comes where it should, and stays away from sound predictions."""

import numpy as np
import pandas as pd
import pytest

from cxrfeat._evaluate import evaluate, warnings
from cxrfeat._evaluate.scored import Scored


def make(y, p, **kwargs):
    n, labels = y.shape
    ids = np.array([str(i) for i in range(n)])
    return Scored(tuple("abcdefgh"[:labels]), y, p, ids, kwargs.pop("patients", ids), np.full(labels, 0.5), **kwargs)


def sound(n=600, labels=4, seed=0, shift=1.2):
    rng = np.random.default_rng(seed)
    y = (rng.random((n, labels)) < 0.3).astype(float)
    return y, 1 / (1 + np.exp(-(rng.normal(size=y.shape) + shift * y - 1)))


def kinds(scored, **kwargs):
    return [w.kind for w in warnings.of_scores(scored, **kwargs)]


def test_sound_predictions_raise_nothing():
    y, p = sound()
    assert kinds(make(y, p), training_y=sound(seed=1)[0]) == []


def test_misaligned_rows_look_like_chance():
    y, p = sound()
    assert kinds(make(y, np.roll(p, 1, axis=0))) == ["chance"]


def test_one_label_that_works_is_not_chance():
    y, p = sound()
    p[:, 1:] = np.roll(p[:, 1:], 1, axis=0)
    assert "chance" not in kinds(make(y, p))


def test_few_patients_with_many_images_are_not_mistaken_for_many_patients():
    rng = np.random.default_rng(3)
    patients = np.repeat(np.arange(12), 50)
    y = np.repeat((rng.random((12, 3)) < 0.5).astype(float), 50, axis=0)
    p = np.repeat(rng.random((12, 3)), 50, axis=0) * 0.9 + 0.1 * rng.random(y.shape)
    assert "inverted" not in kinds(make(y, p, patients=patients.astype(str)))


def test_an_inverted_label_is_named():
    y, p = sound()
    p[:, 2] = 1 - p[:, 2]
    (found,) = warnings.of_scores(make(y, p))
    assert found.kind == "inverted" and found.labels == ("c",) and "inverted?" in found.message


def test_a_near_perfect_label_is_named():
    y, p = sound()
    p[:, 0] = 0.1 + 0.8 * y[:, 0]
    (found,) = warnings.of_scores(make(y, p))
    assert (found.kind, found.labels) == ("near_perfect", ("a",))


def test_labels_with_one_class_or_no_prediction_are_named():
    y, p = sound()
    y[:, 0], y[:, 1], p[:, 2] = 0, 1, np.nan
    found = {w.message.split(":")[0]: w.labels for w in warnings.of_scores(make(y, p)) if "macro" in w.message}
    assert found == {
        "the head makes no prediction for c": ("c",),
        "no image is positive for a": ("a",),
        "no image is negative for b": ("b",),
    }


def test_a_constant_prediction_and_a_rare_label_are_named():
    y, p = sound()
    p[:, 3] = 0.25
    y[:, 1] = 0
    y[:4, 1] = 1
    found = {w.kind: w.labels for w in warnings.of_scores(make(y, p))}
    assert found["constant"] == ("d",) and found["few"] == ("b",)


def test_few_are_counted_in_patients_and_have_no_interval_but_that_of_auroc():
    """Twelve positive images of four patients: 12 images are not few, 4 patients are."""
    y, p = sound(labels=2)
    y[:, 1] = 0
    y[:12, 1] = 1
    patients = np.array([str(i // 3) for i in range(len(y))])
    found = evaluate(make(y, p, patients=patients), replicates=200, by=[])
    assert [w.labels for w in found.warnings if w.kind == "few"] == [("b",)]
    often, rare, macro, micro = found.rows
    assert (rare["positives"], rare["positive_patients"]) == (12, 4)
    for name in ("auroc", "average_precision", "sensitivity", "brier"):
        assert np.isnan(rare[f"{name}_bootstrap"]).all() and not np.isnan(often[f"{name}_bootstrap"]).any()
        assert not np.isnan(micro[f"{name}_bootstrap"]).any()
    assert rare["auroc_interval"][0] < rare["auroc"] < rare["auroc_interval"][1]
    assert not np.isnan(macro["auroc_interval"]).any() and np.isnan(macro["average_precision_bootstrap"]).all()


def test_prevalence_far_from_training_is_named_with_both():
    y, p = sound()
    training = sound(seed=1)[0]
    training[:, 1] = np.arange(len(training)) % 10 == 0
    (found,) = warnings.of_scores(make(y, p), training)
    assert found.kind == "prevalence" and found.labels == ("b",) and "against 10.0%" in found.message


def test_an_auroc_that_lives_between_groups_is_noticed():
    """Within each view the score knows nothing; AP films are ill more often, and the score knows the view."""
    rng = np.random.default_rng(5)
    ap = rng.random(2000) < 0.5
    y = (rng.random((2000, 3)) < np.where(ap, 0.6, 0.1)[:, None]).astype(float)
    p = np.clip(np.where(ap, 0.6, 0.1)[:, None] + 0.05 * rng.normal(size=y.shape), 0, 1)
    scored = make(y, p, table=pd.DataFrame({"view": np.where(ap, "AP", "PA")}))
    found = evaluate(scored, replicates=0)
    (said,) = [w.message for w in found.warnings if w.kind == "between_groups"]
    assert "over the 3 labels" in said and f"is {found.macro['auroc']:.3f} on all images" in said
    y[ap, 2] = 0  # the third label has no AUROC among AP films: the numbers are those of the other two, and it is said
    scored = make(y, p, table=scored.table)
    (said,) = [w.message for w in evaluate(scored, replicates=0).warnings if w.kind == "between_groups"]
    assert (
        "over the 2 labels" in said and f"is {np.mean([r['auroc'] for r in found.rows[:2]]):.3f} on all images" in said
    )
    assert np.mean(list(found.alone["view"].values())) == pytest.approx(found.macro["auroc"], abs=0.03)


def test_small_groups_are_named():
    y, p = sound()
    site = np.where(np.arange(len(y)) < 20, "small", "large")
    found = evaluate(make(y, p, table=pd.DataFrame({"site": site})), by=["site"], replicates=0)
    (said,) = [w.message for w in found.warnings if w.kind == "small_group"]
    assert (
        said.startswith("site: fewer than 10 positive or negative patients in small for 4 labels")
        and "large" not in said
    )
