"""The drop on another study and what of it is prevalence, against scikit-learn's weights and Bayes' rule."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, average_precision_score, brier_score_loss, roc_auc_score

from cxrfeat._evaluate.bootstrap import BLOCK, draw
from cxrfeat._evaluate.metrics import AVERAGE_PRECISION, METRICS
from cxrfeat._evaluate.scored import Scored
from cxrfeat._evaluate.transfer import compared, share


def sample(n: int, prevalence: float, shift: float, seed: int) -> Scored:
    rng = np.random.default_rng(seed)
    y = (rng.random((n, 2)) < prevalence).astype(float)
    z = rng.normal(size=(n, 2)) + 1.2 * y + shift
    patients = np.array([f"p{i}" for i in rng.integers(0, n // 2, n)])
    about = {"study": "s", "split": "", "head": "a head"}
    return Scored(
        ("A", "B"), y, 1 / (1 + np.exp(-z)), np.arange(n).astype(str), patients, np.array([0.5, np.nan]), "run", about
    )


@pytest.fixture(scope="module")
def own() -> Scored:
    return sample(600, 0.3, 0.0, 0)


@pytest.fixture(scope="module")
def other() -> Scored:
    return sample(900, 0.1, 0.0, 1)


@pytest.fixture(scope="module")
def found(own, other):
    return compared(own, other, 200, 0)


def weights(own: Scored, other: Scored, j: int) -> np.ndarray:
    a, b = own.y[:, j].mean(), other.y[:, j].mean()
    return np.where(other.y[:, j] == 1, a / b, (1 - a) / (1 - b))


@pytest.mark.parametrize("j", [0, 1])
def test_values_at_the_own_prevalence_are_those_of_weighted_images(own, other, found, j):
    y, p, row = other.y[:, j], other.p[:, j], found.rows[j]
    w = weights(own, other, j)
    expected = {
        "auroc": roc_auc_score(y, p, sample_weight=w),
        "average_precision": average_precision_score(y, p, sample_weight=w),
        "brier": brier_score_loss(y, p, sample_weight=w),
        "accuracy_at_half": accuracy_score(y, p >= 0.5, sample_weight=w),
    }
    for name, value in expected.items():
        assert row[f"{name}_at_own_prevalence"] == pytest.approx(value, abs=1e-12), name


def test_ppv_at_the_own_prevalence_is_that_of_bayes(own, found):
    row, prevalence = found.rows[0], own.y[:, 0].mean()
    called = row["sensitivity"] * prevalence
    expected = called / (called + (1 - row["specificity"]) * (1 - prevalence))
    assert row["ppv_at_own_prevalence"] == pytest.approx(expected, abs=1e-12)
    assert np.isnan(found.rows[1]["ppv_at_own_prevalence"])  # no threshold


def test_what_is_computed_within_a_class_does_not_move(found):
    for name in ("auroc", "sensitivity", "specificity"):
        for row in found.rows[:1]:
            assert row[f"{name}_drop_prevalence"] == pytest.approx(0, abs=1e-12)
            assert np.abs(row[f"{name}_drop_prevalence_bootstrap"]).max() < 1e-12


def test_the_drop_is_how_much_worse_whatever_the_direction(found):
    for row in found.rows:
        assert row["auroc_drop"] == pytest.approx(row["auroc_own"] - row["auroc"])
        assert row["brier_drop"] == pytest.approx(row["brier"] - row["brier_own"])
    macro = found.rows[-1]
    assert macro["auroc_drop"] == pytest.approx(np.mean([row["auroc_drop"] for row in found.rows[:-1]]))


def test_the_interval_of_the_drop_is_that_of_two_samples_resampled_apart(own, other, found):
    """Draws of both samples row by row with scikit-learn; the seeds differ, so that the draws are not paired."""
    values = []
    for k, scored in enumerate((own, other)):
        names, code = np.unique(scored.patients, return_inverse=True)
        counts = np.concatenate([draw(len(names), k, block) for block in range(4)], axis=1)[:, :200]
        weight = counts[code].astype(int)
        values.append([roc_auc_score(scored.y[:, 0], scored.p[:, 0], sample_weight=weight[:, b]) for b in range(200)])
    drops = np.subtract(*values)
    low, high = found.rows[0]["auroc_drop_bootstrap"]
    assert (low < np.quantile(drops, 0.025) < high) and low < np.mean(drops) < high
    # The interval is widened a little for the number of patients, and by no more.
    assert high - low == pytest.approx(np.quantile(drops, 0.975) - np.quantile(drops, 0.025), rel=0.1)


def test_replicates_of_the_prevalence_part_take_the_prevalence_of_each_draw(own, other):
    """The first block, by scikit-learn on weighted rows."""
    from cxrfeat._evaluate.bootstrap import bootstrap
    from cxrfeat._evaluate.transfer import _at_prevalence, _prevalence

    a, b = (bootstrap(s.y, s.p, s.patients, s.thresholds, 5, k) for k, s in enumerate((own, other)))
    wanted, here = _prevalence(own, a), _prevalence(other, b)
    draws = _at_prevalence(other, wanted, here, 1)[1]["average_precision"]
    names, code = np.unique(other.patients, return_inverse=True)
    counts = draw(len(names), 1, 0)[code]
    assert counts.shape[1] == BLOCK
    for r in range(5):
        y, count = other.y[:, 1], counts[:, r]
        now = (y * count).sum() / count.sum()
        w = count * np.where(y == 1, wanted[r + 1, 1] / now, (1 - wanted[r + 1, 1]) / (1 - now))
        assert draws[r, 1] == pytest.approx(average_precision_score(y, other.p[:, 1], sample_weight=w), abs=1e-9)


def test_the_share_of_prevalence_is_given_only_where_there_is_a_drop(found):
    row = found.rows[-1]
    larger = {**row, "average_precision_drop": 2 * row["average_precision_drop_prevalence"]}
    assert share(larger, AVERAGE_PRECISION) == pytest.approx(0.5)
    assert np.isnan(
        share({**row, "average_precision_drop": 0.5 * row["average_precision_drop_prevalence"]}, AVERAGE_PRECISION)
    )
    assert np.isnan(share({**row, "average_precision_drop_bootstrap": [-0.1, 0.1]}, AVERAGE_PRECISION))


def test_recalibrating_undoes_a_shift_of_logits(own):
    shifted = sample(900, 0.1, 1.5, 1)
    row = compared(own, shifted, 0, 0).rows[-1]
    assert row["ece_recalibrated"] < 0.05 < row["ece"] and row["brier_recalibrated"] < row["brier"]
    assert "auroc_drop_bootstrap" not in row


def test_a_sample_against_itself_has_no_drop(own):
    for row in compared(own, own, 0, 0).rows:
        for m in METRICS:
            assert np.isnan(row[f"{m.name}_drop"]) or row[f"{m.name}_drop"] == pytest.approx(0, abs=1e-12)
            assert np.isnan(row[m.name]) or row[f"{m.name}_at_own_prevalence"] == pytest.approx(row[m.name])
