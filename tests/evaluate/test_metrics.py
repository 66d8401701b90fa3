"""Metrics against scikit-learn, with ties and unknown labels, and against cases worked by hand."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from cxrfeat._evaluate import arrays, metrics
from cxrfeat._evaluate.bootstrap import point


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
    assert metrics.AUROC(y, p) == pytest.approx(oracle.roc_auc_score(y, p), abs=1e-12)
    assert metrics.AVERAGE_PRECISION(y, p) == pytest.approx(oracle.average_precision_score(y, p), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=2, max_size=40))
def test_mann_whitney_and_trapezoid_are_one_number(pairs):
    y, p = np.array(pairs, dtype=float).T
    fpr, tpr, _ = arrays.roc_curve(y, p)
    a, b = metrics.AUROC(y, p), float(np.trapezoid(tpr, fpr)) if fpr.size else float("nan")
    assert np.isnan(a) == np.isnan(b) == (len(set(y)) < 2)
    if not np.isnan(a):
        assert abs(a - b) < 1e-12


def test_curves_are_scikit_learns():
    y, p = case(5, levels=20)
    fpr, tpr, thresholds = arrays.roc_curve(y, p)
    wanted = oracle.roc_curve(y, p, drop_intermediate=False)
    for ours, theirs in zip((fpr, tpr, thresholds), wanted, strict=True):
        np.testing.assert_allclose(ours, theirs)
    precision, recall, thresholds = arrays.precision_recall_curve(y, p)
    theirs = oracle.precision_recall_curve(y, p)
    # scikit-learn runs from the lowest threshold and adds the point (1, 0).
    np.testing.assert_allclose(precision, theirs[0][:-1][::-1])
    np.testing.assert_allclose(recall, theirs[1][:-1][::-1])
    np.testing.assert_allclose(thresholds, theirs[2][::-1])


def test_rates_are_scikit_learns():
    y, p = case(6)
    called = p >= 0.5
    for metric, wanted in (
        (metrics.SENSITIVITY, oracle.recall_score(y, called)),
        (metrics.SPECIFICITY, oracle.recall_score(y, called, pos_label=0)),
        (metrics.PPV, oracle.precision_score(y, called)),
        (metrics.NPV, oracle.precision_score(y, called, pos_label=0)),
        (metrics.F1, oracle.f1_score(y, called)),
        (metrics.ACCURACY, oracle.accuracy_score(y, called)),
        (metrics.BRIER, oracle.brier_score_loss(y, p)),
    ):
        assert metric(y, p, 0.5) == pytest.approx(wanted), metric.name


def test_a_probability_equal_to_the_threshold_is_a_call():
    assert metrics.PPV([1, 0], [0.5, 0.5], 0.5) == 0.5 and metrics.SENSITIVITY([1, 0], [0.5, 0.5], 0.5) == 1


def test_unknown_labels_are_left_out_everywhere():
    y, p = case(7)
    hole = y.copy()
    hole[10:60] = np.nan
    keep = ~np.isnan(hole)
    for metric in metrics.METRICS:
        assert metric(hole, p) == pytest.approx(metric(y[keep], p[keep])), metric.name


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_one_class_has_no_auroc(value):
    y = np.full(5, value)
    assert np.isnan(metrics.AUROC(y, np.linspace(0, 1, 5)))
    assert not arrays.roc_curve(y, np.linspace(0, 1, 5))[0].size
    assert np.isnan(metrics.AVERAGE_PRECISION(y, np.linspace(0, 1, 5))) == (value == 0)


def test_calibration_error_by_hand():
    # Bin [0.2, 0.267): two images at 0.25, none positive; bin [0.8, 0.867): two at 0.81, one positive.
    assert metrics.ECE([0, 0, 1, 0], [0.25, 0.25, 0.81, 0.81]) == pytest.approx(0.5 * 0.25 + 0.5 * 0.31)
    assert metrics.ECE([1], [1.0]) == 0, "1.0 is in the last bin"


def test_calibration_bins_hold_equally_many_images_and_never_divide_equal_probabilities():
    y, p = case(8, n=200)
    predicted, observed, count, patients = arrays.calibration_bins(y, p, np.arange(200), 10)
    assert count.tolist() == [20] * 10 and (np.diff(predicted) > 0).all()
    assert np.average(observed, weights=count) == pytest.approx(y.mean())
    assert patients.tolist() == count.tolist()
    assert arrays.calibration_bins(y, p, np.arange(200) % 1, 10)[3].tolist() == [1] * 10, "all of one patient"
    low, high = arrays.wilson(observed, patients)
    assert ((low <= observed) & (observed <= high)).all()
    assert arrays.calibration_bins([0, 1, 0, 1, 1], [0.2, 0.2, 0.2, 0.2, 0.9], range(5), 5)[2].tolist() == [4, 1]
    assert arrays.calibration_bins([np.nan], [0.5], [0], 5)[2].size == 0


def test_accuracy_over_all_labels_by_hand_beside_the_always_negative_baseline():
    y = np.array([[1, 0], [0, 0], [1, np.nan]])
    p = np.array([[0.9, 0.6], [0.2, 0.1], [0.4, 0.9]])
    assert point(y, p, [0.5, 0.5])["accuracy_at_half"][-1] == pytest.approx(3 / 5)
    assert point(y, p, [0.3, 0.7])["accuracy"][-1] == pytest.approx(5 / 5)
    assert point(y, p, [0.3, np.nan])["accuracy"][-1] == pytest.approx(3 / 3)
    assert point(y, p, [0.5, 0.5])["all_negative_accuracy"][-1] == pytest.approx(3 / 5)


@pytest.mark.parametrize(("n", "positives"), [(57, 2), (12, 1), (9, 8), (5, 5), (1, 1)])
def test_the_average_precision_of_a_random_order_is_the_mean_over_orders(n, positives):
    """Every order there is, by scikit-learn. 57 images with 2 positives: 0.098 and not their prevalence of 0.035."""
    orders = [np.isin(np.arange(n), places) for places in itertools.combinations(range(n), positives)]
    mean = np.mean([oracle.average_precision_score(y, -np.arange(n)) for y in orders])
    assert metrics.AVERAGE_PRECISION.chance(n, positives) == pytest.approx(mean, abs=1e-12)
    assert np.isnan(metrics.AVERAGE_PRECISION.chance(n, 0))


def test_the_documentation_has_every_metric():
    table = ["| key | column | what | undefined (NaN, a dash, `null`) |", "|---|---|---|---|"]
    table += [f"| `{m.name}` | {m.heading} | {m.about} | {m.undefined} |" for m in metrics.OURS]
    assert "\n".join(table) in (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")
