"""A contact sheet: pairs of pictures side by side, for a person to say whether they are the same film."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cxrfeat._report.canvas import DPI, Canvas, resized
from cxrfeat._report.style import wrapped

Side = tuple[npt.NDArray[np.uint8], str, str]
"""A picture, uint8 (h, w), its id, and where it is."""

WIDTH, GAP, MARGIN = 1.6, 0.06, 0.12
"""Inches: a picture at most, between the two of a pair, and around a pair."""
HEAD = 0.34
ACROSS = 3


def sheet(pairs: Sequence[tuple[Side, Side, str]], title: str, footer: str) -> Canvas:
    """Draw pairs, `ACROSS` in a row: the two pictures with id and place, and a word on each pair."""
    cell = 2 * WIDTH + GAP + 2 * MARGIN
    width = cell * min(ACROSS, max(len(pairs), 1))
    top, below = wrapped(title, 0.85 * width, 9.0), wrapped(footer, width, 6.5)  # bold letters are wider
    above, foot = 0.12 + 0.17 * (top.count("\n") + 1), 0.14 + 0.12 * (below.count("\n") + 1)
    tall = HEAD + WIDTH + 0.2
    canvas = Canvas(width, above + tall * -(-len(pairs) // ACROSS) + foot)
    canvas.text(width / 2, 0.08, top, 9.0, "center", bold=True)
    for number, (one, other, word) in enumerate(pairs):
        x, y = MARGIN + cell * (number % ACROSS), above + tall * (number // ACROSS)
        for k, (grey, name, place) in enumerate((one, other)):
            left = x + k * (WIDTH + GAP)
            canvas.text(left, y + 0.02, name if len(name) <= 24 else f"{name[:10]}…{name[-13:]}", 6.5, bold=True)
            canvas.text(left, y + 0.17, place[:34], 6.0, colour="#444444")
            canvas.picture(left, y + HEAD, resized(grey, WIDTH * DPI / max(grey.shape)))
        canvas.text(x + WIDTH + GAP / 2, y + HEAD + WIDTH + 0.04, word, 6.5, "center")
    canvas.text(MARGIN, above + tall * -(-len(pairs) // ACROSS) + 0.04, below, 6.5, colour="#444444")
    return canvas
