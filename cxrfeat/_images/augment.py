"""Augmentation policies, and the affine that pass k of an image is drawn by.

A draw depends on (seed, image_id, pass) alone: never on order, worker, resume, or a library's random generator.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cxrfeat.errors import RecipeError

Affine = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Policy:
    """Ranges of a random affine; every draw is uniform.

    Attributes
    ----------
    name : str
        For people; the ranges decide.
    rotation : float
        Degrees, drawn from [-rotation, rotation].
    shift_x, shift_y : float
        Fractions of the width and height, drawn from [-shift, shift].
    shear : float
        Degrees, drawn from [-shear, shear].
    zoom : float
        Drawn from [1 - zoom, 1 + zoom], one factor for both axes.
    flip : float
        Probability of a horizontal mirror.
    border : str
        What lies beyond the picture: `constant` (black) or `nearest` (its edge, repeated).
    """

    name: str
    rotation: float = 0.0
    shift_x: float = 0.0
    shift_y: float = 0.0
    shear: float = 0.0
    zoom: float = 0.0
    flip: float = 0.0
    border: str = "constant"

    def to_dict(self) -> dict[str, Any]:
        """The policy as the recipe keeps it."""
        return asdict(self)


POLICIES: dict[str, Policy] = {
    policy.name: policy
    for policy in (
        # Positioning differs this much between two films of one patient. No mirror: the heart is on the left, and a
        # mirrored film is not a film that a hospital makes.
        Policy("mild", rotation=5, shift_x=0.05, shift_y=0.05, shear=2, zoom=0.05),
        # The six operations the reference paper names; it gives no ranges, so these are Keras tutorials' usual ones.
        Policy("paper", rotation=10, shift_x=0.1, shift_y=0.1, shear=5.7, zoom=0.1, flip=0.5, border="nearest"),
    )
}
DEFAULT_POLICY = "mild"


def policy_of(augmentation: Mapping[str, Any] | str) -> Policy:
    """Return the policy of that name, or of a recipe's `augmentation`.

    Parameters
    ----------
    augmentation : str or mapping
        A policy's name, or its ranges as `Policy.to_dict` gives them.

    Raises
    ------
    RecipeError
        If there is no such policy.
    """
    if isinstance(augmentation, str):
        if augmentation not in POLICIES:
            raise RecipeError(f"no augmentation policy {augmentation!r}; there are {', '.join(POLICIES)}.")
        return POLICIES[augmentation]
    try:
        return Policy(**augmentation)
    except TypeError as error:
        raise RecipeError(f"the recipe's augmentation is not one this version knows: {error}.") from error


def matrix(policy: Policy, seed: int, image_id: str, number: int) -> Affine:
    """Draw the affine of one pass of one image.

    Parameters
    ----------
    policy : Policy
        The ranges.
    seed : int
        The recipe's seed.
    image_id : str
        The image.
    number : int
        The pass, 1..K; pass 0 is the identity and never drawn.

    Returns
    -------
    ndarray of float64, shape (2, 3)
        Maps a point of the rendered picture to the point of the source that is shown there. Both in coordinates where
        the picture spans [-0.5, 0.5] on either axis, so the draw knows no size.
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
