"""The colours of a map: none where there is no evidence, never so many that the X-ray cannot be read."""

import numpy as np
import pytest

from cxrfeat._explain.explanation import Explanation, Grid
from cxrfeat._report.heat import OPACITY, heat, overlaid, ramp


@pytest.fixture
def explanation():
    grid = Grid("densenet121", np.zeros((1, 4, 4), np.float32), np.array([[20.0, 0, 9.5], [0, 10, 4.5]]))
    return Explanation("x", ("Mass",), np.zeros(1), np.zeros(1), "cam", (grid,), (40, 80))


def test_no_evidence_is_the_x_ray_itself(explanation):
    grey = np.random.default_rng(0).integers(0, 256, (40, 80), dtype=np.uint8)
    shown = overlaid(grey, heat(explanation, np.zeros((4, 4)), (40, 80)))
    np.testing.assert_array_equal(shown, np.repeat(grey[..., None], 3, axis=2))


@pytest.mark.parametrize("shape", [(40, 80), (20, 40), (100, 200)])
def test_evidence_is_coloured_in_its_own_place(explanation, shape):
    planted = np.zeros((4, 4))
    planted[1, 2] = 1
    opacity = heat(explanation, planted, shape)[..., 3]
    y, x = np.unravel_index(opacity.argmax(), shape)
    # The cell's centre lies at (49.5, 14.5) of the 80 x 40 original.
    assert x == pytest.approx(50 / 80 * shape[1] - 0.5, abs=1) and y == pytest.approx(15 / 40 * shape[0] - 0.5, abs=1)
    assert opacity.max() == pytest.approx(1, abs=0.1) and opacity[:, 0].max() == 0


def test_the_x_ray_is_seen_through_the_strongest_evidence(explanation):
    strongest = heat(explanation, np.ones((4, 4)), (2, 2))
    dark, bright = (overlaid(np.full((2, 2), v, np.uint8), strongest).astype(float) for v in (0, 255))
    np.testing.assert_allclose(bright - dark, 255 * (1 - OPACITY), atol=1.5)


def test_the_colour_bar_has_the_colours_of_maps(explanation):
    bar = ramp(101)
    np.testing.assert_array_equal(bar[0], [89, 89, 89])  # a mid-bright lung without evidence
    full = overlaid(np.full((2, 2), 89, np.uint8), heat(explanation, np.ones((4, 4)), (2, 2)))
    np.testing.assert_array_equal(bar[-1], full[0, 0])
    assert (np.diff(bar.astype(int).sum(axis=1)) >= -2).all()  # brighter and brighter
