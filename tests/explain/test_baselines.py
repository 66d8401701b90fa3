"""The three baselines: what they know, and what they must not know."""

import numpy as np

from cxrfeat.explain import baselines


def test_the_mean_box_is_how_often_a_pixel_is_boxed():
    boxes = np.array([[0.0, 0.0, 0.5, 0.5], [0.25, 0.0, 0.75, 1.0]])
    expected = [[0.5, 1, 0.5, 0.5], [0.5, 1, 0.5, 0.5], [0, 0.5, 0.5, 0.5], [0, 0.5, 0.5, 0.5]]
    np.testing.assert_allclose(baselines.mean_box(boxes, (4, 4)), expected)


def test_the_scored_patient_s_own_boxes_are_left_out():
    chosen = baselines.others("Mass", "p1", ["Mass", "Mass", "Edema", "Mass"], ["p1", "p2", "p3", "p1"])
    assert chosen.tolist() == [False, True, False, False]
    assert np.isnan(baselines.mean_box(np.empty((0, 4)), (3, 3))).all()


def test_the_centre_prior_is_highest_in_the_middle_whatever_the_shape():
    prior = baselines.centre_prior((31, 61))
    assert np.unravel_index(prior.argmax(), prior.shape) == (15, 30)
    np.testing.assert_allclose(prior, prior[::-1, ::-1])


def test_random_maps_repeat_and_hit_a_box_as_often_as_its_share_of_cells():
    affine = np.array([[9.0, 0, 4], [0, 9, 4]])
    maps = np.concatenate([baselines.random_maps((7, 7), affine, (63, 63), seed) for seed in range(200)])
    np.testing.assert_array_equal(maps[:10], baselines.random_maps((7, 7), affine, (63, 63), 0))
    peaks = np.array([np.unravel_index(m.argmax(), m.shape) for m in maps])
    inside = ((peaks >= 9) & (peaks < 36)).all(axis=1).mean()  # 3 x 3 of the 49 cells
    assert abs(inside - 9 / 49) < 0.03
