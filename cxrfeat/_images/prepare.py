"""From a decoded picture to the network's input: the one path that extraction, prediction and maps share.

`View` frames a picture as a recipe says and renders the network's grey square, as it is or warped; what the backbone
wants beyond that (channels, its own scale) is affine in the grey value (`choices.NORMALISATION`), and every engine
builds it into its graph. `matrix` draws the affine of an augmented pass: from (seed, image_id, pass) alone, never from
order, worker, resume, or a library's random generator.
"""

from __future__ import annotations

import hashlib
import math
import time
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
import numpy.typing as npt

from cxrfeat._images import decode
from cxrfeat._images.choices import FILTERS, GEOMETRIES, Policy, policy_of
from cxrfeat._images.decode import Grey
from cxrfeat._images.resize import Pixels, resized
from cxrfeat._recipe import Recipe
from cxrfeat.errors import ImageError, RecipeError

Affine = npt.NDArray[np.float64]
NEAR, MARKS = 8, 0.02
"""Grey values that count as black or white in a border, and the share of its pixels that may be others."""

LARGEST, LONGEST = 1 << 28, 1 << 16
"""Pixels that a picture may have on the way to the square, and the longest side that the filter `skimage` takes."""

_BORDERS = {"constant": cv2.BORDER_CONSTANT, "nearest": cv2.BORDER_REPLICATE}


