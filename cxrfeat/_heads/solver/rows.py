"""Embeddings as rows to learn from: a matrix in memory, or a file read block by block.

A block has at most `BLOCK` rows and always begins at the same row, wherever the rows come from and however much is
read at once. Sums over blocks are therefore the same to the last bit in memory and from a file.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

BLOCK = 2048
"""Rows of a block: 8 MB of 1,024 float32, small enough that a second product finds it in the cache."""


class Rows(Protocol):
    """Rows to sweep over, in blocks; the order is the same in every sweep."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and features."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 or float64."""

    def blocks(self) -> Iterator[tuple[slice, npt.NDArray[Any]]]:
        """Every block once, with the place of its rows."""

    def take(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Copy some rows, whose numbers rise, into a matrix."""


class MatrixRows:
    """Rows of a C-contiguous matrix in memory, float32 or float64; nothing is copied.

    Blocks begin anew every `segment` rows: the number of images if the rows are passes over them.
    """

    def __init__(self, x: npt.NDArray[Any], segment: int | None = None) -> None:
        self.x, self.segment = x, segment or len(x)
        self.shape, self.dtype = x.shape, x.dtype

    def blocks(self) -> Iterator[tuple[slice, npt.NDArray[Any]]]:
        """Every block once, as a view."""
        for base in range(0, len(self.x), self.segment):
            end = min(base + self.segment, len(self.x))
            for start in range(base, end, BLOCK):
                place = slice(start, min(start + BLOCK, end))
                yield place, self.x[place]

    def take(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Copy some rows."""
        return self.x[rows]


def moments(rows: Rows, weight: npt.NDArray[Any] | None = None) -> tuple[Floats, Floats]:
    """Weighted mean and standard deviation of every feature, float64 (features,), in one sweep.

    Blocks are centred on the first one's mean before they are squared, so that a feature far from zero keeps its
    digits, and joined by the update of Chan, Golub and LeVeque (1983). A feature that does not vary has scale 1, as
    in scikit-learn's `StandardScaler`: its coefficient is then held at zero by the penalty alone.
    """
    features = rows.shape[1]
    total, first, second = 0.0, np.zeros(features), np.zeros(features)
    anchor: npt.NDArray[Any] | None = None
    for place, x in rows.blocks():
        if anchor is None:
            anchor = x.mean(axis=0, dtype=np.float64).astype(x.dtype)
        away = x - anchor
        w = np.ones(len(x), dtype=x.dtype) if weight is None else weight[place].astype(x.dtype)
        total += float(w.sum(dtype=np.float64))
        first += w @ away
        np.square(away, out=away)
        second += w @ away
    if anchor is None or total <= 0:
        return np.zeros(features), np.ones(features)
    shift = first / total
    mean = anchor + shift
    variance = second / total - shift**2
    # What is left of a constant feature is rounding: of the mean, and of the squares that were summed.
    eps = np.finfo(rows.dtype).eps
    noise = (eps * np.abs(mean)) ** 2 * 10 + eps * 10 * shift**2
    constant = variance <= noise
    return mean, np.where(constant, 1.0, np.sqrt(np.maximum(variance, 0.0)))


def sigmoid(z: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """1 / (1 + exp(-z)), without overflow, in `z`'s own precision."""
    return 0.5 * (1.0 + np.tanh(0.5 * z))
