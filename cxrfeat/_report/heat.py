"""The colours of a map: one ramp whose opacity grows with the evidence, so that no evidence is no colour."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cxrfeat._explain.geometry import Affine, compose, on_pixels, resized

if TYPE_CHECKING:
    from cxrfeat._explain.explanation import Explanation

OPACITY = 0.7
"""Of the strongest evidence on an X-ray, which stays readable below it."""
COLOURS = "inferno"
BACKGROUND = 0.35
"""Grey of a mid-bright lung, which is what the colours are seen on, and so what the colour bar is laid on."""


def heat(
    explanation: Explanation,
    scaled_map: npt.NDArray[np.float64],
    shape: tuple[int, int],
    to_image: Affine | None = None,
) -> npt.NDArray[np.float32]:
    """One map, scaled to [0, 1] on its grid, as colours on a copy of the image of `shape` (h, w).

    Parameters
    ----------
    explanation : Explanation
    scaled_map : float64 (gh, gw)
    shape : (h, w)
    to_image : float64 (2, 3), optional
        From the map's grid to the original's pixels; by default that of the explanation's `maps`.

    Returns
    -------
    float32 (h, w, 4)
        Red, green, blue and opacity within [0, 1]; opacity is the map itself, so that no evidence is no colour.
    """
    grid = explanation.to_image if to_image is None else to_image
    on_copy = on_pixels(scaled_map, compose(resized(explanation.image_shape, shape), grid), shape)
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

    # Inferno starts black, which on a dark lung cannot be told from no colour: its lower fifth is left out.
    return np.array(colormaps[COLOURS](np.linspace(0.2, 1.0, 256)), dtype=np.float32)
