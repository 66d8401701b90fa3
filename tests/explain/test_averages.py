"""Intervals over patients: boxes of one patient are not independent of each other."""

import numpy as np
import pytest

from cxrfeat._explain import averages


def test_intervals_resample_patients_and_not_boxes():
    """Ten boxes of two patients, one always found and one never: nearly nothing is known."""
    values = np.repeat([[1.0], [0.0]], 5, axis=0)
    mean, low, high = averages.intervals(values, np.repeat(["a", "b"], 5))
    assert (mean[0], low[0], high[0]) == (0.5, 0.0, 1.0)
    # Independent oracle: the binomial standard error, when every patient has one box.
    many = np.random.default_rng(0).integers(0, 2, (400, 1)).astype(float)
    mean, low, high = averages.intervals(many, np.arange(400))
    assert (high[0] - low[0]) / 2 == pytest.approx(1.96 * many.std() / 20, rel=0.1)


def test_one_patient_has_no_interval_and_unknown_energy_is_left_out():
    values = np.array([[1.0, np.nan], [0.0, 0.4]])
    mean, low, high = averages.intervals(values, np.array(["a", "a"]))
    np.testing.assert_allclose(mean, [0.5, 0.4])
    assert np.isnan(low).all() and np.isnan(high).all()
