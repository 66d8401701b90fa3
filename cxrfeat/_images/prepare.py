"""From a decoded picture to the network's input: the one path that extraction, prediction and maps share.

`render` makes the uint8 grey square; what the backbone wants beyond that (three channels, its own scale) is affine in
the grey value (`choices.NORMALISATION`), and every engine builds it into its graph. `matrix` draws the affine of an
augmented pass: from (seed, image_id, pass) alone, never from order, worker, resume, or a library's random generator.
"""

from __future__ import annotations

import hashlib

import cv2
import numpy as np
import numpy.typing as npt

from cxrfeat._images.choices import INTERPOLATIONS, Policy
from cxrfeat._images.decode import Grey
from cxrfeat.errors import RecipeError

Affine = npt.NDArray[np.float64]

_FLAGS = {"area": cv2.INTER_AREA, "linear": cv2.INTER_LINEAR, "cubic": cv2.INTER_CUBIC,
          "nearest": cv2.INTER_NEAREST_EXACT}  # fmt: skip
_BORDERS = {"constant": cv2.BORDER_CONSTANT, "nearest": cv2.BORDER_REPLICATE}


def render(
    grey: Grey, size: int, matrix: Affine | None = None, interpolation: str = "area", border: str = "constant"
) -> Grey:
    """Bring a picture, uint8 (h, w), to the network's square, as it is or warped by a matrix of `matrix`.

    The picture is stretched to the square, as keras.applications' users do; NIH's films are square already. Without a
    matrix this is one `cv2.resize`. A warped pass is drawn at twice the size and averaged 2 x 2, from a picture first
    shrunk by a whole factor, so that it is as free of aliasing as pass 0. An image smaller than the square is enlarged
    by `linear` where `area` is asked for, since OpenCV's area is no enlargement; `nearest` is as Pillow and Keras's
    generators do it.
    """
    if interpolation not in INTERPOLATIONS:
        raise RecipeError(f"interpolation {interpolation!r} is not one of {', '.join(INTERPOLATIONS)}.")
    if matrix is None:
        return _resize(grey, size, interpolation)
    h, w = _whole_factor(grey, size)
    if (h, w) != grey.shape:
        grey = cv2.resize(grey, (w, h), interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    fine = cv2.warpAffine(
        grey,
        _pixels(matrix, 2 * size, (h, w)),
        (2 * size, 2 * size),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=_BORDERS[border],
    )
    return cv2.resize(fine, (size, size), interpolation=cv2.INTER_AREA)  # type: ignore[return-value]


def passes(
    grey: Grey, size: int, matrices: list[Affine], policy: Policy | None, interpolation: str = "area"
) -> npt.NDArray[np.uint8]:
    """Render pass 0 and one warped pass per matrix: uint8 (1 + len(matrices), size, size)."""
    border = policy.border if policy else "constant"
    first = render(grey, size, None, interpolation)
    return np.stack([first, *(render(grey, size, matrix, interpolation, border) for matrix in matrices)])


def matrix(policy: Policy, seed: int, image_id: str, number: int) -> Affine:
    """Draw the affine (2, 3) of one pass, 1 to K, of one image; pass 0 is the identity and never drawn.

    It maps a point of the rendered picture to the point of the source that is shown there, both in coordinates where
    the picture spans [-0.5, 0.5] on either axis, so that the draw knows no size.
    """
    if number == 0:
        return np.eye(2, 3)
    u = _uniform(seed, image_id, number)
    angle, shear = np.deg2rad(_spread(u[0], policy.rotation)), np.deg2rad(_spread(u[1], policy.shear))
    scale = 1.0 + _spread(u[2], policy.zoom)
    mirror = -1.0 if u[3] < policy.flip else 1.0
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = turn @ np.array([[1.0, np.tan(shear)], [0.0, 1.0]]) @ np.diag([mirror, 1.0]) / scale
    shift = np.array([_spread(u[4], policy.shift_x), _spread(u[5], policy.shift_y)])
    return np.column_stack([linear, -linear @ shift])


def geometry(shape: tuple[int, int], size: int, matrix: Affine | None = None) -> Affine:
    """Where the network's input shows an original of `shape` (h, w): the affine (2, 3) of an input pixel (x, y, 1).

    Pixel centres are at whole numbers in both (OpenCV's convention). `matrix` is a pass's warp, None for pass 0.
    """
    return _pixels(np.eye(2, 3) if matrix is None else matrix, size, shape)


def _resize(grey: Grey, size: int, interpolation: str) -> Grey:
    if grey.shape == (size, size):
        return grey
    if interpolation == "area" and min(grey.shape) < size:
        interpolation = "linear"
    return cv2.resize(grey, (size, size), interpolation=_FLAGS[interpolation])  # type: ignore[return-value]


def _whole_factor(grey: Grey, size: int) -> tuple[int, int]:
    """Shape after the largest whole-number shrinking that keeps at least twice `size` on either axis."""
    h, w = grey.shape
    # A factor that does not divide the side would cut or blend the last pixels: only whole ones are taken.
    fy = next(f for f in range(max(h // (2 * size), 1), 0, -1) if h % f == 0)
    fx = next(f for f in range(max(w // (2 * size), 1), 0, -1) if w % f == 0)
    return h // fy, w // fx


def _pixels(unit: Affine, size: int, shape: tuple[int, int]) -> Affine:
    """An affine between unit squares, as one from pixel centres of a square of `size` to those of `shape`."""
    h, w = shape
    to_unit = np.array([[1 / size, 0, 0.5 / size - 0.5], [0, 1 / size, 0.5 / size - 0.5], [0, 0, 1]])
    from_unit = np.array([[w, 0, w / 2 - 0.5], [0, h, h / 2 - 0.5], [0, 0, 1]])
    return (from_unit @ np.vstack([unit, [0, 0, 1]]) @ to_unit)[:2]


def _spread(u: float, reach: float) -> float:
    return (2.0 * u - 1.0) * reach


def _uniform(seed: int, image_id: str, number: int) -> list[float]:
    # A hash rather than a generator: the same on every platform and in every version of numpy.
    digest = hashlib.sha256(f"{seed}\x1f{number}\x1f{image_id}".encode()).digest()
    return [int.from_bytes(digest[i : i + 4], "big") / 2**32 for i in range(0, 32, 4)]
