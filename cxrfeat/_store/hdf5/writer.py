"""Writing an HDF5 file: first all but the embeddings, then these from the first row to the last.

What a file says of itself lies before its embeddings, so that one which was cut short can still be repaired. HDF5's own
checksums (Fletcher-32 on data, its metadata's own in this file version) are beside the blocks' SHA-256.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from cxrfeat._recipe import Recipe
from cxrfeat._store import disk
from cxrfeat._store.hdf5 import salvage
from cxrfeat._store.hdf5.table import MAX_TEXT, STORAGES, layout
from cxrfeat._store.rows import BLOCK, FORMAT, Failure, Header, blocks, digest, text_sha256
from cxrfeat.errors import EmbeddingFileError

LIBVER = ("v110", "v110")  # the oldest HDF5 whose whole metadata is checksummed, and that every HDF5 since 2016 reads


def write(path: Path, header: Header, stretches: Iterable[npt.NDArray[np.float32]]) -> None:
    """Write a new file with its recovery index, and bring it to the disk."""
    with disk.DiskFile(path) as raw:
        # No chunk cache: chunks are written whole and once, and lie on the disk in the order of writing.
        with h5py.File(raw, "w", libver=LIBVER, rdcc_nbytes=0) as file:
            table, rows = _begin(file, header), 0
            for embeddings in stretches:
                _add(file["embeddings"], table, embeddings.astype("<f4", copy=False), rows)
                rows += embeddings.shape[1]
                raw.check()
            if rows != header.shape[1]:
                raise EmbeddingFileError(f"{rows} rows were written where {header.shape[1]} were announced.")
            for block, part in blocks(rows):
                table[0, block] = digest(header.ids[part], header.image_sha256[part])
            file["block_sha256"][...] = table
            file.attrs.modify("content_sha256", _fixed(header.content_sha256(table)))
        raw.check()
        raw.seek(0, os.SEEK_END)
        raw.write(salvage.index(path, header))
        raw.sync()


def _begin(file: h5py.File, header: Header) -> npt.NDArray[np.uint8]:
    """Write all but the embeddings, with places for the hashes; return their table, which is still empty."""
    storage = Recipe.from_json(header.recipe).storage
    version = next(number for number, name in STORAGES.items() if name == storage)
    datasets = layout(*header.shape, storage)
    table = np.zeros(datasets["block_sha256"][1], dtype=np.uint8)
    _set(file, "format", FORMAT)
    file.attrs.create("format_version", version, dtype="<i8")
    for name, said in {"recipe": header.recipe, "provenance": header.provenance}.items():
        _set(file, name, said)
        _set(file, f"{name}_sha256", text_sha256(said))
    _set(file, "content_sha256", "0" * 64)
    text = h5py.string_dtype("utf-8", max(header.ids.dtype.itemsize, 1))
    beside = {"image_id": header.ids.astype(text), "image_sha256": header.image_sha256, "block_sha256": table}
    for name, values in beside.items():
        _, shape, chunks = datasets[name]
        _dataset(file, name, shape, values.dtype, chunks)[...] = values
    _write_failures(file, header.failures)
    kind, shape, chunks = datasets["embeddings"]
    _dataset(file, "embeddings", shape, kind, chunks)
    file.flush()
    return table


def _add(dataset: h5py.Dataset, table: npt.NDArray[np.uint8], embeddings: npt.NDArray[np.float32], start: int) -> None:
    """Add embeddings (passes, rows, dim) from row `start` on, whole blocks but for the last, and their hashes."""
    # All passes of a block lie together on the disk: what lies before a cut is whole rows.
    for block, part in blocks(embeddings.shape[1]):
        for pass_, rendering in enumerate(embeddings):
            dataset[pass_, start + part.start : start + part.stop] = rendering[part].astype(dataset.dtype, copy=False)
            table[1 + pass_, start // BLOCK + block] = digest(rendering[part])


def _set(file: h5py.File, name: str, text: str) -> None:
    if len(text.encode()) > MAX_TEXT:
        raise EmbeddingFileError(f"the {name} is {len(text):,} characters; a file holds at most {MAX_TEXT:,}.")
    file.attrs.create(name, _fixed(text))


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
    fields = zip(("image_id", "path", "reason"), lengths, strict=True)
    dtype = np.dtype([(name, h5py.string_dtype("utf-8", length)) for name, length in fields])
    dataset = _dataset(file, "failures", (len(failures),), dtype, (min(len(failures), BLOCK),))
    if failures:
        dataset[...] = np.array(rows, dtype=dtype)
