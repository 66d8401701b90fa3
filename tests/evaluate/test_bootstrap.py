"""The fast bootstrap against a slow one that repeats rows and asks scikit-learn, and its coverage by simulation."""

import numpy as np
import pytest
from scipy.stats import norm
from scipy.stats import t as student
from sklearn import metrics as oracle

from cxrfeat._evaluate import bootstrap as module
from cxrfeat._evaluate import metrics, ranked
from cxrfeat._evaluate.bootstrap import BLOCK, bootstrap, draw, percentiles, point, widened
from cxrfeat._evaluate.metrics import METRICS
from cxrfeat._evaluate.ranked import Column, Ranked


def case(seed=0, n=160, patients=50, levels=None):
    rng = np.random.default_rng(seed)
    y = (rng.random((n, 3)) < [0.5, 0.25, 0.1]).astype(float)
    p = 1 / (1 + np.exp(-(rng.normal(size=(n, 3)) + 1.2 * y - 0.6)))
    if levels:
        p = np.round(p * levels) / levels
    return y, p, rng.integers(0, patients, n).astype(str), np.array([0.5, 0.4, 0.3])


def slow(y, p, patients, thresholds, counts):
    """Repeat every image of a patient as often as the patient was drawn, and ask scikit-learn."""
    names = np.unique(patients)
    rows = np.repeat(np.arange(len(y)), counts[np.searchsorted(names, patients)].astype(int))
    y, p = y[rows], p[rows]
    found = {"auroc": [], "average_precision": [], "sensitivity": [], "ppv": [], "f1": [], "brier": [], "accuracy": []}
    for j in [*range(y.shape[1]), None]:
        truth, score = (y[:, j], p[:, j]) if j is not None else (y.ravel(), p.ravel())
        called = (p >= thresholds)[:, j] if j is not None else (p >= thresholds).ravel()
        found["auroc"].append(oracle.roc_auc_score(truth, score))
        found["average_precision"].append(oracle.average_precision_score(truth, score))
        found["sensitivity"].append(oracle.recall_score(truth, called))
        found["ppv"].append(oracle.precision_score(truth, called))
        found["f1"].append(oracle.f1_score(truth, called))
        found["brier"].append(oracle.brier_score_loss(truth, score))
        found["accuracy"].append(oracle.accuracy_score(truth, called))
    return {k: np.array([*v[:-1], np.mean(v[:-1]), v[-1]]) for k, v in found.items()}


@pytest.mark.parametrize("levels", [None, 8])
def test_replicates_are_those_of_repeated_rows(levels):
    y, p, patients, thresholds = case(levels=levels)
    fast = bootstrap(y, p, patients, thresholds, replicates=5, seed=3)
    counts = draw(len(np.unique(patients)), 3, 0)
    for b in range(5):
        for name, wanted in slow(y, p, patients, thresholds, counts[:, b]).items():
            np.testing.assert_allclose(fast.draws[name][b], wanted, atol=2e-6, err_msg=f"{name}, replicate {b}")


def test_point_values_are_the_plain_functions_values():
    y, p, _, thresholds = case(1, levels=30)
    y[3:40, 1] = np.nan
    found = point(y, p, thresholds)
    assert tuple(found) == METRICS.names
    for j in range(3):
        for metric in METRICS:
            wanted = metric(y[:, j], p[:, j], thresholds[j])
            assert found[metric.name][j] == pytest.approx(wanted, abs=1e-12), metric.name
    assert found["auroc"][-2] == pytest.approx(np.mean(found["auroc"][:3]))


