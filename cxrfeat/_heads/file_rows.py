"""Rows that are read from embedding files, for a matrix that does not fit into memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cxrfeat._heads.solver import rows as solver_rows
from cxrfeat._heads.solver.rows import ahead
from cxrfeat._store import EmbeddingFile

READ_BYTES = 16 << 20
"""What is read at once."""


class FileRows:
    """Rows read from embedding files at every sweep.

    `parts` are a pass and its rows in each file, int64 (files, n); the parts follow each other. A thread reads ahead
    while the rows before are dealt with.
    """

    def __init__(self, files: Sequence[EmbeddingFile], parts: Sequence[tuple[int, npt.NDArray[np.int64]]]) -> None:
        self.files, self.parts = list(files), list(parts)
        self.shape = (sum(places.shape[1] for _, places in self.parts), sum(file.dim for file in files))
        self.dtype, self.block = np.dtype(np.float32), solver_rows.BLOCK
        self.batch = self.block * max(1, READ_BYTES // (self.block * self.shape[1] * 4))

    def blocks(self) -> Iterator[tuple[slice, npt.NDArray[Any]]]:
        """Every block once, read anew."""
        for start, x in ahead(self._batches()):
            for at in range(0, len(x), self.block):
                yield slice(start + at, start + min(at + self.block, len(x))), x[at : at + self.block]

    def whole(self) -> npt.NDArray[Any]:
        """All rows as one matrix."""
        out = np.empty(self.shape, dtype=self.dtype)
        for place, x in self.blocks():
            out[place] = x
        return out

    def part(self, rows: npt.NDArray[np.int64]) -> FileRows:
        """Some of the rows, from the same files."""
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
