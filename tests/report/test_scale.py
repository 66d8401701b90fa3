"""Scaling for the eye: never hotter than it is."""

import numpy as np
import pytest

from cxrfeat._report.heat import scale
from cxrfeat.errors import ExplainError

MAPS = np.array([[[4.0, -1.0]], [[1.0, 0.5]], [[-3.0, -2.0]]])


def test_one_scale_per_image_keeps_weak_maps_weak():
    found = scale(MAPS)
    np.testing.assert_allclose(found.maps, [[[1, 0]], [[0.25, 0.125]], [[0, 0]]])
    np.testing.assert_allclose(found.raw_max, [4, 1, -2])
    np.testing.assert_allclose(found.top, [4, 4, 4])


def test_a_scale_per_label_is_a_choice():
    np.testing.assert_allclose(scale(MAPS, "label").maps[:2], [[[1, 0]], [[1, 0.5]]])


@pytest.mark.parametrize("per", ["image", "label"])
def test_a_map_without_evidence_stays_empty_and_is_counted(per):
    found = scale(MAPS, per)
    assert found.empty.tolist() == [False, False, True]
    assert not found.maps[2].any()


def test_nothing_anywhere_is_nothing():
    found = scale(np.full((2, 3, 3), -1.0))
    assert not found.maps.any() and found.empty.all() and not found.top.any()


def test_an_unlearnt_label_counts_as_empty():
    assert scale(np.stack([np.ones((2, 2)), np.full((2, 2), np.nan)])).empty.tolist() == [False, True]


def test_an_unknown_scale_is_told():
    with pytest.raises(ExplainError, match="choose image or label"):
        scale(MAPS, "study")
