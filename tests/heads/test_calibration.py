"""Calibration against scikit-learn and against probabilities known by construction."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from cxrfeat._heads import fit_head
from cxrfeat._heads.decision import Calibration, calibrate
from cxrfeat._heads.solver.rows import sigmoid
from cxrfeat.errors import HeadError


@pytest.fixture(scope="module")
def data():
    """Logits that are twice too steep and shifted, of 4,000 rows and two labels."""
    rng = np.random.default_rng(0)
    true = rng.standard_normal((4000, 2)) - 1
    return (rng.random(true.shape) < sigmoid(true)).astype(float), 2 * true + 1.5, sigmoid(true)


def test_platt_finds_the_shift_and_slope(data):
    y, logits, truth = data
    p = calibrate(y, logits, "platt", "val").apply(logits)
    assert np.abs(p - truth).mean() < 0.01


def test_platt_is_an_unpenalised_logistic_regression_but_for_its_smoothed_targets(data):
    y, logits, _ = data
    step = calibrate(y, logits, "platt", "val").steps[0]
    model = LogisticRegression(C=np.inf, tol=1e-10).fit(logits[:, :1], y[:, 0])
    assert step.slope == pytest.approx(model.coef_[0, 0], rel=5e-3)
    assert step.shift == pytest.approx(model.intercept_[0], rel=5e-3)


def test_isotonic_is_scikit_learns(data):
    y, logits, _ = data
    p = calibrate(y, logits, "isotonic", "val").apply(logits)[:, 0]
    expected = IsotonicRegression(y_min=1e-7, y_max=1 - 1e-7).fit(logits[:, 0], y[:, 0]).predict(logits[:, 0])
    assert p == pytest.approx(expected, abs=1e-6)


def test_temperature_changes_no_decision_at_one_half(data):
    y, logits, _ = data
    calibration = calibrate(y, logits, "temperature", "val")
    assert ((calibration.apply(logits) > 0.5) == (logits > 0)).all()
    assert calibration.steps[0].shift == 0


def test_a_label_with_few_rows_is_shifted_back_by_its_weights():
    y, logits = np.zeros((50, 1)), np.linspace(-1, 1, 50)[:, None]
    y[:9] = 1
    calibration = calibrate(y, logits, "platt", "val", np.log([0.9 / 0.1]))
    assert calibration.steps[0].method == "weights"
    assert calibration.apply(logits) == pytest.approx(sigmoid(logits - np.log(9)))


def test_a_ranking_is_never_turned_round(data):
    y, logits, _ = data
    calibration = calibrate(1 - y, logits, "platt", "val")
    assert all(step.slope > 0 for step in calibration.steps)


@pytest.mark.parametrize("method", ["platt", "isotonic", "temperature", "none"])
def test_what_is_written_is_read(data, method):
    y, logits, _ = data
    calibration = calibrate(y, logits, method, "val")
    again = Calibration.from_dict(json.loads(json.dumps(calibration.to_dict())), 2)
    assert (again.apply(logits) == calibration.apply(logits)).all()


def test_nan_stays_nan_and_unknown_rows_do_not_count(data):
    y, logits, _ = data
    y, logits = y.copy(), logits.copy()
    y[::2] = np.nan
    logits[:, 1] = np.nan
    calibration = calibrate(y, logits, "isotonic", "val")
    half = calibrate(y[1::2], logits[1::2], "isotonic", "val")
    assert calibration.steps[0] == half.steps[0]
    assert np.isnan(calibration.apply(logits)[:, 1]).all()


def test_an_unknown_method_is_told():
    with pytest.raises(HeadError, match="isotonic"):
        fit_head("sample", calibration="beta")
