"""Pictures at low resolution, and how alike two of them are whatever was done to brightness and frame.

A pixel is compared with its surroundings: brightness, contrast, gamma and equalisation change all of them together.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from cxrfeat._images import decode
from cxrfeat._images.decode import Grey
from cxrfeat._images.resize import resized
from cxrfeat._remote import Place
from cxrfeat.errors import ImageError

Floats = npt.NDArray[np.float32]

SIDE, COARSE = 96, 32
"""Sides of what pairs are compared by, and of what they are searched with, pixels."""
SURROUNDINGS = 2.0
"""Standard deviation of the window that a pixel is compared with, pixels."""
FLAT = 4.0
"""Grey levels of contrast below which a place is flat: noise is not to be stretched."""
MARGIN = 6
SCALES = (92, 94, 96, 98, 100)
"""Sides that the one picture is brought to, across and down, before it is laid on the other: 4 % cut off on either."""


class Look(NamedTuple):
    """What is kept of an image: SHA-256 of the file and of its pixels, and the picture, uint8 (SIDE, SIDE)."""

    file: bytes
    pixels: bytes
    small: Grey


def look(path: Place) -> Look | None:
    """Read an image; None if it cannot be read."""
    try:
        data = decode.read_bytes(path)
        grey = decode.decode_grey(data)
    except ImageError:
        return None
    pixels = hashlib.sha256(repr(grey.shape).encode() + np.ascontiguousarray(grey).tobytes()).digest()
    return Look(hashlib.sha256(data).digest(), pixels, resized(grey, (SIDE, SIDE)))


def picture(path: Place, side: int = 256) -> Grey:
    """A picture to show, uint8 with its longer side of `side` pixels; black if it cannot be read."""
    try:
        grey = decode.read_grey(path)
    except ImageError:
        return np.zeros((side, side), np.uint8)
    factor = side / max(grey.shape)
    return resized(grey, (max(1, round(grey.shape[1] * factor)), max(1, round(grey.shape[0] * factor))))


def fingerprint(small: Grey) -> Floats:
    """What a picture, uint8 (SIDE, SIDE), is searched with, float32 (COARSE * COARSE,)."""
    return local(resized(small, (COARSE, COARSE))).ravel()


def local(grey: Grey) -> Floats:
    """Each pixel less the mean of its surroundings, in standard deviations of these, float32 (h, w)."""
    values = grey.astype(np.float32)
    apart = values - cv2.GaussianBlur(values, (0, 0), SURROUNDINGS)
    spread = np.sqrt(cv2.GaussianBlur(apart * apart, (0, 0), SURROUNDINGS))
    return np.asarray(apart / (spread + FLAT), np.float32)


def similarity(one: Grey, other: Grey) -> float:
    """Correlation of two pictures, uint8 (SIDE, SIDE), at the best of many scales and shifts; 0 for an empty one."""
    inner, outer = local(one)[MARGIN:-MARGIN, MARGIN:-MARGIN], local(other)
    if inner.std() < 1e-3 or outer.std() < 1e-3:
        return 0.0
    scaled = (cv2.resize(outer, (w, h), interpolation=cv2.INTER_LINEAR) for w in SCALES for h in SCALES)
    return max(float(cv2.matchTemplate(one, inner, cv2.TM_CCOEFF_NORMED).max()) for one in scaled)
