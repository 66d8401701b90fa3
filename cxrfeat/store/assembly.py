"""Putting rows from several places into one new embedding file, and giving it its name.

Rows are gathered a stretch at a time, so that memory stays bounded whatever the order: for each stretch of the new file
every source is read once at most, and not at all where it has no row there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

from cxrfeat.errors import EmbeddingFileError
from cxrfeat.store import disk, layout, parts
from cxrfeat.store.layout import BLOCK, Failure, Rows
from cxrfeat.store.lock import Lock
from cxrfeat.store.reader import EmbeddingFile
from cxrfeat.store.recipe import Recipe

STRETCH = 128 << 20  # bytes of embeddings gathered at a time
Source = EmbeddingFile | parts.Part | None


def draft(file: Path) -> Path:
    """Where a file stands until it is whole."""
    return file.with_name(file.name + ".part")


def publish(
    path: Path,
    recipe: Recipe,
    provenance: str,
    shape: tuple[int, int, int],
    rows: Iterator[Rows],
    failures: Sequence[Failure],
    lock: Lock,
) -> None:
    """Write a file beside `path`, check it, bring it to the disk, and let it take `path`'s place.

    Parameters
    ----------
    path : pathlib.Path
        The embedding file.
    recipe, provenance : Recipe, str
        What it says of itself; the provenance as JSON.
    shape : tuple of int
        (passes, images, dim).
    rows : iterator of Rows
        The rows, whole blocks at a time but for the last.
    failures : sequence of (image_id, path, reason)
        Images that could not be used.
    lock : Lock
        Held; looked at once more before the file takes its place.
    """
    part = draft(path)
    disk.remove(part)
    try:
        _write(part, recipe, provenance, shape, rows, failures)
        _check(part)
        lock.check()
        disk.system.replace(part, path)
    except BaseException:
        with suppress(OSError):  # it is removed before the next attempt in any case
            disk.remove(part)
        raise
    disk.system.sync_folder(path.parent)


def _write(
    part: Path,
    recipe: Recipe,
    provenance: str,
    shape: tuple[int, int, int],
    rows: Iterator[Rows],
    failures: Sequence[Failure],
) -> None:
    first = next(rows, None)
    with disk.DiskFile(part) as raw:
        with h5py.File(raw, "w", libver=layout.LIBVER) as file:
            sheet = layout.Sheet(file, shape, first.ids.dtype.itemsize if first else 1)
            while first is not None:
                sheet.write(first)
                raw.check()
                first = next(rows, None)
            sheet.finish(recipe.to_json(), provenance, failures)
        raw.sync()


def gather(
    sources: Sequence[Source], places: Sequence[tuple[int, int]], id_bytes: int, shape: tuple[int, int, int]
) -> Iterator[Rows]:
    """Yield the rows at `places`, (source, row) each, in order, in stretches of whole blocks.

    `id_bytes` is the length of the longest id, `shape` the new file's (passes, images, dim).

    Raises
    ------
    EmbeddingFileError
        If a row is damaged where it stands.
    """
    where = np.array(places, dtype=np.int64).reshape(-1, 2)
    passes, _, dim = shape
    step = max(1, STRETCH // (4 * passes * dim * BLOCK)) * BLOCK
    for start in range(0, len(where), step):
        here = where[start : start + step]
        out = Rows(
            np.empty(len(here), dtype=f"S{id_bytes}"),
            np.empty((len(here), 32), dtype=np.uint8),
            np.empty((passes, len(here), dim), dtype=np.float32),
        )
        for number in np.unique(here[:, 0]).tolist():
            targets = (here[:, 0] == number).nonzero()[0]
            _copy(sources[number], here[targets, 1], out, targets)
        yield out


def _copy(source: Source, rows: npt.NDArray[np.int64], out: Rows, targets: npt.NDArray[np.int64]) -> None:
    """Copy `rows` of a source to the places `targets` of `out`, checked."""
    if isinstance(source, parts.Part):
        _put(parts.load(source), rows, out, targets)
        return
    assert source is not None
    blocks = rows // BLOCK
    for block in np.unique(blocks).tolist():
        found = source.block(block)
        if not source.sound(block, found):
            raise EmbeddingFileError(
                f"{source.path} is damaged: rows {block * BLOCK} to {block * BLOCK + len(found) - 1} do not match "
                f"their SHA-256. `cxrfeat cache repair {source.path}` keeps what is sound."
            )
        here = blocks == block
        _put(found, rows[here] - block * BLOCK, out, targets[here])


def _put(found: Rows, rows: npt.NDArray[np.int64], out: Rows, targets: npt.NDArray[np.int64]) -> None:
    out.ids[targets] = found.ids[rows]
    out.image_sha256[targets] = found.image_sha256[rows]
    out.embeddings[:, targets] = found.embeddings[:, rows]


def _check(path: Path) -> None:
    """Raise unless a file just written reads back as what was meant."""
    with EmbeddingFile.open(path) as file:
        for block, _ in layout.blocks(len(file)):
            if not file.sound(block, file.block(block)):
                raise EmbeddingFileError(f"{path} was not written as it was meant; check the disk and run again.")