def test_long_labels_are_summed_exactly_across_chunks():
    rng = np.random.default_rng(2)
    n = 6000  # several chunks of rows
    y, cluster = (rng.random(n) < 0.6).astype(float), rng.integers(0, 900, n)
    p = np.round(rng.random(n) + 0.1 * y, 3)
    counts = draw(900, 1, 0)
    sums = Ranked(lambda: [Column(y == 1, p, cluster.astype(np.int32))], 900).weigh(counts)
    auroc, precise = metrics.AUROC.value(*sums), metrics.AVERAGE_PRECISION.value(*sums)
    for b in (0, 17, BLOCK - 1):
        weight = counts[cluster, b]
        assert auroc[b] == pytest.approx(oracle.roc_auc_score(y, p, sample_weight=weight), abs=1e-9)
        assert precise[b] == pytest.approx(oracle.average_precision_score(y, p, sample_weight=weight), abs=1e-6)


def test_memory_is_bounded_by_parts_and_the_numbers_are_the_same(monkeypatch):
    """Parts of rows, images, patients and replicates as of millions of images, forced upon a few."""
    y, p, patients, thresholds = case(6, n=700, levels=90)
    y[::9, 1], p[:, 2] = np.nan, np.where(y[:, 2] == 1, 0.25, 0.5)  # the third label: all scores are tied
    whole = bootstrap(y, p, patients, thresholds, 70, seed=5), point(y, p, thresholds)
    for name, size in {"ROWS": 3, "EXACT": 7}.items():
        monkeypatch.setattr(ranked, name, size)
    for name, size in {"IMAGES": 11, "PATIENTS": 4, "LEAST": 5, "COUNTS": 5 * 4 * 50}.items():
        monkeypatch.setattr(module, name, size)
    codes = np.where(np.isnan(y), -1, y).astype(np.int8)
    parts = bootstrap(codes, p, patients, thresholds, 70, seed=5, threads=2), point(codes, p, thresholds)
    for metric in METRICS.names:
        # Above `EXACT` images running sums have twice as many digits.
        np.testing.assert_allclose(parts[0].draws[metric], whole[0].draws[metric], atol=3e-7, err_msg=metric)
        np.testing.assert_allclose(parts[1][metric], whole[1][metric], atol=1e-12, err_msg=metric)
    np.testing.assert_array_equal(parts[0].draws["auroc"], whole[0].draws["auroc"])


def test_more_images_than_float32_counts_are_counted(monkeypatch):
    """One row of 30 million, by weights: added one by one in float32 it would end at 2**24."""
    cluster = np.zeros(64, np.int32)
    cluster[1] = 1
    monkeypatch.setattr(ranked, "EXACT", 8)
    column = Column(np.arange(64) < 2, np.full(64, 0.5, np.float32), cluster)
    counts = np.array([[500_001.0], [3.0]], np.float32)
    right, _, positives, negatives = Ranked(lambda: [column], 2).weigh(counts)
    assert (positives, negatives) == (500_004, 62 * 500_001) and right == 500_004 * 62 * 500_001 / 2


def test_scores_of_half_the_bits_are_compared_as_they_are():
    y, p, patients, thresholds = case(7)
    few = p.astype(np.float32)
    a, b = bootstrap(y, few, patients, thresholds, 20), bootstrap(y, few.astype(float), patients, thresholds, 20)
    for metric in METRICS.names:
        np.testing.assert_array_equal(a.draws[metric], b.draws[metric])


def test_a_seed_means_the_same_draws_whatever_the_scores_threads_and_number():
    y, p, patients, thresholds = case(4)
    a = bootstrap(y, p, patients, thresholds, 100, seed=9, threads=1)
    b = bootstrap(y, p, patients, thresholds, 150, seed=9, threads=4)
    for name in METRICS.names:
        np.testing.assert_array_equal(a.draws[name], b.draws[name][:100])
    # Two heads on the same images are paired: the truth's share in each draw is the same.
    other = bootstrap(y, 1 - p, patients, thresholds, 100, seed=9)
    np.testing.assert_array_equal(a.draws["all_negative_accuracy"], other.draws["all_negative_accuracy"])
    np.testing.assert_allclose(a.draws["auroc"][:, :3], 1 - other.draws["auroc"][:, :3], atol=1e-12)
    assert not np.array_equal(a.draws["auroc"], bootstrap(y, p, patients, thresholds, 100, seed=10).draws["auroc"])


