"""Metrics against scikit-learn, with ties and unknown labels, and against cases worked by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from cxrfeat._evaluate import metrics


def case(seed, n=200, levels=None, prevalence=0.3):
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < prevalence).astype(float)
    y[:2] = 0, 1
    p = np.clip(rng.random(n) * 0.7 + 0.3 * y * rng.random(n), 0, 1)
    return y, np.round(p * levels) / levels if levels else p


@pytest.mark.parametrize("levels", [None, 7, 1])
@pytest.mark.parametrize("seed", range(3))
def test_auroc_and_average_precision_are_scikit_learns_with_and_without_ties(seed, levels):
    y, p = case(seed, levels=levels)
    assert metrics.auroc(y, p) == pytest.approx(oracle.roc_auc_score(y, p), abs=1e-12)
    assert metrics.average_precision(y, p) == pytest.approx(oracle.average_precision_score(y, p), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=2, max_size=40))
def test_mann_whitney_and_trapezoid_are_one_number(pairs):
    y, p = np.array(pairs, dtype=float).T
    a, b = metrics.auroc(y, p), metrics.auroc_trapezoid(y, p)
    assert np.isnan(a) == np.isnan(b) == (len(set(y)) < 2)
    if not np.isnan(a):
        assert abs(a - b) < 1e-12


def test_curves_are_scikit_learns():
    y, p = case(5, levels=20)
    fpr, tpr, thresholds = metrics.roc_curve(y, p)
    wanted = oracle.roc_curve(y, p, drop_intermediate=False)
    for ours, theirs in zip((fpr, tpr, thresholds), wanted, strict=True):
        np.testing.assert_allclose(ours, theirs)
    precision, recall, thresholds = metrics.precision_recall_curve(y, p)
    theirs = oracle.precision_recall_curve(y, p)
    # scikit-learn runs from the lowest threshold and adds the point (1, 0).
    np.testing.assert_allclose(precision, theirs[0][:-1][::-1])
    np.testing.assert_allclose(recall, theirs[1][:-1][::-1])
    np.testing.assert_allclose(thresholds, theirs[2][::-1])


def test_rates_are_scikit_learns():
    y, p = case(6)
    called = p >= 0.5
    found = metrics.rates(*metrics.confusion(y, p, 0.5))
    assert found["sensitivity"] == pytest.approx(oracle.recall_score(y, called))
    assert found["specificity"] == pytest.approx(oracle.recall_score(y, called, pos_label=0))
    assert found["ppv"] == pytest.approx(oracle.precision_score(y, called))
    assert found["npv"] == pytest.approx(oracle.precision_score(y, called, pos_label=0))
    assert found["f1"] == pytest.approx(oracle.f1_score(y, called))
    assert found["accuracy"] == pytest.approx(oracle.accuracy_score(y, called))
    assert metrics.brier(y, p) == pytest.approx(oracle.brier_score_loss(y, p))


def test_a_probability_equal_to_the_threshold_is_a_call():
    assert metrics.confusion([1, 0], [0.5, 0.5], 0.5) == (1, 1, 0, 0)


def test_unknown_labels_are_left_out_everywhere():
    y, p = case(7)
    hole = y.copy()
    hole[10:60] = np.nan
    keep = ~np.isnan(hole)
    for metric in (metrics.auroc, metrics.average_precision, metrics.brier, metrics.expected_calibration_error):
        assert metric(hole, p) == metric(y[keep], p[keep])
    assert metrics.label_accuracy(hole[:, None], p[:, None]) == pytest.approx(np.mean((p[keep] >= 0.5) == y[keep]))


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_one_class_has_no_auroc(value):
    y = np.full(5, value)
    assert np.isnan(metrics.auroc(y, np.linspace(0, 1, 5)))
    assert np.isnan(metrics.auroc_trapezoid(y, np.linspace(0, 1, 5)))
    assert np.isnan(metrics.average_precision(y, np.linspace(0, 1, 5))) == (value == 0)


def test_calibration_error_by_hand():
    # Bin [0.2, 0.267): two images at 0.25, none positive; bin [0.8, 0.867): two at 0.8, one positive.
    y, p = [0, 0, 1, 0], [0.25, 0.25, 0.81, 0.81]
    assert metrics.expected_calibration_error(y, p) == pytest.approx(0.5 * 0.25 + 0.5 * 0.31)
    predicted, observed, count = metrics.calibration_bins(y, p)
    assert count.sum() == 4 and count[3] == 2 and predicted[12] == pytest.approx(0.81) and observed[12] == 0.5


def test_a_certain_probability_falls_in_the_last_bin():
    assert metrics.calibration_bins([1], [1.0])[2][-1] == 1


def test_label_accuracy_by_hand_beside_the_all_negative_baseline():
    y = np.array([[1, 0], [0, 0], [1, np.nan]])
    p = np.array([[0.9, 0.6], [0.2, 0.1], [0.4, 0.9]])
    assert metrics.label_accuracy(y, p) == pytest.approx(3 / 5)
    assert metrics.label_accuracy(y, p, [0.3, 0.7]) == pytest.approx(5 / 5)
    assert metrics.label_accuracy(y, p, [0.3, np.nan]) == pytest.approx(3 / 3)
    assert metrics.all_negative_accuracy(y) == pytest.approx(3 / 5)
