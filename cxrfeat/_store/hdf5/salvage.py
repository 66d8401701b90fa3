"""Finding the rows of a file that HDF5 itself can no longer open.

A file that was cut short is read as if zeros followed, so that what lies before the cut is found. And every file ends,
after the last byte that HDF5 knows of, in an index of where each chunk lies: with it rows are found even if HDF5's own
tree is damaged. Nothing is believed: a block counts only if its SHA-256 matches.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import math
import os
import struct
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from cxrfeat._store.hdf5.table import HDF5Table, is_hdf5, layout
from cxrfeat._store.protocols import Table
from cxrfeat._store.rows import BLOCK, Header, text_sha256
from cxrfeat.errors import EmbeddingFileError

MAGIC = b"CXRFINDX"
_END = struct.Struct("<Q8s")  # length of the JSON, MAGIC; the SHA-256 of the JSON lies before
_MAX_INDEX = 1 << 28


class Wreck:
    """A `Table` of a damaged file read by its recovery index: the same rows, without HDF5."""

    def __init__(self, path: Path, index: dict[str, Any], problem: str) -> None:
        self.path, self.problems = path, [problem]
        self.sha256: dict[str, str] = {}
        self._index, self._size = index["datasets"], path.stat().st_size
        passes, n, dim = self._check_shapes()
        self.block_sha256 = self._whole("block_sha256")
        self.header = Header(
            recipe=str(index["recipe"]),
            provenance=str(index["provenance"]),
            shape=(passes, n, dim),
            ids=self._whole("image_id"),
            image_sha256=self._whole("image_sha256"),
            failures=[(str(i), str(p), str(r)) for i, p, r in index["failures"]],
        )

    def read(self, pass_: int, block: int, out: npt.NDArray[np.float32]) -> None:
        """Read one pass of one block to `out`."""
        count = -(-self.header.shape[1] // BLOCK)
        out[...] = self._chunk("embeddings", pass_ * count + block)[0, : len(out)]

    def close(self) -> None:
        """Nothing stays open."""

    def _check_shapes(self) -> tuple[int, int, int]:
        """Return (passes, images, dim); an index that fits no file of this size is refused before it is followed."""
        passes, n, dim = (int(axis) for axis in self._index["embeddings"]["shape"])
        for name, (kind, shape, chunks) in layout(passes, n, dim).items():
            about = self._index[name]
            dtype = np.dtype(str(about["dtype"]))
            number = math.prod(-(-axis // max(chunk, 1)) for axis, chunk in zip(shape, chunks, strict=True))
            fits = n > 0 and dim > 0 and 0 < dtype.itemsize * math.prod(shape) <= self._size
            same = [*shape] == about["shape"] and [*chunks] == about["chunks"] and dtype.kind == np.dtype(kind).kind
            if not fits or not same or len(about["offsets"]) != number:
                raise EmbeddingFileError(f"{self.path} is damaged: its recovery index does not fit the file.")
        return passes, n, dim

    def _whole(self, name: str) -> npt.NDArray[Any]:
        about = self._index[name]
        shape, chunks = about["shape"], about["chunks"]
        out = np.zeros(shape, dtype=about["dtype"])
        grid = itertools.product(*(range(0, axis, chunk) for axis, chunk in zip(shape, chunks, strict=True)))
        for number, corner in enumerate(grid):
            there = tuple(slice(c, min(c + k, a)) for c, k, a in zip(corner, chunks, shape, strict=True))
            out[there] = self._chunk(name, number)[tuple(slice(0, s.stop - s.start) for s in there)]
        return out

    def _chunk(self, name: str, number: int) -> npt.NDArray[Any]:
        """Return one chunk; zeros where the file ends before it, so that its block does not match."""
        about = self._index[name]
        dtype = np.dtype(about["dtype"])
        size = dtype.itemsize * math.prod(about["chunks"])
        with self.path.open("rb") as file:
            file.seek(int(about["offsets"][number]))
            data = file.read(size).ljust(size, b"\0")
        return np.frombuffer(data, dtype=dtype).reshape(about["chunks"])


def index(path: Path, header: Header) -> bytes:
    """Return the bytes to put after the end of a finished HDF5 file: where its chunks lie, and what it says."""
    found: dict[str, Any] = {}
    with h5py.File(path, "r", locking=False) as file:
        for name in ("embeddings", "image_id", "image_sha256", "block_sha256"):
            dataset = file[name]
            places: dict[tuple[int, ...], int] = {}
            if dataset.chunks and dataset.size:
                dataset.id.chunk_iter(lambda chunk, places=places: places.update({chunk[0]: chunk[2]}))
            found[name] = {
                "dtype": dataset.dtype.str,
                "shape": list(dataset.shape),
                "chunks": list(dataset.chunks or dataset.shape),
                "offsets": [places[key] for key in sorted(places)],
            }
    text = {
        "datasets": found,
        "recipe": header.recipe,
        "provenance": header.provenance,
        "failures": [list(row) for row in header.failures],
    }
    data = json.dumps(text, separators=(",", ":"), ensure_ascii=True).encode()
    return data + hashlib.sha256(data).digest() + _END.pack(len(data), MAGIC)


def damage_outside(path: Path) -> str:
    """Say if a file ends as one with an index does, and the index is damaged."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - len(MAGIC)))
        broken = file.read() == MAGIC and read_index(path) is None
    return "the recovery index at its end is damaged; no row is" if broken else ""


def read_index(path: Path) -> dict[str, Any] | None:
    """Return the index at the end of a file; None if it is missing or damaged."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - _END.size))
        end = file.read(_END.size)
        if len(end) != _END.size or end[8:] != MAGIC:
            return None
        length = _END.unpack(end)[0]
        start = size - _END.size - 32 - length
        if length > _MAX_INDEX or start < 0:
            return None
        file.seek(start)
        data = file.read(length)
        if hashlib.sha256(data).digest() != file.read(32):
            return None
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def open_damaged(path: Path) -> Table:
    """Open a file by whatever way still leads to its rows, or raise an EmbeddingFileError."""
    try:
        table = HDF5Table(path)
        if text_sha256(table.header.recipe) == table.sha256["recipe"]:
            return table
        table.close()
        problem = f"{path} is damaged: its recipe does not match its hash."
    except EmbeddingFileError as error:
        problem = str(error)
        if not path.is_file() or (not is_hdf5(path) and read_index(path) is None):
            raise
    if (found := read_index(path)) is not None:
        try:
            return Wreck(path, found, problem)
        except (OSError, ValueError, KeyError, TypeError, IndexError, OverflowError) as error:
            raise EmbeddingFileError(f"{problem} Its recovery index is damaged too ({error}).") from error
    raw = Padded(path)
    file = HDF5Table(path, raw, raw.seek(0, os.SEEK_END))
    file.problems.insert(0, problem)
    return file


class Padded(io.FileIO):
    """A file that was cut short, as if zeros followed up to the length that its HDF5 superblock gives."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        head = self.read(48)
        # Superblock of version 2 or 3: the address of the end of the file is at byte 28.
        end = int.from_bytes(head[28:36], "little") if len(head) == 48 and head[8] in (2, 3) else 0
        self._end = min(max(end, path.stat().st_size), 1 << 50)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move; returns the place."""
        return super().seek(offset + self._end) if whence == os.SEEK_END else super().seek(offset, whence)

    def readinto(self, buffer: Any) -> int:
        """Read from the place on, zeros past the end."""
        view = memoryview(buffer).cast("B")
        count = super().readinto(view) or 0
        view[count:] = bytes(len(view) - count)
        super().seek(len(view) - count, os.SEEK_CUR)
        return len(view)
