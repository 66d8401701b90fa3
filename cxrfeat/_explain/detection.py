"""How well one map finds one box: pointing, overlap of its connected parts, energy inside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Rectangle = tuple[float, float, float, float]
"""x, y, width, height in pixels of the frame; x and y are the outer edge of the first pixel."""

Point = tuple[float, float]
"""x, y in pixels of the frame; the first pixel's outer edge is 0 and its middle 0.5."""

LEVELS = (0.1, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75)
"""Overlaps T that count as found, from 0.1 to 0.75 as in Wang et al., CVPR 2017."""

NAMES = (
    "pointing",
    "energy",
    *(f"iobb@{level}" for level in LEVELS),
    *(f"iou@{level}" for level in LEVELS),
    "false boxes",
)
"""The columns of `score`."""


def score(
    heat: npt.NDArray[np.floating[Any]],
    boxes: Sequence[Rectangle],
    cut: float,
    tolerance: float = 0.0,
    point: Point | None = None,
) -> Floats:
    """Score a map (h, w) against the boxes of its label in pixels of the same frame, float64 (boxes, len(NAMES)).

    `pointing`: 1 where `point`, by default the middle of where the map is highest, is in the box, or misses it by at
    most `tolerance` pixels (Zhang et al., ECCV 2016). `energy`: share of the positive map inside the box (Wang et al.,
    Score-CAM, 2020). `iobb@T`, `iou@T`: 1 where the bounding box of one connected part, of what exceeds the fraction
    `cut` of the maximum, overlaps the box by at least T, of the part's own area (IoBB) or of the union (IoU), as in
    Wang et al. 2017. `false boxes`: parts whose IoBB is below 0.1 with every box, the same in every row. An empty map
    points nowhere, finds nothing and has no energy in a box.
    """
    positive: Floats = np.maximum(np.asarray(heat, dtype=np.float64), 0.0)
    top = float(positive.max())
    if not top > 0:
        return np.zeros((len(boxes), len(NAMES)))
    found = parts(positive, cut * top)
    iobb, iou = overlaps(found, np.array(boxes, dtype=np.float64))
    rows = []
    x, y = point or _middle(positive == top)
    total, alone = float(positive.sum()), float((iobb.max(axis=1) < LEVELS[0]).sum())
    for k, (left, bottom, width, height) in enumerate(boxes):
        points = (
            left - tolerance <= x <= left + width + tolerance and bottom - tolerance <= y <= bottom + height + tolerance
        )
        inside = positive[_covered(bottom, height, positive.shape[0]), _covered(left, width, positive.shape[1])]
        best = [*(iobb[:, k].max() >= np.array(LEVELS)), *(iou[:, k].max() >= np.array(LEVELS))]
        rows.append([float(points), float(inside.sum()) / total, *map(float, best), alone])
    return np.array(rows)


def summit(cells: Floats, affine: Floats) -> Point:
    """Where a map (gh, gw) points: the centre of its highest cell, by the affine (2, 3) from its grid to the frame.

    The map drawn on pixels does not tell: beyond the outermost cells' centres it is constant, so that the first of its
    highest pixels may lie at the frame's edge, up to half a cell away.
    """
    row, column = (int(i) for i in np.unravel_index(int(cells.argmax()), cells.shape))
    x, y = affine @ [column, row, 1]
    return float(x) + 0.5, float(y) + 0.5


def _middle(where: npt.NDArray[np.bool_]) -> Point:
    """The pixel of a region that lies next to the region's centre of mass."""
    y, x = np.nonzero(where)
    nearest = int(np.argmin((y - y.mean()) ** 2 + (x - x.mean()) ** 2))
    return float(x[nearest]) + 0.5, float(y[nearest]) + 0.5


def parts(heat: Floats, above: float) -> Floats:
    """Bounding boxes (x, y, width, height) of the 8-connected parts at or above a value, float64 (parts, 4)."""
    _, _, stats, _ = cv2.connectedComponentsWithStats((heat >= above).astype(np.uint8), connectivity=8)
    return np.asarray(stats[1:, :4], dtype=np.float64)


def overlaps(found: Floats, boxes: Floats) -> tuple[Floats, Floats]:
    """Intersection over the found box's own area, and over the union: float64 (found, boxes) each."""
    left = np.maximum(found[:, None, :2], boxes[None, :, :2])
    right = np.minimum(found[:, None, :2] + found[:, None, 2:], boxes[None, :, :2] + boxes[None, :, 2:])
    shared = np.prod(np.maximum(right - left, 0.0), axis=2)
    own, truth = np.prod(found[:, 2:], axis=1)[:, None], np.prod(boxes[:, 2:], axis=1)[None]
    return shared / own, shared / (own + truth - shared)


def _covered(start: float, length: float, pixels: int) -> slice:
    """The pixels whose centre is in [start, start + length), at least one."""
    first = int(np.clip(np.ceil(start - 0.5), 0, pixels - 1))
    return slice(first, max(int(np.clip(np.ceil(start + length - 0.5), 0, pixels)), first + 1))
