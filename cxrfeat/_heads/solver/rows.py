"""Embeddings as rows to learn from: a matrix in memory, or files read block by block.

A block has at most `BLOCK` rows and always begins at the same row, wherever the rows come from and however much is
read at once. Sums over blocks are therefore the same to the last bit in memory and from a file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cxrfeat._store.rows import ahead

if TYPE_CHECKING:
    from cxrfeat._store import EmbeddingFile

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

BLOCK = 2048
"""Rows of a block: 8 MB of 1,024 float32, small enough that a second product finds it in the cache."""
READ_BYTES = 16 << 20
"""What is read from a file at once."""


class MatrixRows:
    """Rows of a C-contiguous matrix in memory, float32 or float64; nothing is copied.

    Blocks begin anew every `segment` rows: the number of images if the rows are passes over them.
    """

    def __init__(self, x: npt.NDArray[Any], segment: int | None = None) -> None:
        self.x, self.segment = x, segment or len(x)
        self.shape: tuple[int, int] = x.shape
        self.dtype: np.dtype[Any] = x.dtype

    def blocks(self) -> Iterator[tuple[slice, npt.NDArray[Any]]]:
        """Every block once, with the place of its rows; in the same order in every sweep."""
        for base in range(0, len(self.x), self.segment):
            end = min(base + self.segment, len(self.x))
            for start in range(base, end, BLOCK):
                place = slice(start, min(start + BLOCK, end))
                yield place, self.x[place]

    def whole(self) -> npt.NDArray[Any]:
        """All rows as one matrix in memory."""
        return self.x

    def part(self, rows: Ints) -> MatrixRows:
        """Some of the rows, whose numbers rise, from where these come from."""
        return MatrixRows(self.x[rows])


class FileRows:
    """Rows read from embedding files at every sweep, for a matrix that does not fit into memory.

    `parts` are a pass and its rows in each file, int64 (files, n); the parts follow each other. A thread reads ahead
    while the rows before are dealt with.
    """

    def __init__(self, files: Sequence[EmbeddingFile], parts: Sequence[tuple[int, Ints]]) -> None:
        self.files, self.parts = list(files), list(parts)
        self.shape = (sum(places.shape[1] for _, places in self.parts), sum(file.dim for file in files))
        self.dtype: np.dtype[Any] = np.dtype(np.float32)
        self.batch = BLOCK * max(1, READ_BYTES // (BLOCK * self.shape[1] * 4))

    def blocks(self) -> Iterator[tuple[slice, npt.NDArray[Any]]]:
        for start, x in ahead(self._batches(), depth=2):
            for at in range(0, len(x), BLOCK):
                yield slice(start + at, start + min(at + BLOCK, len(x))), x[at : at + BLOCK]

    def whole(self) -> npt.NDArray[Any]:
        out = np.empty(self.shape, dtype=self.dtype)
        for place, x in self.blocks():
            out[place] = x
        return out

    def part(self, rows: Ints) -> FileRows:
        parts, start = [], 0
        for one, places in self.parts:
            first, last = np.searchsorted(rows, (start, start + places.shape[1]))
            if last > first:
                parts.append((one, places[:, rows[first:last] - start]))
            start += places.shape[1]
        return FileRows(self.files, parts)

    def _batches(self) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
        """The rows in batches of whole blocks, with the number of the first."""
        base = 0
        for one, places in self.parts:
            for at in range(0, places.shape[1], self.batch):
                some = places[:, at : at + self.batch]
                x = [file.read_rows(rows, (one,))[0] for file, rows in zip(self.files, some, strict=True)]
                yield base + at, x[0] if len(x) == 1 else np.concatenate(x, axis=1)
            base += places.shape[1]


Rows = MatrixRows | FileRows


@dataclass(frozen=True)
class Moments:
    """Weighted number, mean and sum of squared distances from the mean of every feature, float64 (features,).

    `rounding` is the variance that rounding alone may have left in a feature.
    """

    total: float
    mean: Floats
    square: Floats
    rounding: Floats

    def joined(self, other: Moments) -> Moments:
        """Moments of both parts together, by the update of Chan, Golub and LeVeque (1983)."""
        total = self.total + other.total
        if total <= 0:
            return self
        apart, share = other.mean - self.mean, other.total / total
        square = self.square + other.square + apart**2 * (self.total * share)
        return Moments(total, self.mean + share * apart, square, np.maximum(self.rounding, other.rounding))

    def standard(self) -> tuple[Floats, Floats]:
        """Mean and standard deviation, float64 (features,).

        A feature that does not vary has scale 1, as in scikit-learn's `StandardScaler`: its coefficient is then held at
        zero by the penalty alone.
        """
        variance = self.square / self.total if self.total > 0 else np.zeros_like(self.square)
        return self.mean, np.where(variance <= self.rounding, 1.0, np.sqrt(np.maximum(variance, 0.0)))


class Tally:
    """Moments of rows that come block by block.

    Blocks are centred on the first one's mean before they are squared, so that a feature far from zero keeps its
    digits.
    """

    def __init__(self, features: int) -> None:
        self.total, self.first, self.second = 0.0, np.zeros(features), np.zeros(features)
        self.anchor: npt.NDArray[Any] | None = None

    def add(self, x: npt.NDArray[Any], weight: npt.NDArray[Any] | None = None) -> None:
        """Count a block, (n, features), its rows weighted by `weight`, (n,)."""
        if self.anchor is None:
            self.anchor = x.mean(axis=0, dtype=np.float64).astype(x.dtype)
        away = x - self.anchor
        w = np.ones(len(x), dtype=x.dtype) if weight is None else weight.astype(x.dtype)
        self.total += float(w.sum(dtype=np.float64))
        self.first += w @ away
        np.square(away, out=away)
        self.second += w @ away

    def moments(self) -> Moments:
        if self.anchor is None or self.total <= 0:
            return Moments(0.0, np.zeros_like(self.first), np.zeros_like(self.first), np.zeros_like(self.first))
        shift = self.first / self.total
        mean = self.anchor + shift
        # What is left of a constant feature is rounding: of the mean, and of the squares that were summed.
        eps = float(np.finfo(self.anchor.dtype).eps)
        rounding = (eps * np.abs(mean)) ** 2 * 10 + eps * 10 * shift**2
        return Moments(self.total, mean, self.second - self.total * shift**2, rounding)


def moments(rows: Rows) -> tuple[Floats, Floats]:
    """Mean and standard deviation of every feature, float64 (features,), in one sweep."""
    tally = Tally(rows.shape[1])
    for _, x in rows.blocks():
        tally.add(x)
    return tally.moments().standard()


def sigmoid(z: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """1 / (1 + exp(-z)), without overflow, in `z`'s own precision."""
    return 0.5 * (1.0 + np.tanh(0.5 * z))
