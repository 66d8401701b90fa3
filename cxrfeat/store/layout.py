"""Format version 1 of the embedding file: names, digests, and how one is written (docs/embedding-file.md).

Rows stand in blocks of 256. Each block has a SHA-256 over its ids and image hashes, and one over each pass of its
embeddings; one more over the table of these, the recipe and the failures stands for the whole content. HDF5's own
checksums (Fletcher-32 on data, its metadata's own in this file version) are what an ordinary read relies on; the
SHA-256s are what `verify` and `repair` do.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from cxrfeat.errors import EmbeddingFileError

FORMAT, FORMAT_VERSION = "cxrfeat-embeddings", 1
BLOCK = 256  # rows
LIBVER = ("v110", "v110")  # the oldest HDF5 whose whole metadata is checksummed, and that every HDF5 since 2016 reads
MAX_TEXT = 1 << 20  # bytes of a recipe, a provenance
MAX_ID, MAX_PATH, MAX_REASON = 1024, 4096, 1000  # bytes

Failure = tuple[str, str, str]  # image_id, path, reason


@dataclass(frozen=True)
class Rows:
    """Some rows of an embedding file.

    Attributes
    ----------
    ids : ndarray of bytes, (n,)
        Image ids, UTF-8.
    image_sha256 : uint8 (n, 32)
        Hashes of the image files.
    embeddings : float32 (passes, n, dim)
        The embeddings.
    """

    ids: npt.NDArray[np.bytes_]
    image_sha256: npt.NDArray[np.uint8]
    embeddings: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.ids)


def blocks(n: int) -> Iterator[tuple[int, slice]]:
    """Number and rows of each block of a file of `n` rows."""
    for block, start in enumerate(range(0, n, BLOCK)):
        yield block, slice(start, min(start + BLOCK, n))


def digest(*arrays: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """SHA-256 over the bytes of arrays in C order, little-endian as they are stored: uint8 (32,)."""
    found = hashlib.sha256()
    for array in arrays:
        # The view as bytes: hashlib takes no array of fixed-length text.
        found.update(np.ascontiguousarray(array).view(np.uint8).data)
    return np.frombuffer(found.digest(), dtype=np.uint8)


def content_sha256(
    recipe: str, shape: tuple[int, int, int], failures: Sequence[Failure], table: npt.NDArray[np.uint8]
) -> str:
    """SHA-256, hexadecimal, that stands for everything in a file but its provenance.

    Two files with the same one hold the same rows in the same order.
    """
    rows = json.dumps([list(row) for row in failures], ensure_ascii=True, separators=(",", ":"))
    text = f"{FORMAT}\n{FORMAT_VERSION}\n{recipe}\n{shape[0]} {shape[1]} {shape[2]}\n{rows}\n"
    return hashlib.sha256(text.encode() + np.ascontiguousarray(table).tobytes()).hexdigest()


def text_sha256(text: str) -> str:
    """SHA-256 of a text's UTF-8, hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def encode_ids(image_ids: Sequence[str] | npt.NDArray[np.str_]) -> npt.NDArray[np.bytes_]:
    """Ids as fixed-length UTF-8.

    Raises
    ------
    EmbeddingFileError
        If an id is empty, too long, or ends in NUL, which could not be told from padding.
    """
    encoded = [str(i).encode() for i in image_ids]
    for text in encoded:
        if not text or len(text) > MAX_ID or b"\0" in text:
            raise EmbeddingFileError(
                f"image_id {text[:40].decode(errors='replace')!r} cannot be stored: an id is 1 to {MAX_ID} bytes of "
                "UTF-8 without NUL."
            )
    return np.array(encoded, dtype=f"S{max(map(len, encoded), default=1)}")


def decode_texts(encoded: npt.NDArray[np.bytes_]) -> npt.NDArray[np.str_]:
    """Fixed-length UTF-8 as str. Plain ASCII, which nearly all ids are, is five times as fast."""
    encoded = np.ascontiguousarray(encoded)
    if encoded.view(np.uint8).max(initial=0) < 128:
        return encoded.astype(np.str_)
    return np.char.decode(encoded, "utf-8")


