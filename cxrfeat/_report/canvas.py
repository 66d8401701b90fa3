"""A page of pictures and words placed in inches from its upper left corner: many pages are drawn quickly.

Everything is put into one array of pixels at its final size. A figure of axes looks the same and takes several times as
long, most of it to lay out ticks and titles whose places are known here.
"""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.transforms import IdentityTransform

from cxrfeat import _files as files

DPI = 110
# PNG level and filter: beyond these the time grows much faster than the file shrinks. Older OpenCV knows no filter.
_ENCODING = [cv2.IMWRITE_PNG_COMPRESSION, 3]
if hasattr(cv2, "IMWRITE_PNG_FILTER"):
    _ENCODING += [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP]


class Canvas:
    """A white page."""

    def __init__(self, width: float, height: float) -> None:
        self.pixels = np.full((round(height * DPI), round(width * DPI), 3), 255, np.uint8)

    def picture(self, x: float, y: float, picture: npt.NDArray[np.uint8]) -> None:
        """Put uint8 (h, w, 3), or grey (h, w), with its upper left corner at x, y; what does not fit is cut off."""
        rgb = picture.reshape(*picture.shape[:2], -1)
        here = self.pixels[round(y * DPI) :, round(x * DPI) :][: rgb.shape[0], : rgb.shape[1]]
        here[:] = rgb[: here.shape[0], : here.shape[1]]

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
        """Write words."""
        if not words.strip():
            return
        coverage, left, top = _letters(words, size, ha, va, bold)
        first, start = round(y * DPI) + top, round(x * DPI) + left
        if behind:
            h, w = (side / DPI for side in coverage.shape)
            self.rectangle(start / DPI - 0.05, first / DPI - 0.03, w + 0.1, h + 0.06, behind, filled=True)
        rows, columns = slice(max(first, 0), None), slice(max(start, 0), None)
        opaque = coverage[max(-first, 0) :, max(-start, 0) :, None]
        here = self.pixels[rows, columns][: opaque.shape[0], : opaque.shape[1]]
        opaque = opaque[: here.shape[0], : here.shape[1]]
        here[:] = here + opaque * (np.array(_rgb(colour), np.float32) - here) + 0.5

    def rectangle(self, x: float, y: float, width: float, height: float, colour: str, filled: bool = False) -> None:
        """Draw an outline two pixels wide, or a filled rectangle."""
        left, top, right, bottom = (max(round(v * DPI), 0) for v in (x, y, x + width, y + height))
        whole = self.pixels[top : max(bottom, top + 1), left : max(right, left + 1)]
        sides = (whole,) if filled else (whole[:2], whole[-2:], whole[:, :2], whole[:, -2:])
        for side in sides:
            side[:] = _rgb(colour)

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


# Pages of one gallery repeat most of their words, and to draw letters is most of the work.
@lru_cache(maxsize=1024)
def _letters(words: str, size: float, ha: str, va: str, bold: bool) -> tuple[npt.NDArray[np.float32], int, int]:
    """How far letters cover each pixel, float32 (h, w) within [0, 1], and where its upper left pixel stands."""
    figure = Figure(dpi=DPI)
    FigureCanvasAgg(figure)
    weight = "bold" if bold else "normal"
    text = figure.text(0, 0, words, fontsize=size, ha=ha, va=va, weight=weight, transform=IdentityTransform())
    extent = text.get_window_extent()
    left, bottom = math.floor(extent.x0) - 1, math.floor(extent.y0) - 1
    width, height = math.ceil(extent.x1) + 1 - left, math.ceil(extent.y1) + 1 - bottom
    text.set_position((-left, -bottom))
    renderer = RendererAgg(width, height, DPI)
    text.draw(renderer)
    coverage = np.asarray(renderer.buffer_rgba())[..., 3] / np.float32(255)
    return np.asarray(coverage, np.float32), left, -(bottom + height)


def _rgb(colour: str) -> tuple[int, int, int]:
    red, green, blue = (round(255 * part) for part in to_rgb(colour))
    return red, green, blue
