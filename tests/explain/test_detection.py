"""One map against one box: geometry that can be counted on squared paper."""

import numpy as np
import pytest

from cxrfeat._explain.detection import LEVELS, NAMES, overlaps, parts, score, summit
from cxrfeat._explain.geometry import on_pixels


def named(row):
    return dict(zip(NAMES, row, strict=True))


def heat(*rectangles, shape=(20, 20)):
    """A map that is `value` on x, y, width, height and nothing elsewhere."""
    out = np.zeros(shape)
    for x, y, w, h, value in rectangles:
        out[y : y + h, x : x + w] = value
    return out


def test_a_perfect_map():
    found = named(score(heat((3, 5, 6, 4, 2.0)), [(3, 5, 6, 4)], 0.5)[0])
    assert all(found[name] == 1 for name in NAMES if name != "false boxes") and found["false boxes"] == 0


def test_half_of_a_box_found():
    """The part covers the left half and nothing else: all of it is box (IoBB 1), half of the union (IoU 0.5)."""
    found = named(score(heat((2, 2, 4, 8, 1.0)), [(2, 2, 8, 8)], 0.5)[0])
    assert [found[f"iobb@{t}"] for t in LEVELS] == [1] * len(LEVELS)
    assert [found[f"iou@{t}"] for t in LEVELS] == [float(t <= 0.5) for t in LEVELS]


def test_energy_and_the_maximum_may_disagree():
    found = named(score(heat((0, 0, 2, 2, 3.0), (10, 10, 6, 6, 1.0)), [(10, 10, 6, 6)], 0.2)[0])
    assert found["pointing"] == 0
    assert found["energy"] == pytest.approx(36 / 48)
    assert found["iou@0.75"] == 1 and found["false boxes"] == 1


def test_the_cut_decides_what_is_a_part():
    weak = heat((0, 0, 2, 2, 3.0), (10, 10, 6, 6, 1.0))
    assert named(score(weak, [(10, 10, 6, 6)], 0.5)[0])["iou@0.1"] == 0


def test_an_empty_map_finds_nothing_and_has_no_energy():
    found = named(score(np.full((5, 5), -1.0), [(0, 0, 5, 5)], 0.5)[0])
    assert not any(found.values())


def test_tolerance_widens_the_target_and_nothing_else():
    near = heat((8, 8, 1, 1, 1.0))
    assert [named(score(near, [(10, 8, 4, 4)], 0.5, t)[0])["pointing"] for t in (0, 1, 2)] == [0, 0, 1]


def test_a_map_points_to_the_middle_of_its_highest_cell_even_at_the_edge():
    """Beyond the outermost centres a drawn map is constant: its first highest pixel is the image's corner."""
    cells, affine = np.array([[2.0, 0], [0, 1]]), np.array([[10.0, 0, 4.5], [0, 10, 4.5]])
    assert summit(cells, affine) == (5, 5)
    drawn = on_pixels(cells, affine, (20, 20))
    box = (4.0, 4.0, 3.0, 3.0)
    assert named(score(drawn, [box], 0.5, point=summit(cells, affine))[0])["pointing"] == 1
    assert np.unravel_index(drawn.argmax(), drawn.shape) == (0, 0)


def test_without_a_grid_a_map_points_to_the_middle_of_its_plateau():
    plateau = heat((4, 6, 9, 5, 1.0))
    assert named(score(plateau, [(8, 8, 1, 1)], 0.5)[0])["pointing"] == 1


def test_several_boxes_are_scored_one_by_one():
    found = score(heat((1, 1, 4, 4, 2.0), (12, 12, 4, 4, 1.5)), [(1, 1, 4, 4), (12, 12, 4, 4)], 0.5)
    assert found[:, NAMES.index("pointing")].tolist() == [1, 0]
    assert found[:, NAMES.index("iou@0.75")].tolist() == [1, 1]
    assert found[:, NAMES.index("false boxes")].tolist() == [0, 0]


def test_parts_join_at_corners_and_overlaps_match_counted_pixels():
    grid = heat((1, 1, 3, 2, 1.0), (4, 3, 2, 2, 1.0), (10, 10, 5, 5, 1.0))
    boxes = parts(grid, 1.0)
    assert sorted(map(tuple, boxes)) == [(1, 1, 5, 4), (10, 10, 5, 5)]
    truth = np.array([[3.0, 2, 9, 10]])
    iobb, iou = overlaps(boxes, truth)
    for k, box in enumerate(boxes.astype(int)):
        a, b = (heat((*r, 1.0)).astype(bool) for r in (box, truth[0].astype(int)))
        assert iobb[k, 0] == pytest.approx((a & b).sum() / a.sum())
        assert iou[k, 0] == pytest.approx((a & b).sum() / (a | b).sum())
