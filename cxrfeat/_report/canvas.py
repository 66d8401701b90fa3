"""A page of pictures and words placed in inches from its upper left corner: many pages are drawn quickly.

A figure of axes looks the same and takes several times as long, most of it to lay out ticks and titles whose places are
known here.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import cv2
import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from cxrfeat import _files as files
from cxrfeat._report.style import Shown

DPI = 110
# PNG level and filter: beyond these the time grows much faster than the file shrinks. Older OpenCV knows no filter.
_ENCODING = [cv2.IMWRITE_PNG_COMPRESSION, 3]
if hasattr(cv2, "IMWRITE_PNG_FILTER"):
    _ENCODING += [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP]
_ANCHORS = {"left": "l", "center": "m", "right": "r", "top": "a", "baseline": "s", "bottom": "d"}


class Canvas:
    """A white page."""

    def __init__(self, width: float, height: float) -> None:
        self._image = Image.new("RGB", (round(width * DPI), round(height * DPI)), "white")
        self._draw = ImageDraw.Draw(self._image)

    @property
    def pixels(self) -> npt.NDArray[np.uint8]:
        """What was drawn, uint8 (h, w, 3)."""
        return np.asarray(self._image)

    def picture(self, x: float, y: float, picture: npt.NDArray[np.uint8]) -> None:
        """Put uint8 (h, w, 3), or grey (h, w), with its upper left corner at x, y; what does not fit is cut off."""
        self._image.paste(Image.fromarray(picture), (round(x * DPI), round(y * DPI)))

    def text(
        self,
        x: float,
        y: float,
        words: str,
        size: float,
        ha: str = "left",
        va: str = "top",
        colour: str = "black",
        bold: bool = False,
        behind: str = "",
    ) -> None:
        if not words.strip():
            return
        at = round(x * DPI), round(y * DPI)
        look: Any = {"font": _font(size, bold), "anchor": _ANCHORS[ha] + _ANCHORS[va], "spacing": size / 3, "align": ha}
        if behind:
            left, top, right, bottom = (side / DPI for side in self._draw.textbbox(at, words, **look))
            self.rectangle(left - 0.05, top - 0.03, right - left + 0.1, bottom - top + 0.06, behind, filled=True)
        self._draw.text(at, words, colour, **look)

    def rectangle(self, x: float, y: float, width: float, height: float, colour: str, filled: bool = False) -> None:
        """Draw an outline two pixels wide, or a filled rectangle."""
        left, top, right, bottom = (round(v * DPI) for v in (x, y, x + width, y + height))
        inside = left, top, max(right - 1, left), max(bottom - 1, top)
        self._draw.rectangle(inside, colour if filled else None, colour, width=2)

    def figure(self) -> Shown:
        """The page as a matplotlib figure of its size."""
        made = Shown(figsize=(self._image.width / DPI, self._image.height / DPI), dpi=DPI)
        made.figimage(self.pixels)
        return made

    def save(self, path: str | Path) -> Path:
        """Write a PNG, atomically."""
        return files.write_atomically(path, self.png())

    def png(self) -> bytes:
        """The page as a PNG."""
        return cv2.imencode(".png", cv2.cvtColor(self.pixels, cv2.COLOR_RGB2BGR), _ENCODING)[1].tobytes()


def resized(grey: npt.NDArray[np.uint8], factor: float) -> npt.NDArray[np.uint8]:
    """A grey picture, uint8 (h, w), made larger or smaller."""
    size = (max(round(grey.shape[1] * factor), 1), max(round(grey.shape[0] * factor), 1))
    how = cv2.INTER_AREA if factor <= 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(grey, size, interpolation=how), np.uint8)


@cache
def _font(size: float, bold: bool) -> ImageFont.FreeTypeFont:
    """Matplotlib's font, which it brings along, in points."""
    file = Path(mpl.get_data_path(), "fonts", "ttf", f"DejaVuSans{'-Bold' if bold else ''}.ttf")
    return ImageFont.truetype(str(file), size * DPI / 72)
