"""Resizing by the filters of `choices.FILTERS`, each of which has the values of the package that it is named after."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from cxrfeat._images.choices import FILTERS

Pixels = npt.NDArray[Any]
"""uint8, or float32 where the filter keeps fractions (`choices.FILTERS`); 0 to 255 in both."""

BEYOND = 127.5
"""To the filter `skimage`: the grey value beyond the border."""

LINES, BAND = 128, 8
"""Of an average as a product of matrices: lines of the picture at a time, so that they stay in a core's own cache, and
of the result, since most of a line's weights are 0."""


def resized(pixels: Pixels, to: tuple[int, int], interpolation: str = "area") -> Pixels:
    """Resize a picture to width and height `to` by a filter of `choices.FILTERS`; of that size already, it stays.

    A picture that is enlarged is so by `linear` where `area` is asked for, since OpenCV's area is no enlargement;
    `nearest` is as Pillow and Keras's generators do it.
    """
    if pixels.shape == (to[1], to[0]):
        return pixels
    if interpolation == "area" and (pixels.shape[0] < to[1] or pixels.shape[1] < to[0]):
        interpolation = "linear"
    if interpolation == "area" and (exact := _averaged(pixels, to)) is not None:
        return exact
    chosen = FILTERS[interpolation]
    if chosen.library == "opencv":
        return cv2.resize(pixels, to, interpolation=getattr(cv2, chosen.name))
    if chosen.library == "pillow":
        from PIL import Image

        return np.asarray(Image.fromarray(pixels).resize(to, Image.Resampling[chosen.name]))
    return _smoothed(pixels, to)


def _averaged(pixels: Pixels, to: tuple[int, int]) -> Pixels | None:
    """OpenCV's average by area of uint8, bit for bit in a quarter to a half of its time; None where it is not exact.

    Of a side's pixels, every p become q (in lowest terms), by weights that are whole numbers of 1 / p. Where p is a
    power of two up to 256, every product and every sum, along both axes, is a whole number below 2^24 of 1 / (p p'):
    float32 holds it, so only the average itself is rounded, in whatever order it was summed. Then two products with
    small matrices have OpenCV's bits. Where both factors are whole OpenCV itself is faster.
    """
    (h, w), (columns, rows) = pixels.shape, to
    down, across = _bands(h, rows), _bands(w, columns)
    if down is None or across is None or (h % rows == 0 and w % columns == 0):
        return None
    blocks, parts = math.gcd(h, rows), math.gcd(w, columns)
    source = pixels.reshape(blocks, -1, w)
    found = np.empty((blocks, rows // blocks * parts, columns // parts), np.uint8)
    step = max(1, LINES * blocks // h)
    tall = np.empty((step, *source.shape[1:]), np.float32)
    low = np.empty((step, rows // blocks, w), np.float32)
    small = np.empty((step, *found.shape[1:]), np.float32)
    for first in range(0, blocks, step):
        n = min(step, blocks - first)
        tall[:n] = source[first : first + n]
        for out, of, weights in down:
            np.matmul(weights, tall[:n, of], out=low[:n, out])
        line = low[:n].reshape(n, -1, w // parts)
        for out, of, weights in across:
            np.matmul(line[..., of], weights.T, out=small[:n, :, out])
        found[first : first + n] = np.rint(small[:n], out=small[:n])
    return found.reshape(rows, columns)


@lru_cache(maxsize=64)
def _bands(pixels: int, to: int) -> list[tuple[slice, slice, npt.NDArray[np.float32]]] | None:
    """The area average of one axis, of its first block of p pixels to q, `BAND` of these at a time; None: not exact.

    Of each band: which of the q it is, which of the p they are made of, and their weights.
    """
    blocks = math.gcd(pixels, to)
    p, q = pixels // blocks, to // blocks
    if p & (p - 1) or p > 256:
        return None
    begin, end = np.arange(q)[:, None] * p, np.arange(1, q + 1)[:, None] * p  # in q-ths of a pixel
    pixel = np.arange(p) * q
    weights = ((np.minimum(end, pixel + q) - np.maximum(begin, pixel)).clip(0) / p).astype(np.float32)
    bands = []
    for first in range(0, q, BAND):
        out = slice(first, min(first + BAND, q))
        of = slice(first * p // q, -(-out.stop * p // q))
        bands.append((out, of, np.ascontiguousarray(weights[out, of])))
    return bands


def _smoothed(pixels: Pixels, to: tuple[int, int]) -> Pixels:
    """`skimage.transform.resize` as TorchXRayVision calls it: a Gaussian of half the shrinking, then linear.

    What is beyond the border counts as the 0 of its scale, which is mid-grey. Both steps are linear in either axis, and
    so one sparse matrix for each; that takes a fifth of the time of scipy's filters.
    """
    (h, w), (columns, rows) = pixels.shape, to
    shown = _operator(h, rows) @ (pixels - np.float32(BEYOND))
    found = (_operator(w, columns) @ np.ascontiguousarray(shown.T)).T + np.float32(BEYOND)
    low, high = pixels.min(), pixels.max()
    if not low <= BEYOND <= high and found.min() <= BEYOND <= found.max():
        low, high = min(low, BEYOND), max(high, BEYOND)
    return np.clip(found, low, high)


@lru_cache(maxsize=64)
def _operator(pixels: int, to: int) -> Any:
    """The matrix (to, pixels) that smooths a line of pixels as `scipy.ndimage.gaussian_filter` and zooms it linearly.

    Beyond the line is 0, for the filter and, after it, for the zoom.
    """
    from scipy.sparse import csr_array

    factor = pixels / to
    reach = int(4 * max(0.0, (factor - 1) / 2) + 0.5)  # scipy cuts a Gaussian at 4 standard deviations
    offsets = np.arange(-reach, reach + 1)
    kernel = np.exp(-0.5 * (offsets / ((factor - 1) / 2 if reach else 1)) ** 2)
    place = (np.arange(to) + 0.5) * factor - 0.5
    before = np.floor(place).astype(int)
    cells, columns, weights = [], [], []
    for neighbour, share in ((before, 1 - (place - before)), (before + 1, place - before)):
        column = neighbour[:, None] + offsets
        inside = (column >= 0) & (column < pixels) & ((neighbour >= 0) & (neighbour < pixels))[:, None]
        cells.append(np.broadcast_to(np.arange(to)[:, None], column.shape)[inside])
        columns.append(column[inside])
        weights.append((share[:, None] * (kernel / kernel.sum()))[inside])
    parts = np.concatenate(weights), (np.concatenate(cells), np.concatenate(columns))
    return csr_array(parts, shape=(to, pixels), dtype=np.float32)