def test_every_draw_has_as_many_patients_as_there_are():
    counts = draw(37, 0, 2)
    assert counts.shape == (37, BLOCK) and (counts.sum(axis=0) == 37).all()
    assert abs(draw(500, 0, 0).var() - 1) < 0.05  # multinomial: variance (1 - 1/500)


def test_draws_without_a_class_are_left_out_and_counted():
    y = np.zeros((30, 2))
    y[0, 0] = y[1:15, 1] = 1
    p = np.random.default_rng(0).random((30, 2))
    found = bootstrap(y, p, np.arange(30), [0.5, np.nan], 400, seed=0)
    missing = found.undefined(metrics.AUROC)
    assert 0.25 < missing[0] / 400 < 0.5  # (1 - 1/30)^30 = 0.36 of the draws lack the one positive
    assert missing[1] == missing[2] == 0 and not np.isnan(found.interval(metrics.AUROC)).any()
    assert np.isnan(found.interval(metrics.SENSITIVITY)[1]).all()


def test_a_label_without_predictions_leaves_the_others_alone():
    y, p, _patients, thresholds = case(5)
    hole = p.copy()
    hole[:, 2] = np.nan
    a, b = point(y, p, thresholds), point(y, hole, thresholds)
    np.testing.assert_array_equal(a["auroc"][:2], b["auroc"][:2])
    assert np.isnan(b["auroc"][2]) and b["auroc"][-2] == pytest.approx(a["auroc"][:2].mean())


def test_an_interval_of_few_patients_holds_more_of_the_draws():
    """By the t distribution with 9 degrees of freedom and a variance 9/10 of what it estimates; macro adds them up."""
    shares = widened(np.array([10, 10, 1]))
    z = np.sqrt(10 / 9) * student.ppf(0.975, 9)
    assert shares[:2] == pytest.approx([2 * norm.cdf(z) - 1] * 2) and np.isnan(shares[2])
    assert 0.95 < widened(np.array([10] * 14))[-1] < shares[0]
    assert widened(np.array([10**6]))[0] == pytest.approx(0.95, abs=1e-5)
    values = np.random.default_rng(0).normal(size=(400, 3))
    ends = percentiles(values, np.array([0.5, 0.9, np.nan]))
    np.testing.assert_allclose(ends[1], np.quantile(values[:, 1], [0.05, 0.95]))
    assert np.isnan(ends[2]).all()


def test_percentiles_of_nothing_are_nan():
    assert np.isnan(percentiles(np.full((5, 2), np.nan))).all()


def coverage(simulations, replicates, seed, patients=80, per_patient=3):
    """Share of simulations whose interval holds the true AUROC, where images of a patient are alike.

    A patient has the finding or not, and the score is a patient's level plus noise: the true AUROC is
    Phi(shift / sqrt(2)) with unit total variance. The truth is the same for all of a patient's images.
    """
    rng, inside = np.random.default_rng(seed), 0
    truth = norm.cdf(1.0 / np.sqrt(2))
    who = np.repeat(np.arange(patients), per_patient)
    for k in range(simulations):
        ill = rng.random(patients) < 0.4
        level = np.sqrt(0.7) * rng.normal(size=patients)
        score = ill[who] + level[who] + np.sqrt(0.3) * rng.normal(size=len(who))
        y, p = ill[who][:, None].astype(float), norm.cdf(score)[:, None]
        found = bootstrap(y, p, who, [0.5], replicates, seed=k, threads=1, metrics=[metrics.AUROC])
        low, high = found.interval(metrics.AUROC)[0]
        inside += low <= truth <= high
    return inside / simulations


def test_the_interval_covers_the_truth_where_images_of_a_patient_are_alike():
    # 95 % nominal; 300 simulations have a standard error of 1.3 points. Resampling images would cover about 76 %.
    assert 0.91 <= coverage(300, 256, seed=1) <= 0.985
