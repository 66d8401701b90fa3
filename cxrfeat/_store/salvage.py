"""Getting at the rows of a file that HDF5 itself can no longer open.

Two things help. A file that was cut short is read as if zeros followed, so that what stands before the cut can still be
found. And every file ends, after the last byte that HDF5 knows of, in an index of where each chunk lies: with it the
rows are found even if HDF5's own tree is damaged. Nothing is believed: a block counts only if its SHA-256 matches.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import struct
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from cxrfeat._recipe import Recipe
from cxrfeat._store import layout, schema
from cxrfeat._store.reader import EmbeddingFile
from cxrfeat.errors import EmbeddingFileError, RecipeError

MAGIC = b"CXRFINDX"
_END = struct.Struct("<Q8s")  # length of the JSON, MAGIC; the SHA-256 of the JSON stands before
_MAX_INDEX = 1 << 28


class Wreck:
    """A damaged file read by its index: the same rows as `EmbeddingFile` gives, without HDF5.

    Attributes
    ----------
    path, recipe, provenance_text, failed : as of EmbeddingFile
    problems : list of str
        Why it is read in this way.
    """

    def __init__(self, path: Path, index: dict[str, Any], problem: str) -> None:
        self.path, self.problems = path, [problem]
        self.recipe = Recipe.from_json(index["recipe"])
        self.provenance_text = str(index["provenance"])
        self.failed: list[layout.Failure] = [(str(i), str(p), str(r)) for i, p, r in index["failures"]]
        self._index = index["datasets"]
        self._size = path.stat().st_size
        self.passes, self._n, self.dim = (int(axis) for axis in self._index["embeddings"]["shape"])
        self.encoded_ids = self._whole("image_id")
        self._hashes = self._whole("image_sha256")
        self._table = self._whole("block_sha256")

    def __len__(self) -> int:
        return self._n

    def close(self) -> None:
        """Nothing stays open."""

    def image_sha256(self) -> npt.NDArray[np.uint8]:
        """Hashes of the image files' bytes, uint8 (n, 32)."""
        return self._hashes

    def block(self, number: int) -> layout.Rows:
        """Return one block of rows, all passes."""
        rows = slice(number * layout.BLOCK, min((number + 1) * layout.BLOCK, self._n))
        count = -(-self._n // layout.BLOCK)
        stacked = [self._chunk("embeddings", pass_ * count + number)[0] for pass_ in range(self.passes)]
        return layout.Rows(self.encoded_ids[rows], self._hashes[rows], np.stack(stacked)[:, : rows.stop - rows.start])

    def sound(self, number: int, rows: layout.Rows) -> bool:
        """Whether what `block` returned is what was written, by SHA-256."""
        return layout.sound(self._table[:, number], rows)

    def _whole(self, name: str) -> npt.NDArray[Any]:
        about = self._index[name]
        shape, chunks = about["shape"], about["chunks"]
        if int(np.prod(shape, dtype=object)) > self._size:
            raise EmbeddingFileError(f"{self.path} is damaged: the index has a /{name} larger than the file.")
        out = np.zeros(shape, dtype=about["dtype"])
        grid = [range(0, axis, chunk) for axis, chunk in zip(shape, chunks, strict=True)]
        for number, corner in enumerate(np.array(np.meshgrid(*grid, indexing="ij")).reshape(len(shape), -1).T):
            there = tuple(slice(c, min(c + k, a)) for c, k, a in zip(corner, chunks, shape, strict=True))
            out[there] = self._chunk(name, number)[tuple(slice(0, s.stop - s.start) for s in there)]
        return out

    def _chunk(self, name: str, number: int) -> npt.NDArray[Any]:
        """Return one chunk; zeros where the file ends before it, so that its block does not match."""
        about = self._index[name]
        dtype = np.dtype(about["dtype"])
        size = dtype.itemsize * int(np.prod(about["chunks"], dtype=object))
        if size > self._size:
            raise EmbeddingFileError(f"{self.path} is damaged: the index has a chunk larger than the file.")
        with self.path.open("rb") as file:
            file.seek(int(about["offsets"][number]))
            data = file.read(size).ljust(size, b"\0")
        return np.frombuffer(data, dtype=dtype).reshape(about["chunks"])


Damaged = EmbeddingFile | Wreck


def index(path: Path, card: layout.Card) -> bytes:
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
        "recipe": card.recipe,
        "provenance": card.provenance,
        "failures": [list(row) for row in card.failures],
    }
    data = json.dumps(text, separators=(",", ":"), ensure_ascii=True).encode()
    return data + hashlib.sha256(data).digest() + _END.pack(len(data), MAGIC)


def has_index(path: Path) -> bool:
    """Whether a file ends as one with an index does."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - len(MAGIC)))
        return file.read() == MAGIC


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
    found = json.loads(data)
    return found if isinstance(found, dict) else None


def open_damaged(path: Path) -> Damaged:
    """Open a file by whatever way still leads to its rows.

    Raises
    ------
    NotFoundError
        If it is not there.
    EmbeddingFileError
        If nothing leads to its rows.
    """
    try:
        return EmbeddingFile.open_damaged(path)
    except EmbeddingFileError as error:
        problem = str(error)
        if not path.is_file() or (not schema.is_hdf5(path) and read_index(path) is None):
            raise
    if (found := read_index(path)) is not None:
        try:
            return Wreck(path, found, problem)
        except (EmbeddingFileError, RecipeError, ValueError, KeyError, TypeError, IndexError) as error:
            raise EmbeddingFileError(f"{problem} Its index is of no use either: {error}") from error
    raw = Padded(path)
    file = EmbeddingFile.open_damaged(path, raw, raw.seek(0, os.SEEK_END))
    file.problems.insert(0, problem)
    return file


class Padded(io.RawIOBase):
    """A file that was cut short, as if zeros followed up to the length that its HDF5 superblock gives."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._raw = path.open("rb")
        head = self._raw.read(48)
        # Superblock of version 2 or 3: the address of the end of the file stands at byte 28.
        self._end = int.from_bytes(head[28:36], "little") if len(head) == 48 and head[8] in (2, 3) else 0
        self._end = min(max(self._end, os.fstat(self._raw.fileno()).st_size), 1 << 50)
        self._at = 0

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move; returns the place."""
        self._at = offset + (0, self._at, self._end)[whence]
        return self._at

    def tell(self) -> int:
        """Return the place."""
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Read from the place on, zeros past the end."""
        self._raw.seek(self._at)
        data = self._raw.read(len(buffer))
        buffer[: len(data)] = data
        buffer[len(data) :] = bytes(len(buffer) - len(data))
        self._at += len(buffer)
        return len(buffer)

    def close(self) -> None:
        """Close the file."""
        self._raw.close()
        super().close()
