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


def finite(embeddings: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Whether all of an image's values are finite, bool (n,), for embeddings (passes, n, dim)."""
    return np.asarray(np.isfinite(embeddings).all(axis=(0, 2)))


def check_finite(ids: Sequence[str], embeddings: npt.NDArray[np.float32]) -> None:
    """Raise an EmbeddingFileError that names the images whose embeddings (passes, n, dim) hold NaN or infinity."""
    good = finite(embeddings)
    if not good.all():
        names = [ids[i] for i in np.flatnonzero(~good).tolist()]
        some = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        raise EmbeddingFileError(
            f"{len(names)} of {len(ids)} embeddings hold NaN or infinity: {some}. Look at these images and the weights."
        )


def encode_ids(image_ids: Sequence[str] | npt.NDArray[np.str_]) -> npt.NDArray[np.bytes_]:
    """Ids as fixed-length UTF-8.

    Raises
    ------
    EmbeddingFileError
        If an id is empty, too long, or ends in NUL, which could not be told from padding.
    """
    width = 1
    for image_id in image_ids:
        text = str(image_id).encode()
        width = max(width, len(text))
        if not text or len(text) > MAX_ID or b"\0" in text:
            raise EmbeddingFileError(
                f"image_id {text[:40].decode(errors='replace')!r} cannot be stored: an id is 1 to {MAX_ID} bytes of "
                "UTF-8 without NUL."
            )
    return np.fromiter((str(i).encode() for i in image_ids), f"S{width}", len(image_ids))


def decode_texts(encoded: npt.NDArray[np.bytes_]) -> npt.NDArray[np.str_]:
    """Fixed-length UTF-8 as str. Plain ASCII, which nearly all ids are, is five times as fast."""
    encoded = np.ascontiguousarray(encoded)
    if encoded.view(np.uint8).max(initial=0) < 128:
        return encoded.astype(np.str_)
    return np.char.decode(encoded, "utf-8")


@dataclass(frozen=True)
class Card:
    """What a file says beside its embeddings.

    Attributes
    ----------
    recipe, provenance : str
        JSON texts.
    shape : tuple of int
        (passes, images, dim).
    ids : ndarray of bytes, (images,)
        Image ids, UTF-8.
    image_sha256 : uint8 (images, 32)
        Hashes of the image files.
    failures : sequence of (image_id, path, reason)
        Images that could not be used.
    """

    recipe: str
    provenance: str
    shape: tuple[int, int, int]
    ids: npt.NDArray[np.bytes_]
    image_sha256: npt.NDArray[np.uint8]
    failures: Sequence[Failure]


class Sheet:
    """A file being written: first all that stands beside the embeddings, then these from the first row to the last.

    What a file says of itself thus lies before its embeddings, so that one which was cut short can still be mended.

    Parameters
    ----------
    file : h5py.File
        An empty file, open for writing.
    card : Card
        What it says.
    """

    def __init__(self, file: h5py.File, card: Card) -> None:
        self._file, self._card, self._at = file, card, 0
        passes, n, dim = card.shape
        count = -(-n // BLOCK)
        many = min(n, 16 * BLOCK)
        longest = max(card.ids.dtype.itemsize, 1)
        self._table = np.zeros((passes + 1, count, 32), dtype=np.uint8)
        self._set("format", FORMAT)
        file.attrs.create("format_version", FORMAT_VERSION, dtype="<i8")
        self._set("recipe", card.recipe)
        self._set("recipe_sha256", text_sha256(card.recipe))
        self._set("provenance", card.provenance)
        self._set("provenance_sha256", text_sha256(card.provenance))
        self._set("content_sha256", "0" * 64)
        text = h5py.string_dtype("utf-8", longest)
        _dataset(file, "image_id", (n,), text, (many,))[...] = card.ids.astype(text)
        _dataset(file, "image_sha256", (n, 32), "u1", (many, 32))[...] = card.image_sha256
        self._stored = _dataset(file, "block_sha256", self._table.shape, "u1", (1, min(count, 4096), 32))
        self._stored[...] = self._table
        _write_failures(file, card.failures)
        self._embeddings = _dataset(file, "embeddings", card.shape, "<f4", (1, min(n, BLOCK), dim))
        file.flush()

    def write(self, embeddings: npt.NDArray[np.float32]) -> None:
        """Add embeddings (passes, rows, dim) after those there are: whole blocks, but for the last."""
        embeddings = embeddings.astype("<f4", copy=False)
        first, start = self._at // BLOCK, self._at
        # All passes of a block lie together on the disk: what stands before a cut is whole rows.
        for block, part in blocks(embeddings.shape[1]):
            for pass_, rendering in enumerate(embeddings):
                self._embeddings[pass_, start + part.start : start + part.stop] = rendering[part]
                self._table[1 + pass_, first + block] = digest(rendering[part])
        self._at += embeddings.shape[1]

    def finish(self) -> None:
        """Write the hashes, in the places kept for them."""
        card = self._card
        if self._at != card.shape[1]:
            raise EmbeddingFileError(f"{self._at} rows were written where {card.shape[1]} were announced.")
        for block, part in blocks(self._at):
            self._table[0, block] = digest(card.ids[part], card.image_sha256[part])
        self._stored[...] = self._table
        self._file.attrs.modify(
            "content_sha256", _fixed(content_sha256(card.recipe, card.shape, card.failures, self._table))
        )

    def _set(self, name: str, text: str) -> None:
        if len(text.encode()) > MAX_TEXT:
            raise EmbeddingFileError(f"the {name} is {len(text):,} characters; a file holds at most {MAX_TEXT:,}.")
        self._file.attrs.create(name, _fixed(text))


def sound(table: npt.NDArray[np.uint8], rows: Rows) -> bool:
    """Whether one block's rows match its column of `block_sha256`, uint8 (1 + passes, 32)."""
    found = [digest(rows.ids, rows.image_sha256), *(digest(rendering) for rendering in rows.embeddings)]
    return bool((np.stack(found) == table).all())


def _fixed(text: str) -> npt.NDArray[Any]:
    """Return a text as an attribute's value of fixed length, so that a reader knows its size before it reads it."""
    data = text.encode()
    return np.array(data, dtype=h5py.string_dtype("utf-8", max(len(data), 1)))


def _dataset(file: h5py.File, name: str, shape: tuple[int, ...], dtype: Any, chunks: tuple[int, ...]) -> h5py.Dataset:
    if 0 in shape:  # nothing to store, and HDF5 has no empty chunk
        return file.create_dataset(name, shape, dtype)
    return file.create_dataset(name, shape, dtype, chunks=chunks, fletcher32=True)


def _write_failures(file: h5py.File, failures: Sequence[Failure]) -> None:
    rows = [tuple(text.encode() for text in row) for row in failures]
    columns = list(zip(*rows, strict=True)) or [(), (), ()]
    lengths = [max(map(len, column), default=1) or 1 for column in columns]
    dtype = np.dtype(
        [
            (name, h5py.string_dtype("utf-8", length))
            for name, length in zip(("image_id", "path", "reason"), lengths, strict=True)
        ]
    )
    dataset = _dataset(file, "failures", (len(failures),), dtype, (min(len(failures), BLOCK),))
    if failures:
        dataset[...] = np.array(rows, dtype=dtype)


def clip(text: str, size: int) -> str:
    """Return a text cut to `size` bytes of UTF-8, NUL shown as a space."""
    return text.replace("\0", " ").encode()[:size].decode(errors="ignore")