@dataclass(frozen=True)
class View:
    """A film, uint8 (h, w), and how it becomes the network's square.

    The fields are a recipe's, but for `origin`, where the film begins in its picture: left and top.
    """

    grey: Grey
    size: int
    interpolation: str = "area"
    geometry: str = "stretch"
    resize: int = 0
    origin: tuple[int, int] = (0, 0)

    @classmethod
    def of(cls, grey: Grey, recipe: Recipe) -> View:
        """Frame a picture as a recipe says; one that is too oblong for it is an ImageError."""
        for what, known in (("interpolation", FILTERS), ("geometry", GEOMETRIES)):
            if (value := getattr(recipe, what)) not in known:
                raise RecipeError(f"{what} {value!r} is not one of {', '.join(known)}.")
        left, top, right, bottom = content(grey) if recipe.crop_borders else (0, 0, *grey.shape[::-1])
        film, origin = grey[top:bottom, left:right], (left, top)
        view = cls(film, recipe.size, recipe.interpolation, recipe.geometry, recipe.resize, origin)
        h, w = film.shape
        between = max(h, w) ** 2 if view.geometry == "pad" else 0
        if view.resize:
            between = math.prod(view._scaled)
        long = max(h, w) > LONGEST and FILTERS[view.interpolation].library == "scipy"
        if between > LARGEST or long:
            raise ImageError(f"is {w} x {h} pixels, too oblong to become a square by `geometry={view.geometry}`.")
        return view

    @property
    def pixels(self) -> Pixels:
        """The film in the type of the network's input."""
        return self.grey.astype(FILTERS[self.interpolation].dtype, copy=False)

    @cached_property
    def box(self) -> tuple[float, float, float, float]:
        """What of the film the square shows: left, top, width and height in its pixels; `pad` shows more than it."""
        h, w = self.grey.shape
        if self.geometry == "stretch":
            return 0, 0, w, h
        if not self.resize:
            side = min(h, w) if self.geometry == "crop" else max(h, w)
            return w // 2 - side // 2, h // 2 - side // 2, side, side  # as TorchXRayVision's XRayCenterCrop
        sw, sh = self._scaled
        left, top = (round((side - self.size) / 2) for side in (sw, sh))  # as torchvision's CenterCrop
        return left * w / sw, top * h / sh, self.size * w / sw, self.size * h / sh

    @property
    def _scaled(self) -> tuple[int, int]:
        """Width and height with the shorter side, or to pad the longer one, at `resize`; as torchvision's Resize."""
        h, w = self.grey.shape
        of = min(h, w) if self.geometry == "crop" else max(h, w)
        return max(1, int(self.resize * w / of)), max(1, int(self.resize * h / of))

    def render(self, matrix: Affine | None = None, border: str = "constant") -> Pixels:
        """Return the network's square, (size, size), as it is or warped by a matrix of `matrix`.

        Without a matrix the picture is resized once by the recipe's filter, before or after it is cut. A warped pass is
        drawn at twice the size and averaged 2 x 2, from a picture first shrunk by a whole factor, so that it is as free
        of aliasing as pass 0; it is another cut of the same film, so that a cropped film's rest may come into view.
        What is beyond the film is black, or with border `nearest` its edge, except where pass 0 is padded with black.
        """
        if matrix is None:
            return self._pass0()
        pixels = _shrunk(self.pixels, self.box[3] // (2 * self.size), self.box[2] // (2 * self.size))
        fine = cv2.warpAffine(
            pixels,
            _between(matrix, 2 * self.size, self.box, self.grey.shape, pixels.shape),
            (2 * self.size, 2 * self.size),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=_BORDERS["constant" if self.geometry == "pad" else border],
        )
        return cv2.resize(fine, (self.size, self.size), interpolation=cv2.INTER_AREA)

    def geometry_of(self, matrix: Affine | None = None) -> Affine:
        """Where the network's input shows the picture: the affine (2, 3) of an input pixel (x, y, 1).

        Pixel centres are at whole numbers in both (OpenCV's convention). `matrix` is a pass's warp, None for pass 0.
        """
        shape = self.grey.shape
        affine = _between(np.eye(2, 3) if matrix is None else matrix, self.size, self.box, shape, shape)
        affine[:, 2] += self.origin
        return affine

    @property
    def seen(self) -> tuple[float, float, float, float]:
        """What of the picture the network sees: left, top, right and bottom in its pixels, outer edges."""
        (x, y), (h, w), (left, top, width, height) = self.origin, self.grey.shape, self.box
        return x + max(left, 0), y + max(top, 0), x + min(left + width, w), y + min(top + height, h)

    def _pass0(self) -> Pixels:
        size, pixels = (self.size, self.size), self.pixels
        if self.geometry == "stretch":
            return resized(pixels, size, self.interpolation)
        if not self.resize:
            left, top, width, height = (int(number) for number in self.box)
            return resized(_cut(pixels, left, top, (width, height)), size, self.interpolation)
        sw, sh = self._scaled
        left, top = round((sw - self.size) / 2), round((sh - self.size) / 2)
        return _cut(resized(pixels, (sw, sh), self.interpolation), left, top, size)


@dataclass(frozen=True)
class Squares:
    """The renderings of one image, (n, size, size), and what it took: seconds to decode and to render.

    `voi` is that of `decode.Film`.
    """

    pixels: Pixels
    voi: str
    decode: float
    render: float


def squares(source: bytes | Grey, recipe: Recipe, image_id: str, first: int = 0) -> Squares:
    """Render an image as a recipe says, from pass `first` on; the image is a file's bytes, or a picture.

    One that cannot be used is an ImageError.
    """
    begun = time.perf_counter()
    if isinstance(source, bytes):
        film = decode.decode_film(source, recipe.voi)
    else:
        film = decode.to_grey8(source, voi=recipe.voi)
    decoded = time.perf_counter()
    view = View.of(film.grey, recipe)
    policy = policy_of(recipe.augmentation or {"name": "none"})
    warps = [matrix(policy, recipe.seed, image_id, k) if k else None for k in range(first, recipe.passes + 1)]
    pixels = np.stack([view.render(warp, policy.border) for warp in warps]) if warps else np.zeros((0, 0, 0), np.uint8)
    return Squares(pixels, film.voi, decoded - begun, time.perf_counter() - decoded)


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


def content(grey: Grey) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of a picture without the black and white lines at its sides.

    A row or column is border if all but `MARKS` of its pixels are within `NEAR` of black, or of white. Where that would
    leave less than a quarter of a side, the picture is dark or bright itself, and stays whole.
    """
    h, w = grey.shape
    left, top, right, bottom = found = 0, 0, w, h
    ends = (grey <= NEAR, grey >= 255 - NEAR)
    while True:
        rows, columns = (
            np.flatnonzero(np.max([end[top:bottom, left:right].mean(axis=axis) for end in ends], axis=0) < 1 - MARKS)
            for axis in (1, 0)
        )
        if not (len(rows) and len(columns)) or 4 * np.ptp(rows) < h or 4 * np.ptp(columns) < w:
            return 0, 0, w, h
        left, right = left + int(columns[0]), left + int(columns[-1]) + 1
        top, bottom = top + int(rows[0]), top + int(rows[-1]) + 1
        if found == (left, top, right, bottom):
            return found
        found = left, top, right, bottom


def _cut(pixels: Pixels, left: int, top: int, size: tuple[int, int]) -> Pixels:
    """Cut width and height `size` out of a picture; what is beyond it is black."""
    (h, w), (width, height) = pixels.shape, size
    inside = pixels[max(top, 0) : min(top + height, h), max(left, 0) : min(left + width, w)]
    if inside.shape == (height, width):
        return inside
    out = np.zeros((height, width), pixels.dtype)
    y, x = max(-top, 0), max(-left, 0)
    out[y : y + inside.shape[0], x : x + inside.shape[1]] = inside
    return out


def _shrunk(pixels: Pixels, down: float, along: float) -> Pixels:
    """Average blocks of the largest whole sizes up to these, if they are not one pixel."""
    h, w = pixels.shape
    # A factor that does not divide the side would cut or blend the last pixels: only whole ones are taken.
    fy = next(f for f in range(max(int(down), 1), 0, -1) if h % f == 0)
    fx = next(f for f in range(max(int(along), 1), 0, -1) if w % f == 0)
    return pixels if fy == fx == 1 else cv2.resize(pixels, (w // fx, h // fy), interpolation=cv2.INTER_AREA)


def _between(
    unit: Affine, size: int, box: tuple[float, float, float, float], shape: tuple[int, ...], copy: tuple[int, ...]
) -> Affine:
    """An affine between unit squares, as one from pixel centres of a square of `size` to a picture's.

    The square is the `box` of a picture of `shape`; the pixels are those of a shrunk `copy` of it.
    """
    fy, fx = shape[0] / copy[0], shape[1] / copy[1]
    left, top, width, height = box[0] / fx, box[1] / fy, box[2] / fx, box[3] / fy
    to_unit = np.array([[1 / size, 0, 0.5 / size - 0.5], [0, 1 / size, 0.5 / size - 0.5], [0, 0, 1]])
    from_unit = np.array([[width, 0, left + width / 2 - 0.5], [0, height, top + height / 2 - 0.5], [0, 0, 1]])
    return (from_unit @ np.vstack([unit, [0, 0, 1]]) @ to_unit)[:2]


def _spread(u: float, reach: float) -> float:
    return (2.0 * u - 1.0) * reach


def _uniform(seed: int, image_id: str, number: int) -> list[float]:
    # A hash rather than a generator: the same on every platform and in every version of numpy.
    digest = hashlib.sha256(f"{seed}\x1f{number}\x1f{image_id}".encode()).digest()
    return [int.from_bytes(digest[i : i + 4], "big") / 2**32 for i in range(0, 32, 4)]
