"""Embeddings as rows to learn from: a matrix in memory, or a file read block by block.

A block has at most `BLOCK` rows and always begins at the same row, wherever the rows come from and however much is
read at once. Sums over blocks are therefore the same to the last bit in memory and from a file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from cxrfeat._store import EmbeddingFile

BLOCK = 2048
"""Rows of a block: 8 MB of 1,024 float32, small enough that a second product finds it in the cache."""


class Rows(Protocol):
    """Rows to sweep over, in blocks; the order is the same in every sweep."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and features."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 or float64."""
        ...

    def blocks(self) -> Iterator[tuple[slice, npt.NDArray[Any]]]:
        """Every block once, with the place of its rows."""
        ...

    def take(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Copy some rows, whose numbers rise, into a matrix."""
        ...


class MatrixRows:
    """Rows of a matrix in memory; nothing is copied.

    Parameters
    ----------
    x : numpy.ndarray
        (rows, features), float32 or float64, C-contiguous.
    segment : int, optional
        Blocks begin anew every so many rows: the number of images where the rows are passes over them.
    """

    def __init__(self, x: npt.NDArray[Any], segment: int | None = None) -> None:
        self.x = x
        self.segment = segment or len(x)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and features."""
        return self.x.shape[0], self.x.shape[1]

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 or float64."""
        return self.x.dtype

    def blocks(self) -> Iterator[tuple[slice, npt.NDArray[Any]]]:
        """Every block once, as a view."""
        for place in _places(len(self.x), self.segment):
            yield place, self.x[place]

    def take(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Copy some rows."""
        return self.x[rows]


class FileRows:
    """Rows read from embedding files at every sweep, for a matrix that does not fit.

    Parameters
    ----------
    files : sequence of EmbeddingFile
        Open files, whose embeddings are joined side by side.
    image_ids : numpy.ndarray
        Images, in the order of their rows.
    passes : sequence of int
        Renderings; the rows of one follow those of the one before.
    memory : int
        Bytes to read at once; rounded to whole blocks, at least one.
    """

    def __init__(
        self, files: Sequence[EmbeddingFile], image_ids: npt.NDArray[np.str_], passes: Sequence[int], memory: int
    ) -> None:
        self.files, self.image_ids, self.passes = list(files), image_ids, tuple(passes)
        self.dim = sum(file.dim for file in files)
        self.batch = BLOCK * max(1, memory // (BLOCK * self.dim * 4))

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and features."""
        return len(self.passes) * len(self.image_ids), self.dim

    @property
    def dtype(self) -> np.dtype[Any]:
        """Always float32."""
        return np.dtype(np.float32)

    def blocks(self) -> Iterator[tuple[slice, npt.NDArray[Any]]]:
        """Every block once, read anew."""
        for number, rendering in enumerate(self.passes):
            base = number * len(self.image_ids)
            readers = [file.batches(self.image_ids, (rendering,), self.batch) for file in self.files]
            for parts in zip(*readers, strict=True):
                start = base + parts[0][0].start
                joined = [part[1][0] for part in parts]
                x = joined[0] if len(joined) == 1 else np.concatenate(joined, axis=1)
                for at in range(0, len(x), BLOCK):
                    yield slice(start + at, start + min(at + BLOCK, len(x))), x[at : at + BLOCK]

    def take(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Copy some rows, in one sweep."""
        out = np.empty((len(rows), self.dim), dtype=np.float32)
        for place, x in self.blocks():
            first, last = np.searchsorted(rows, (place.start, place.stop))
            out[first:last] = x[rows[first:last] - place.start]
        return out


def _places(n: int, segment: int) -> Iterator[slice]:
    for base in range(0, n, segment):
        end = min(base + segment, n)
        for start in range(base, end, BLOCK):
            yield slice(start, min(start + BLOCK, end))
