"""Where a cell of the map's grid lies on the original image; maps of augmented renderings, warped back.

Coordinates are (x, y) of pixel centres, the first pixel at 0. A cell represents the centre of its receptive field,
which the strides and paddings of the backbone decide: not for an even share of the image. (In keras.applications'
ResNet50 the centres lie at 0, 32, 64, ...; to stretch its grid over the image would move every map by half a cell.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cxrfeat._backbones.kept import map_geometry
from cxrfeat._backbones.registry import DEFAULT_SIZE
from cxrfeat._images import choices, prepare
from cxrfeat._images.prepare import View
from cxrfeat._recipe import Recipe
from cxrfeat.errors import ExplainError

Affine = npt.NDArray[np.float64]

STRIDE = 32
STRETCH = 4


def grid_to_input(backbone: str, size: int = DEFAULT_SIZE) -> Affine:
    """Affine (2, 3) from grid coordinates to pixels of the network input of that size."""
    stride, first = map_geometry(backbone, size)
    return np.array([[stride, 0.0, first], [0.0, stride, first]])


def check_shape(shape: tuple[int, ...]) -> None:
    """Refuse an image (h, w) that the recipe's square cannot represent.

    Every image is stretched to the square, so that any size and shape can be drawn on; but of an image smaller than one
    stride, or stretched more than `STRETCH`-fold, the network saw no film.
    """
    short, long = min(shape[:2]), max(shape[:2])
    if short < STRIDE or long > STRETCH * short:
        raise ExplainError(
            f"it is {shape[1]}x{shape[0]} pixels, which the recipe's square cannot represent: sides of at least "
            f"{STRIDE} pixels are explained, the longer at most {STRETCH} times the shorter."
        )


def compose(second: Affine, first: Affine) -> Affine:
    """The affine (2, 3) that does `first`, then `second`."""
    return np.column_stack([second[:, :2] @ first[:, :2], second[:, :2] @ first[:, 2] + second[:, 2]])


def invert(affine: Affine) -> Affine:
    """The affine (2, 3) that undoes `affine`."""
    back = np.linalg.inv(affine[:, :2])
    return np.column_stack([back, -back @ affine[:, 2]])


def resized(shape: tuple[int, int], to: tuple[int, int]) -> Affine:
    """Affine (2, 3) from the pixels of an image (h, w) to those of the same image resized to `to` (h, w)."""
    fy, fx = to[0] / shape[0], to[1] / shape[1]
    return np.array([[fx, 0.0, (fx - 1) / 2], [0.0, fy, (fy - 1) / 2]])


def on_pixels(maps: npt.NDArray[np.floating[Any]], affine: Affine, shape: tuple[int, int]) -> npt.NDArray[np.float64]:
    """Interpolate maps (..., gh, gw) to an image of `shape` by an affine from grid to pixel, float64 (..., h, w).

    Bilinear between cell centres, constant beyond the outermost; no rotation or shear.
    """
    if affine[0, 1] or affine[1, 0]:
        raise ExplainError("a rotated grid cannot be laid on an image; warp the map back first.")
    # Exact, where OpenCV's warps round a coordinate to 1/32 of a cell, which shows at 1024 px; and without a matrix
    # product, whose threads would wait for each other on arrays as small as these.
    row, below, down = _between(shape[0], maps.shape[-2], affine[1, 1], affine[1, 2])
    column, beside, along = _between(shape[1], maps.shape[-1], affine[0, 0], affine[0, 2])
    maps = np.asarray(maps, dtype=np.float64)
    across = maps[..., column] * (1 - along) + maps[..., beside] * along
    down = down[:, None]
    return np.asarray(across[..., row, :] * (1 - down) + across[..., below, :] * down)


def resample(maps: npt.NDArray[np.floating[Any]], affine: Affine, shape: tuple[int, int]) -> npt.NDArray[np.float64]:
    """Sample maps (n, gh, gw) at `affine` of each cell of a grid of `shape`; NaN outside the map by half a cell.

    The affine goes from the new grid to that of the maps, and may rotate and shear.
    """
    from scipy.ndimage import map_coordinates

    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float64)
    u = affine[0, 0] * x + affine[0, 1] * y + affine[0, 2]
    v = affine[1, 0] * x + affine[1, 1] * y + affine[1, 2]
    gh, gw = maps.shape[1:]
    # A hair more than half, so that a centre on the very border counts as inside whatever the rounding.
    outside = (u < -0.5 - 1e-9) | (v < -0.5 - 1e-9) | (u > gw - 0.5 + 1e-9) | (v > gh - 0.5 + 1e-9)
    out = np.stack([map_coordinates(m.astype(np.float64), [v, u], order=1, mode="nearest") for m in maps])
    out[:, outside] = np.nan
    return out


def _between(
    pixels: int, cells: int, step: float, first: float
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """For each pixel along one axis: the cell before it, the cell after it, and how far it is on the way."""
    position = np.clip((np.arange(pixels) - first) / step, 0, cells - 1)
    before = np.minimum(position.astype(np.intp), max(cells - 2, 0))
    return before, np.minimum(before + 1, cells - 1), position - before


def rendering(
    recipe: Recipe, image_id: str, view: View, seed: int = 0, number: int = 0
) -> npt.NDArray[np.uint8 | np.float32]:
    """The network input of rendering `number` (0 is the clean one), (size, size)."""
    if number == 0:
        return view.render()
    policy = _policy(recipe)
    return view.render(prepare.matrix(policy, seed, image_id, number), policy.border)


def average(
    recipe: Recipe, image_id: str, view: View, seed: int, passes: Sequence[npt.NDArray[np.float64]]
) -> npt.NDArray[np.float64]:
    """Average the maps of all renderings, float64 (labels, gh, gw) each, on the grid of the clean one, the first.

    Each cell is the mean over the renderings that show it: what a rotation pushed out of the picture does not count as
    no evidence.
    """
    clean = passes[0]
    layers = [clean]
    cell = grid_to_input(recipe.backbone, recipe.size)
    to_image = compose(view.geometry_of(), cell)
    for number, maps in enumerate(passes[1:], start=1):
        matrix = prepare.matrix(_policy(recipe), seed, image_id, number)
        warped = compose(view.geometry_of(matrix), cell)
        layers.append(resample(maps, compose(invert(warped), to_image), clean.shape[1:]))
    stack = np.stack(layers)
    shown = np.isfinite(stack)
    total = np.where(shown, stack, 0.0).sum(axis=0)
    # The clean rendering shows every cell; what it does not know (an unlearnt label) stays unknown.
    return np.where(np.isnan(clean), np.nan, total / np.maximum(shown.sum(axis=0), 1))


def _policy(recipe: Recipe) -> choices.Policy:
    return choices.policy_of(recipe.augmentation or choices.DEFAULT_POLICY)
