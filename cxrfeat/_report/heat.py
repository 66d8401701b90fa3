"""From a signed map to colours on an X-ray, without making it look hotter than it is.

Only the positive part is drawn (the ReLU of Grad-CAM). One scale serves all labels of an image, so that a strong map
and a weak one look strong and weak; a map without a positive cell stays empty, and is counted. Opacity grows with the
evidence, so that no evidence is no colour.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from cxrfeat.errors import ExplainError

if TYPE_CHECKING:
    from cxrfeat._explain.explanation import Explanation, Grid

Per = Literal["image", "label"]

OPACITY = 0.7
"""Of the strongest evidence on an X-ray, which stays readable below it."""
COLOURS = "inferno"
BACKGROUND = 0.35
"""Grey of a mid-bright lung, which the colour bar is laid on as maps are laid on a lung."""


@dataclass(frozen=True)
class Scaled:
    """Maps ready to draw: positive parts divided by `top`, float64 (labels, gh, gw) within [0, 1].

    `raw_max` is the maximum of each signed map, `top` the raw value that is drawn as 1, or 0 where there is nothing to
    draw.
    """

    maps: npt.NDArray[np.float64]
    raw_max: npt.NDArray[np.float64]
    top: npt.NDArray[np.float64]

    @property
    def empty(self) -> npt.NDArray[np.bool_]:
        """Which maps have no positive cell, bool (labels,)."""
        return ~(self.raw_max > 0)


def scale(maps: npt.NDArray[np.floating[Any]], per: Per = "image", hottest: float | None = None) -> Scaled:
    """Scale the signed maps of one image, (labels, gh, gw), for drawing: one scale for all of them, or one for each.

    NaN (a label the head has not learnt) counts as empty. `hottest` is the raw value drawn as 1 by one scale per image,
    where other maps of the image (another backbone's) share it.
    """
    if per not in ("image", "label"):
        raise ExplainError(f"unknown `scale` {per!r}; choose image or label.")
    signed = np.nan_to_num(np.asarray(maps, dtype=np.float64), nan=0.0)
    raw_max = signed.max(axis=(1, 2))
    positive = np.maximum(signed, 0.0)
    own = np.maximum(raw_max, 0.0)
    top = np.full_like(own, max(own.max(), hottest or 0.0)) if per == "image" else own
    divisor = np.where(top > 0, top, 1.0)[:, None, None]
    return Scaled(positive / divisor, raw_max, top)


def heat(
    explanation: Explanation,
    scaled_map: npt.NDArray[np.float64],
    shape: tuple[int, int],
    grid: Grid | None = None,
) -> npt.NDArray[np.float32]:
    """One map, scaled to [0, 1] on its grid, as colours on a copy of the image, with opacity, float32 (h, w, 4).

    The grid is that of the explanation's `maps`, unless another is given.
    """
    on_copy = explanation.on_copy(scaled_map, shape, grid)
    rgba = _colours()[np.uint8(on_copy * 255 + 0.5)]
    rgba[..., 3] = on_copy
    return rgba


def overlaid(grey: npt.NDArray[np.uint8], rgba: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """A map's colours, float32 (h, w, 4), on an X-ray, uint8 (h, w): uint8 (h, w, 3)."""
    alpha = OPACITY * rgba[..., 3:]
    return np.asarray(grey[..., None] + alpha * (255 * rgba[..., :3] - grey[..., None]) + 0.5, np.uint8)


def ramp(pixels: int) -> npt.NDArray[np.uint8]:
    """The colours from no evidence to the strongest, as they look on an X-ray, uint8 (pixels, 3)."""
    share = np.linspace(0, 1, pixels, dtype=np.float32)
    rgba = _colours()[np.uint8(share * 255 + 0.5)]
    rgba[:, 3] = share
    return overlaid(np.full((1, pixels), round(255 * BACKGROUND), np.uint8), rgba[None])[0]


@cache
def _colours() -> npt.NDArray[np.float32]:
    """The 256 colours of maps, float32 (256, 4)."""
    from matplotlib import colormaps

    # Inferno starts black, which on a dark lung looks like no colour: its lower fifth is left out.
    return np.array(colormaps[COLOURS](np.linspace(0.2, 1.0, 256)), dtype=np.float32)
