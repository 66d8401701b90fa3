"""What a map must beat: knowing nothing, knowing where the chest is, and knowing where the finding usually is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cxrfeat._explain.detection import Floats, Point, summit
from cxrfeat._explain.geometry import Affine, on_pixels

KINDS = ("map", "random map", "centre prior", "mean box")
"""What is scored: the map, and what it must beat."""

DRAWS = 10
"""Random maps per image; their scores are averaged, so that the baseline's own noise is small."""

SPREAD = 0.25
"""Standard deviation of the centre prior, as a fraction of the image's side."""


@dataclass(frozen=True)
class Drawn:
    """A map on the frame's pixels, float64 (h, w), and where it points, if its grid says so."""

    heat: Floats
    point: Point | None = None


def random_maps(grid: tuple[int, int], affine: Affine, shape: tuple[int, int], seed: int) -> list[Drawn]:
    """Maps of independent uniform cells on the same grid as the method's: `DRAWS` of them, and where each points."""
    cells = np.random.default_rng(seed).random((DRAWS, *grid))
    return [Drawn(heat, summit(one, affine)) for heat, one in zip(on_pixels(cells, affine, shape), cells, strict=True)]


def centre_prior(shape: tuple[int, int]) -> Floats:
    """A Gaussian at the middle of the image, float64 (h, w)."""
    y, x = ((np.arange(side) + 0.5) / side - 0.5 for side in shape)
    return np.exp(-(y[:, None] ** 2 + x[None] ** 2) / (2 * SPREAD**2))


def mean_box(boxes: npt.NDArray[np.float64], shape: tuple[int, int]) -> Floats:
    """How often a pixel lies in one of the boxes, float64 (h, w).

    Parameters
    ----------
    boxes : float64 (boxes, 4)
        x, y, width, height as fractions of the image's sides; of other patients than the one that is scored.
    shape : (h, w)
        Of the frame.
    """
    if not len(boxes):
        return np.full(shape, np.nan)
    y, x = ((np.arange(side) + 0.5) / side for side in shape)
    rows = (y >= boxes[:, 1:2]) & (y < boxes[:, 1:2] + boxes[:, 3:4])
    columns = (x >= boxes[:, 0:1]) & (x < boxes[:, 0:1] + boxes[:, 2:3])
    return rows.astype(np.float64).T @ columns.astype(np.float64) / len(boxes)


def others(label: str, patient: str, labels: Sequence[str], patients: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Which boxes the mean box of `label` may be made of when an image of `patient` is scored."""
    return (np.asarray(labels) == label) & (np.asarray(patients) != patient)
