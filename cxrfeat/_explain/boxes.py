"""Boxes of radiologists on the image at hand."""

from __future__ import annotations

from collections.abc import Sequence

from cxrfeat._datasets.boxes import SIDE
from cxrfeat.errors import ExplainError

Box = tuple[str, float, float, float, float]

SLACK = 2.0
"""Pixels of the 1024 x 1024 original by which a box may stick out: the list was drawn on a reduced picture."""


def on_original(boxes: Sequence[Box], shape: tuple[int, ...]) -> tuple[Box, ...]:
    """Scale boxes in pixels of the 1024 x 1024 original to an image of `shape` (h, w), cut at its edge.

    Raises
    ------
    ExplainError
        If a box lies outside the image, or the image is not square and so cannot be a copy of the original.
    """
    if not boxes:
        return ()
    h, w = shape[:2]
    if abs(h - w) > 0.01 * max(h, w):
        raise ExplainError(
            f"its boxes are in pixels of a {SIDE}x{SIDE} original, and the image at hand is {w}x{h}: "
            "not a reduced copy of that."
        )
    return tuple(_scaled(box, w / SIDE, h / SIDE) for box in boxes)


def check(box: Box) -> None:
    """Raise an ExplainError if a box is not inside the 1024 x 1024 original."""
    label, x, y, width, height = box
    inside = min(x, y) >= -SLACK and max(x + width, y + height) <= SIDE + SLACK
    if not inside or min(width, height) <= 0:
        raise ExplainError(
            f"its box of {label} (x={x:.0f}, y={y:.0f}, width={width:.0f}, height={height:.0f}) lies outside the "
            f"{SIDE}x{SIDE} original; boxes are x, y, width, height in its pixels."
        )


def _scaled(box: Box, fx: float, fy: float) -> Box:
    check(box)
    label, x, y, width, height = box
    left, top = max(x, 0.0), max(y, 0.0)
    right, bottom = min(x + width, SIDE), min(y + height, SIDE)
    return label, left * fx, top * fy, (right - left) * fx, (bottom - top) * fy
