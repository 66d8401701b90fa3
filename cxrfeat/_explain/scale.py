"""How a signed map becomes something to look at, without making it look hotter than it is.

Only the positive part is drawn (the ReLU of Grad-CAM). One scale serves all labels of an image, so that a strong map
and a weak one look strong and weak; a map without a positive cell stays empty, and is counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from cxrfeat.errors import ExplainError

Per = Literal["image", "label"]


@dataclass(frozen=True)
class Scaled:
    """Maps ready to draw.

    Attributes
    ----------
    maps : float64 (labels, gh, gw)
        Positive parts, divided by `top`: within [0, 1].
    raw_max : float64 (labels,)
        Maximum of each signed map, before anything was done to it.
    top : float64 (labels,)
        The raw value that is drawn as 1; 0 where there is nothing to draw.
    """

    maps: npt.NDArray[np.float64]
    raw_max: npt.NDArray[np.float64]
    top: npt.NDArray[np.float64]

    @property
    def empty(self) -> npt.NDArray[np.bool_]:
        """Which maps have no positive cell, bool (labels,)."""
        return ~(self.raw_max > 0)


def scale(maps: npt.NDArray[np.floating[Any]], per: Per = "image", hottest: float | None = None) -> Scaled:
    """Scale the signed maps of one image, (labels, gh, gw), for drawing.

    Parameters
    ----------
    maps : (labels, gh, gw)
        Signed maps of one image. NaN (a label the head has not learnt) counts as empty.
    per : {"image", "label"}
        One scale for all of them, or one for each.
    hottest : float, optional
        The raw value drawn as 1 by one scale per image, where other maps of the image (another backbone's) share it;
        by default the maximum of these maps.
    """
    if per not in ("image", "label"):
        raise ExplainError(f"a scale per {per!r} is not known; choose image or label.")
    if maps.ndim != 3 or not len(maps):
        raise ExplainError(f"maps of one image have the shape (labels, gh, gw), not {maps.shape}.")
    signed = np.nan_to_num(np.asarray(maps, dtype=np.float64), nan=0.0)
    raw_max = signed.max(axis=(1, 2))
    positive = np.maximum(signed, 0.0)
    own = np.maximum(raw_max, 0.0)
    top = np.full_like(own, max(own.max(), hottest or 0.0)) if per == "image" else own
    divisor = np.where(top > 0, top, 1.0)[:, None, None]
    return Scaled(positive / divisor, raw_max, top)
