"""Augmentation policies, and the affine that pass k of an image is drawn by.

A draw depends on (seed, image_id, pass) alone: never on order, worker, resume, or a library's random generator.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

from cxrfeat._images.choices import Policy

Affine = npt.NDArray[np.float64]


def matrix(policy: Policy, seed: int, image_id: str, number: int) -> Affine:
    """Draw the affine (2, 3) of one pass, 1 to K, of one image; pass 0 is the identity and never drawn.

    It maps a point of the rendered picture to the point of the source that is shown there, both in coordinates where
    the picture spans [-0.5, 0.5] on either axis, so that the draw knows no size.
    """
    if number == 0:
        return np.eye(2, 3)
    u = _uniform(seed, image_id, number)
    angle, shear = np.deg2rad(_spread(u[0], policy.rotation)), np.deg2rad(_spread(u[1], policy.shear))
    scale = 1.0 + _spread(u[2], policy.zoom)
    mirror = -1.0 if u[3] < policy.flip else 1.0
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = turn @ np.array([[1.0, np.tan(shear)], [0.0, 1.0]]) @ np.diag([mirror, 1.0]) / scale
    shift = np.array([_spread(u[4], policy.shift_x), _spread(u[5], policy.shift_y)])
    return np.column_stack([linear, -linear @ shift])


def _spread(u: float, reach: float) -> float:
    return (2.0 * u - 1.0) * reach


def _uniform(seed: int, image_id: str, number: int) -> list[float]:
    # A hash rather than a generator: the same on every platform and in every version of numpy, for ever.
    digest = hashlib.sha256(f"{seed}\x1f{number}\x1f{image_id}".encode()).digest()
    return [int.from_bytes(digest[i : i + 4], "big") / 2**32 for i in range(0, 32, 4)]
