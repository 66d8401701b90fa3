"""The three baselines: what they know, what they must not know, and that they share nothing."""

import numpy as np
import pytest

from cxrfeat._explain import scoring
from cxrfeat._explain.detection import NAMES, score, summit
from cxrfeat._explain.geometry import on_pixels


def test_the_mean_box_is_how_often_a_pixel_is_boxed():
    boxes = np.array([[0.0, 0.0, 0.5, 0.5], [0.25, 0.0, 0.75, 1.0]])
    expected = [[0.5, 1, 0.5, 0.5], [0.5, 1, 0.5, 0.5], [0, 0.5, 0.5, 0.5], [0, 0.5, 0.5, 0.5]]
    np.testing.assert_allclose(scoring.mean_box(boxes, (4, 4)), expected)


def test_no_two_images_share_a_random_map():
    """NIH's ids end alike, 00000001_000.png and so on: by their last bytes 880 images had 85 seeds."""
    ids = [f"{patient:08d}_{film:03d}.png" for patient in range(40) for film in range(3)]
    assert len({scoring.image_seed(image_id, 0) for image_id in ids}) == len(ids)
    affine = np.array([[9.0, 0, 4], [0, 9, 4]])
    first, second = (scoring.random_maps((7, 7), affine, (63, 63), scoring.image_seed(i, 0)) for i in (ids[0], ids[3]))
    assert first[0][1] != second[0][1] or not np.allclose(first[0][0], second[0][0])
    assert scoring.image_seed(ids[0], 0) != scoring.image_seed(ids[0], 1)


def test_the_centre_prior_is_highest_in_the_middle_whatever_the_shape():
    prior = scoring.centre_prior((31, 61))
    assert np.unravel_index(prior.argmax(), prior.shape) == (15, 30)
    np.testing.assert_allclose(prior, prior[::-1, ::-1])


def test_random_maps_repeat_and_hit_a_box_as_often_as_its_share_of_cells():
    affine = np.array([[9.0, 0, 4], [0, 9, 4]])
    drawn = [one for seed in range(200) for one in scoring.random_maps((7, 7), affine, (63, 63), [seed])]
    np.testing.assert_array_equal(drawn[0][0], scoring.random_maps((7, 7), affine, (63, 63), [0])[0][0])
    peaks = np.array([point for _, point in drawn])
    inside = ((peaks >= 9) & (peaks < 36)).all(axis=1).mean()  # 3 x 3 of the 49 cells
    assert abs(inside - 9 / 49) < 0.03


@pytest.mark.parametrize(
    ("tolerance", "cells"),
    [
        (0.0, 2 * 3),  # centres at 5, 15, 25, ...: columns 15 and 25, rows 15, 25 and 35 lie in the box
        (3.0, 2 * 4),  # rows from 4 to 39: 5 as well
        (5.0, 3 * 4),  # half a cell, every cell that the box touches: column 5 too
        (9.0, 4 * 5),  # columns from 1 to 37, rows from -2 to 45
    ],
)
def test_chance_in_the_pointing_game_is_the_share_of_cells_that_hit(tolerance, cells):
    """Counted on squared paper: 7 x 7 cells of 10 px; the box covers 10..28 across and 7..36 down.

    Were the maximum of a random map anything but one of 49 equal cells, it would be too easy or too hard to beat.
    """
    affine, box = np.array([[10.0, 0, 4.5], [0, 10, 4.5]]), (10.0, 7.0, 18.0, 29.0)
    pointing = NAMES.index("pointing")
    hits = 0
    for cell in np.ndindex(7, 7):
        one = np.zeros((7, 7))
        one[cell] = 1
        heat = on_pixels(one, affine, (70, 70))
        hits += score(heat, [box], 0.5, tolerance, summit(one, affine))[0, pointing]
    assert hits == cells
    drawn = [one for seed in range(60) for one in scoring.random_maps((7, 7), affine, (70, 70), [seed])]
    played = np.mean([score(heat, [box], 0.5, tolerance, point)[0, pointing] for heat, point in drawn])
    assert played == pytest.approx(cells / 49, abs=0.06)
