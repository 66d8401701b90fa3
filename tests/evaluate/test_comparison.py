"""Runs compared on the same images: paired, corrected, and worded without overclaiming."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from cxrfeat._evaluate import delong
from cxrfeat._evaluate.alignment import align
from cxrfeat._evaluate.bootstrap import draw, widened
from cxrfeat._evaluate.comparison import compare
from cxrfeat._evaluate.metrics import AUROC
from cxrfeat._evaluate.scored import Scored, scored_run
from cxrfeat._run import Run
from cxrfeat.errors import EvaluationError


@pytest.fixture
def pair(make_run):
    """Two heads on the same images, the second a little better."""
    return [scored_run(Run.open(make_run(name, strength=s))) for name, s in (("weak", 0.9), ("strong", 1.4))]


def test_rows_hold_the_paired_tests_and_the_corrected_p_values(pair):
    a, b = pair
    found = compare(*pair, replicates=64)
    for j, row in enumerate(found.rows[:13]):
        wanted = delong.paired(a.y[:, j], a.p[:, j], b.p[:, j])
        assert row["difference"] == pytest.approx(AUROC(b.y[:, j], b.p[:, j]) - row["auroc_baseline"])
        assert (row["p"], row["z"]) == pytest.approx((wanted.p, wanted.z))
        clustered = delong.paired(a.y[:, j], a.p[:, j], b.p[:, j], a.patients)
        assert row["p_patients"] == pytest.approx(clustered.p)
        assert row["difference_interval"] == pytest.approx([clustered.low, clustered.high])
        assert row["difference_interval"][0] <= row["difference"] <= row["difference_interval"][1]
    corrected = delong.holm([row["p"] for row in found.rows])
    np.testing.assert_allclose([row["p_holm"] for row in found.rows], corrected)
    assert np.isnan(found.rows[13]["p_holm"]) and found.rows[14]["label"] == "macro"


def test_the_bootstrap_is_paired_draw_by_draw(pair):
    """Repeat the rows of each drawn patient for both runs, and take the quantiles of the difference."""
    (a, b), j = pair, int(np.argmax(pair[0].fewest_patients))
    names, of = np.unique(a.patients, return_inverse=True)
    counts, differences = draw(len(names), 0, 0), []
    for k in range(64):
        rows = np.repeat(np.arange(len(a)), counts[of, k].astype(int))
        differences.append(AUROC(a.y[rows, j], b.p[rows, j]) - AUROC(a.y[rows, j], a.p[rows, j]))
    tail = (1 - widened(np.array([a.fewest_patients[j]]))[0]) / 2  # few patients: more of the draws
    wanted = np.nanquantile(differences, [tail, 1 - tail])
    assert compare(*pair, replicates=64).rows[j]["difference_bootstrap"] == pytest.approx(wanted, abs=1e-6)


def test_a_run_against_itself_does_not_differ(pair):
    found = compare(pair[0], replace(pair[0], name="again"), replicates=64)
    assert all(row["difference"] == 0 and row["p"] == 1 for row in found.rows[:13])
    (said,) = found.conclusions
    assert "no significant difference" in said and "No label differs significantly" in said


def test_runs_are_joined_by_id_and_label_name(pair):
    a, b = pair
    shuffled = b.take(np.random.default_rng(0).permutation(len(b))).with_labels(b.labels[::-1])
    one, two = compare(a, b, replicates=64).rows, compare(a, shuffled, replicates=64).rows
    for x, y in zip(one, two, strict=True):
        assert x["label"] == y["label"] and x["difference"] == pytest.approx(y["difference"], nan_ok=True)


def test_other_images_are_refused_and_the_intersection_says_how_many_remain(pair):
    a, b = pair
    fewer = b.take(np.arange(10, len(b)))
    with pytest.raises(EvaluationError, match=f"10 only in weak, 0 only in strong, {len(b) - 10} in both"):
        compare(a, fewer)
    found = compare(a, fewer, intersection=True, replicates=64)
    assert len(found.baseline) == len(b) - 10 and found.left_out == 10 and "10 images" in found.caption()


def test_other_labels_truth_or_patients_are_refused(pair):
    a, b = pair
    with pytest.raises(EvaluationError, match="do not have the same labels: Hernia"):
        compare(a, b.with_labels(b.labels[:-1]))
    assert align([a, b.with_labels(b.labels[:-1])], intersection=True)[0][0].labels == a.labels[:-1]
    y = b.y.copy()
    y[3, 2] = 1 - y[3, 2]
    with pytest.raises(EvaluationError, match=f"truth of 1 labels, the first is Effusion of image '{a.ids[3]}'"):
        compare(a, replace(b, truth=y))
    with pytest.raises(EvaluationError, match="do not agree on the patient"):
        compare(a, replace(b, patients=np.roll(b.patients, 1)))
    with pytest.raises(EvaluationError, match="at least two runs"):
        compare(a)
    elsewhere = replace(b, ids=np.array([f"x{i}" for i in b.ids]))
    with pytest.raises(EvaluationError, match="share no images"):
        compare(a, elsewhere, intersection=True)


def test_several_runs_share_one_family_of_tests(pair):
    third = replace(pair[1], name="third")
    two, three = compare(*pair, replicates=64), compare(*pair, third, replicates=64)
    assert len(three.rows) == 2 * len(two.rows) and len(three.conclusions) == 2
    assert "over 26 tests" in three.conclusions[0] and "over 13 tests" in two.conclusions[0]
    assert all(
        y["p_holm"] >= x["p_holm"] for x, y in zip(two.rows[:13], three.rows[:13], strict=True)
    )  # a larger family corrects more


def test_runs_of_one_name_are_told_apart(pair):
    found = compare(pair[0], replace(pair[1], name="weak"), replicates=64)
    assert [s.name for s in found.scored] == ["weak (1)", "weak (2)"]


def scored(name, y, p, random=False):
    ids = np.arange(len(y)).astype(str)
    return Scored(("a", "b"), y, p, ids, ids, np.full(2, 0.5), name, {}, random, pd.DataFrame(index=range(len(y))))


def test_the_conclusion_claims_what_the_interval_shows():
    rng = np.random.default_rng(0)
    y = (rng.random((400, 2)) < 0.4).astype(float)
    signal, noise = 0.5 + 0.2 * (y - 0.5), rng.random(y.shape)
    good, bad = scored("good", y, 0.5 * signal + 0.2 * noise), scored("bad", y, noise, random=True)
    for pair in ([bad, good], [good, bad]):
        (said,) = compare(*pair, replicates=128).conclusions
        assert "good ranked better than bad" in said and "Random weights (bad): not a result." in said
    other = scored("other", y, rng.random(y.shape))
    (said,) = compare(replace(bad, random=False), other, replicates=128).conclusions
    assert "no significant difference" in said and "none that they are equal" in said and "Random" not in said