class Sheet:
    """A file being written: rows go in from the first to the last, in whole blocks but for the end.

    Parameters
    ----------
    file : h5py.File
        An empty file, open for writing.
    shape : tuple of int
        (passes, images, dim).
    id_bytes : int
        Length of the longest id, in bytes.
    """

    def __init__(self, file: h5py.File, shape: tuple[int, int, int], id_bytes: int) -> None:
        passes, n, dim = shape
        self._file, self._shape, self._at = file, shape, 0
        count = -(-n // BLOCK)
        rows = min(n, 16 * BLOCK)
        self._ids = _dataset(file, "image_id", (n,), h5py.string_dtype("utf-8", max(id_bytes, 1)), (rows,))
        self._hashes = _dataset(file, "image_sha256", (n, 32), "u1", (rows, 32))
        self._embeddings = _dataset(file, "embeddings", shape, "<f4", (1, min(n, BLOCK), dim))
        self._table = np.zeros((passes + 1, count, 32), dtype=np.uint8)

    def write(self, rows: Rows) -> None:
        """Add rows after those there are."""
        ids = rows.ids.astype(self._ids.dtype)
        embeddings = rows.embeddings.astype("<f4", copy=False)
        there = slice(self._at, self._at + len(rows))
        self._ids[there], self._hashes[there] = ids, rows.image_sha256
        for block, part in blocks(len(rows)):
            number = self._at // BLOCK + block
            self._table[0, number] = digest(ids[part], rows.image_sha256[part])
            for pass_ in range(self._shape[0]):
                self._table[1 + pass_, number] = digest(embeddings[pass_, part])
        for pass_ in range(self._shape[0]):
            self._embeddings[pass_, there] = embeddings[pass_]
        self._at = there.stop

    def finish(self, recipe: str, provenance: str, failures: Sequence[Failure]) -> None:
        """Write what stands beside the rows."""
        assert self._at == self._shape[1]
        table = _dataset(self._file, "block_sha256", self._table.shape, "u1", (1, min(self._table.shape[1], 4096), 32))
        table[...] = self._table
        _write_failures(self._file, failures)
        content = content_sha256(recipe, self._shape, failures, self._table)
        for name, text in {
            "format": FORMAT,
            "recipe": recipe,
            "recipe_sha256": text_sha256(recipe),
            "provenance": provenance,
            "provenance_sha256": text_sha256(provenance),
            "content_sha256": content,
        }.items():
            data = text.encode()
            if len(data) > MAX_TEXT:
                raise EmbeddingFileError(f"the {name} is {len(data):,} bytes; a file holds at most {MAX_TEXT:,}.")
            # Fixed length, so that a reader knows the size before it takes the memory.
            self._file.attrs.create(name, np.array(data, dtype=h5py.string_dtype("utf-8", max(len(data), 1))))
        self._file.attrs.create("format_version", FORMAT_VERSION, dtype="<i8")


def _dataset(file: h5py.File, name: str, shape: tuple[int, ...], dtype: Any, chunks: tuple[int, ...]) -> h5py.Dataset:
    if 0 in shape:  # nothing to store, and HDF5 has no empty chunk
        return file.create_dataset(name, shape, dtype)
    return file.create_dataset(name, shape, dtype, chunks=chunks, fletcher32=True)


def _write_failures(file: h5py.File, failures: Sequence[Failure]) -> None:
    columns = list(zip(*[[text.encode() for text in row] for row in failures], strict=True)) or [(), (), ()]
    lengths = [max(map(len, column), default=1) or 1 for column in columns]
    dtype = np.dtype(
        [
            (name, h5py.string_dtype("utf-8", length))
            for name, length in zip(("image_id", "path", "reason"), lengths, strict=True)
        ]
    )
    dataset = _dataset(file, "failures", (len(failures),), dtype, (min(len(failures), BLOCK),))
    if failures:
        dataset[...] = np.array([tuple(text.encode() for text in row) for row in failures], dtype=dtype)


def clip(text: str, size: int) -> str:
    """Return a text cut to `size` bytes of UTF-8, NUL shown as a space."""
    return text.replace("\0", " ").encode()[:size].decode(errors="ignore")
