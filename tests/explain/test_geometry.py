"""Where a map lies on the original: planted squares at several sizes and shapes, and the strides of real networks."""

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from cxrfeat._explain import geometry
from cxrfeat._explain.cam import ClosedForm
from cxrfeat._explain.explanation import Explanation, Grid
from cxrfeat._explain.geometry import compose, grid_to_input, invert, on_pixels, resample, resized
from cxrfeat._images.prepare import View
from cxrfeat._recipe import Recipe
from cxrfeat.errors import ExplainError


@pytest.mark.parametrize("shape", [(224, 224), (400, 400), (1024, 1024), (300, 500), (800, 333), (97, 150)])
@pytest.mark.parametrize("size", [224, 256])
@pytest.mark.parametrize(("fy", "fx"), [(0.2, 0.7), (0.8, 0.35), (0.5, 0.5)])
def test_a_planted_square_lights_up_where_it_is(block_engine, shape, size, fy, fx):
    h, w = shape
    grey = np.zeros(shape, np.uint8)
    top, left = int(fy * h - h / 12), int(fx * w - w / 12)
    grey[top : top + h // 6, left : left + w // 6] = 255
    view = View(grey, size)
    found = ClosedForm([block_engine], np.array([[1.0, 0.0]]), np.zeros(1))([view.render()[None]])
    # The stand-in's cells are plain blocks, whose centre is 1.5 px from DenseNet121's receptive field.
    affine = compose(view.geometry_of(), grid_to_input("densenet121"))
    heat = on_pixels(found.parts[0][0, 0], affine, shape)
    assert heat.shape == shape
    y, x = np.unravel_index(heat.argmax(), shape)
    cell_h, cell_w = h * 32 / size, w * 32 / size
    assert abs(y - fy * h) <= 0.6 * cell_h and abs(x - fx * w) <= 0.6 * cell_w
    # And not only its peak: the centre of mass of the heat lies on the square.
    mass = heat / heat.sum()
    assert abs((mass.sum(axis=1) * np.arange(h)).sum() - fy * h) <= 0.35 * cell_h
    assert abs((mass.sum(axis=0) * np.arange(w)).sum() - fx * w) <= 0.35 * cell_w


@pytest.mark.parametrize("shape", [(300, 500), (800, 333)])
@pytest.mark.parametrize(("square", "resize"), [("crop", 0), ("crop", 256), ("pad", 0), ("pad", 200)])
@pytest.mark.parametrize("borders", [0, 40])
def test_a_planted_square_lights_up_in_every_geometry(block_engine, shape, square, resize, borders):
    h, w = (side + borders for side in shape)
    grey = np.zeros((h, w), np.uint8)
    side, y0, x0 = min(shape), borders + shape[0] // 2, borders + shape[1] // 2
    grey[borders:, borders:] = 30
    top, left = y0 - side // 4, x0 + side // 8
    grey[top : top + side // 8, left : left + side // 8] = 255
    options = {"geometry": square, "resize": resize, "crop_borders": borders > 0}
    view = View.of(grey, Recipe("net", "random:0", "", "relu", "torch", 224, **options))
    found = ClosedForm([block_engine], np.array([[1.0, 0.0]]), np.zeros(1))([view.render()[None]])
    affine = compose(view.geometry_of(), grid_to_input("densenet121"))
    cells = found.parts[0][0, 0]
    one = Explanation(
        "a", ("Mass",), np.zeros(1), np.zeros(1), "cam", (Grid("net", cells[None], affine, view.seen),), (h, w)
    )
    heat = one.on_copy(cells, (h, w))
    y, x = np.unravel_index(heat.argmax(), heat.shape)
    cell = affine[0, 0]
    assert abs(y - (top + side / 16)) <= 0.75 * cell and abs(x - (left + side / 16)) <= 0.75 * cell
    edges = [round(edge) for edge in view.seen]
    seen = np.zeros((h, w), bool)
    seen[edges[1] : edges[3], edges[0] : edges[2]] = True
    assert not heat[~seen].any() and heat[seen].any()
    assert borders == 0 or not heat[: borders - 1].any()


@pytest.mark.parametrize("shape", [(7, 7), (3, 5), (1, 4)])
def test_interpolation_agrees_with_scipys(shape):
    grid = np.random.default_rng(0).normal(size=shape)
    affine = np.array([[13.3, 0, 5.2], [0, 9.1, -3.4]])
    y, x = np.mgrid[:60, :80]
    expected = map_coordinates(grid, [(y + 3.4) / 9.1, (x - 5.2) / 13.3], order=1, mode="nearest")
    np.testing.assert_allclose(on_pixels(grid, affine, (60, 80)), expected, atol=1e-12)


def test_a_rotated_grid_is_not_laid_straight():
    with pytest.raises(ExplainError, match="rotated"):
        on_pixels(np.ones((2, 2)), np.array([[1, 0.1, 0], [0, 1, 0]]), (4, 4))


def test_affines_compose_and_undo_each_other():
    first, second = np.array([[2.0, 0.5, 1], [-0.5, 3, 4]]), np.array([[0.0, 1, 5], [1, 0, -2]])
    point = np.array([3.0, -7.0, 1.0])
    np.testing.assert_allclose(compose(second, first) @ point, second @ np.append(first @ point, 1))
    np.testing.assert_allclose(compose(invert(first), first), np.eye(2, 3), atol=1e-12)


def test_a_resized_copy_keeps_its_corners():
    affine = resized((100, 200), (50, 50))
    # The outer corner of the first pixel stays the outer corner: OpenCV's convention of pixel centres.
    np.testing.assert_allclose(affine @ [-0.5, -0.5, 1], [-0.5, -0.5])
    np.testing.assert_allclose(affine @ [199.5, 99.5, 1], [49.5, 49.5])


def test_sampling_beyond_a_map_is_unknown_and_not_zero():
    maps = np.arange(9.0).reshape(1, 3, 3)
    shifted = resample(maps, np.array([[1.0, 0, 1], [0, 1, 0]]), (3, 3))
    np.testing.assert_allclose(shifted[0, :, :2], maps[0, :, 1:])
    assert np.isnan(shifted[0, :, 2]).all()


@pytest.mark.parametrize(
    ("shape", "fine"), [((32, 32), True), ((31, 31), False), ((100, 400), True), ((401, 100), False)]
)
def test_sizes_that_are_explained(shape, fine):
    if fine:
        return geometry.check_shape(shape)
    with pytest.raises(ExplainError, match=f"{shape[1]}x{shape[0]} pixels"):
        geometry.check_shape(shape)
