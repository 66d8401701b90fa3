"""DeLong's variance, interval and test against the formula as written, published figures, and a case by hand."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from scipy.stats import t as student

from cxrfeat._evaluate import delong

ASAH = Path(__file__).parents[1] / "data" / "asah.csv"


def by_the_formula(y, scores):
    """DeLong, DeLong and Clarke-Pearson 1988, equations 3 to 8, with every pair looked at."""
    y, scores = np.asarray(y), np.asarray(scores, dtype=float)
    x, z = scores[y == 1], scores[y == 0]
    kernel = (x[:, None] > z[None]) + 0.5 * (x[:, None] == z[None])  # (m, n, k)
    theta = kernel.mean(axis=(0, 1))
    v10, v01 = kernel.mean(axis=1) - theta, kernel.mean(axis=0) - theta
    m, n = len(x), len(z)
    return theta, v10.T @ v10 / (m - 1) / m + v01.T @ v01 / (n - 1) / n


def clustered_by_the_formula(y, scores, patients):
    """Obuchowski 1997, equations 3 to 5, patient by patient."""
    theta, _ = by_the_formula(y, scores)
    x, z = scores[y == 1], scores[y == 0]
    kernel = (x[:, None] > z[None]) + 0.5 * (x[:, None] == z[None])
    v10, v01 = kernel.mean(axis=1), kernel.mean(axis=0)
    m, n, names = len(x), len(z), sorted(set(patients))
    k = scores.shape[1]
    a, b, c = np.zeros((k, k)), np.zeros((k, k)), np.zeros((k, k))
    for name in names:
        one = (v10[patients[y == 1] == name] - theta).sum(axis=0)
        two = (v01[patients[y == 0] == name] - theta).sum(axis=0)
        a, b, c = a + np.outer(one, one), b + np.outer(two, two), c + np.outer(one, two)
    with_x, with_z, size = len(set(patients[y == 1])), len(set(patients[y == 0])), len(names)
    s10, s01 = a * with_x / ((with_x - 1) * m), b * with_z / ((with_z - 1) * n)
    s11 = c * size / (size - 1)
    return s10 / m + s01 / n + (s11 + s11.T) / (m * n)


def case(seed, n=90, levels=None):
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < 0.3).astype(float)
    scores = rng.normal(size=(n, 3)) + y[:, None] * [0.3, 1.0, 2.0]
    return y, np.round(scores * levels) / levels if levels else scores, rng.integers(0, 25, n).astype(str)


@pytest.mark.parametrize("levels", [None, 2])
@pytest.mark.parametrize("seed", range(4))
def test_covariance_is_the_formulas(seed, levels):
    y, scores, _ = case(seed, levels=levels)
    aurocs, matrix = delong.covariance(y, scores)
    wanted_aurocs, wanted = by_the_formula(y, scores)
    np.testing.assert_allclose(aurocs, wanted_aurocs, atol=1e-13)
    np.testing.assert_allclose(matrix, wanted, atol=1e-14)


@pytest.mark.parametrize("levels", [None, 2])
def test_clustered_covariance_is_obuchowskis(levels):
    y, scores, patients = case(11, levels=levels)
    _, matrix = delong.covariance(y, scores, patients)
    np.testing.assert_allclose(matrix, clustered_by_the_formula(y, scores, patients), atol=1e-14)


def test_doubled_images_of_a_patient_do_not_narrow_the_clustered_interval():
    y, scores, _ = case(3)
    ids = np.arange(len(y)).astype(str)
    once = delong.over_patients(y, scores[:, 0], ids)
    twice = delong.over_patients(np.r_[y, y], np.r_[scores[:, 0], scores[:, 0]], np.r_[ids, ids])
    plain = delong.interval(np.r_[y, y], np.r_[scores[:, 0], scores[:, 0]])
    assert twice == pytest.approx(once, abs=1e-12)
    assert plain.high - plain.low < 0.75 * (once.high - once.low)


def test_published_figures_of_the_aneurysm_study():
    """The aSAH data of Turck et al. 2010, as worked in the documentation and tests of R's pROC 1.18.

    wfns is an ordinal score of five levels, so ties are everywhere.
    """
    data = pd.read_csv(ASAH)
    y = data["poor"].to_numpy()
    assert (len(y), y.sum()) == (113, 41)
    aurocs, matrix = delong.covariance(y, data[["s100b", "wfns", "ndka"]])
    np.testing.assert_allclose(aurocs, [0.731368563685637, 0.823678861788618, 0.611957994579946], rtol=1e-12)
    np.testing.assert_allclose(
        np.diag(matrix), [0.00266868245717244, 0.00146991470882363, 0.00319081054939130], rtol=1e-10
    )
    np.testing.assert_allclose(matrix[0, 1:], [0.00119615567376754, -0.000756164938056579], rtol=1e-10)
    assert delong.interval(y, data["wfns"]) == pytest.approx((0.823678861788618, 0.748534887819453, 0.898822835757783))
    for a, b, z, p in (
        ("s100b", "wfns", 2.20898359144091, 0.0271757822291882),
        ("ndka", "wfns", 2.79777591868904, 0.00514557970691098),
        ("ndka", "s100b", 1.39077002573558, 0.164295175223054),
    ):
        found = delong.paired(y, data[a], data[b])
        assert (found.z, found.p) == pytest.approx((z, p), rel=1e-9)


def test_four_images_by_hand():
    # Positives 3 and 1, negatives 2 and 0: 3 beats both, 1 beats one. AUROC 3/4, components (1, 1/2) and (1/2, 1):
    # each sample variance is 1/8, so the variance is 1/8/2 + 1/8/2 = 1/8.
    aurocs, matrix = delong.covariance([1, 0, 1, 0], [3, 2, 1, 0])
    assert (aurocs[0], matrix[0, 0]) == pytest.approx((0.75, 0.125))


def test_equal_rankings_do_not_differ():
    y, scores, _ = case(1)
    same = delong.paired(y, scores[:, 0], 3 * scores[:, 0] + 1)
    assert (same.value, same.z, same.p) == (0, 0, 1)


def test_a_difference_turns_with_its_sides():
    y, scores, patients = case(2)
    one = delong.paired(y, scores[:, 0], scores[:, 1], patients)
    two = delong.paired(y, scores[:, 1], scores[:, 0], patients)
    assert one.p == pytest.approx(two.p) and one.low == pytest.approx(-two.high) and one.value > 0


def test_one_class_and_single_members_are_undefined():
    assert np.isnan(delong.interval([0, 0, 0], [1, 2, 3])).all()
    value, low, high = delong.interval([1, 0, 0], [1, 2, 0])
    assert value == 0.5 and np.isnan(low) and np.isnan(high)
    assert np.isnan(delong.paired([0, 0, 0], [1, 2, 3], [3, 2, 1]).p)


def simulated(positive, seed, patients=60, each=3, alike=0.4, whole=True):
    """Truth, score and patient of a test set: `positive` patients have the finding, in all or some of their images."""
    rng = np.random.default_rng(seed)
    who, ill = np.repeat(np.arange(patients), each), np.arange(patients) < positive
    y = ill[who] & (whole | (rng.random(len(who)) < 0.5))
    y[np.flatnonzero(ill) * each] = True
    level = np.sqrt(alike) * rng.normal(size=patients)
    return y.astype(float), y + level[who] + np.sqrt(1 - alike) * rng.normal(size=len(who)), who


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("positive", [2, 4, 8, 16])
def test_the_interval_covers_the_truth_with_few_positive_patients(positive, whole):
    """Percentiles of the bootstrap cover 0.60, 0.85, 0.90 and 0.92 here; 400 simulations have an error of 0.011."""
    truth, inside = norm.cdf(1 / np.sqrt(2)), 0
    for seed in range(400):
        found = delong.over_patients(*simulated(positive, seed, whole=whole))
        inside += found.low <= truth <= found.high
    assert inside / 400 >= 0.93


def test_an_interval_of_few_patients_ends_where_the_estimate_is_refuted():
    """The ends are z standard errors away, as they themselves would have them (Hanley and McNeil 1982)."""
    y, score, who = simulated(5, 3)
    found = delong.over_patients(y, score, who)
    m, n = 5, 55
    for end in (found.low, found.high):
        q1, q2 = end / (2 - end), 2 * end**2 / (1 + end)
        spread = (m + n) / 2 - 1
        variance = (end * (1 - end) + spread * (q1 - end**2) + spread * (q2 - end**2)) / (m * n)
        assert abs(found.value - end) == pytest.approx(1.959964 * np.sqrt(variance), rel=1e-5)
    perfect = delong.over_patients([1, 1, 0, 0, 0], [5, 4, 3, 2, 1], list("abcde"))
    assert perfect.value == perfect.high == 1 and 0.2 < perfect.low < 0.7
    assert np.isnan(delong.over_patients([1, 1, 0, 0], [4, 3, 2, 1], list("aabc")).low), "one positive patient"


def test_the_paired_test_with_few_patients_goes_by_students_t():
    y, score, who = simulated(6, 1)
    other = score + np.random.default_rng(0).normal(size=len(score))
    found = delong.paired(y, score, other, who)
    assert found.p == pytest.approx(2 * student.sf(abs(found.z), 5))


def test_unknown_labels_are_left_out():
    y, scores, _ = case(4)
    hole = y.copy()
    hole[5:20] = np.nan
    keep = ~np.isnan(hole)
    assert delong.interval(hole, scores[:, 0]) == delong.interval(y[keep], scores[keep, 0])


def test_holm_by_hand():
    # Sorted 0.01, 0.03, 0.04 times 3, 2, 1 is 0.03, 0.06, 0.04, made monotone.
    np.testing.assert_allclose(delong.holm([0.04, np.nan, 0.01, 0.03]), [0.06, np.nan, 0.03, 0.06])
    np.testing.assert_allclose(delong.holm([0.9, 0.8]), [1.0, 1.0])
