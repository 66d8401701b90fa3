"""Putting rows from several places into one new embedding file, and giving it its name.

Rows are gathered a stretch at a time, so that memory stays bounded whatever the order: for each stretch of the new file
every source is read once at most, and not at all where it has no row there. Stretches are short where rows stand nearly
in the order that is wanted, as after any extraction, and longer where short ones would read the sources many times.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import h5py
import numpy as np
import numpy.typing as npt

from cxrfeat._progress import Progress, silent
from cxrfeat._store import disk, layout, parts, salvage
from cxrfeat._store.layout import BLOCK, Card, Rows
from cxrfeat._store.lock import Lock
from cxrfeat._store.reader import EmbeddingFile
from cxrfeat.errors import EmbeddingFileError

STRETCHES = (1 << 20, 128 << 20)
"""Bytes of embeddings gathered at a time: where rows stand in order, and where they do not."""

READ_AGAIN = 2
"""How often the sources may be read, on average, before short stretches are too short."""


class Blocks(Protocol):
    """A file whose rows are read a block at a time: an EmbeddingFile, or what is left of one."""

    path: Path

    def block(self, number: int) -> Rows:
        """Return one block of rows, all passes."""
        ...

    def sound(self, number: int, rows: Rows) -> bool:
        """Whether what `block` returned is what was written."""
        ...


Source = Blocks | parts.Part | None


@dataclass(frozen=True)
class Plan:
    """A file to be made of rows from several places.

    Attributes
    ----------
    card : Card
        What it says beside its embeddings.
    sources : sequence of Source
        Where rows come from.
    places : int64 (images, 2)
        For each row of the new file, the number of its source and its row there.
    """

    card: Card
    sources: Sequence[Source]
    places: npt.NDArray[np.int64]


def draft(file: Path, token: str) -> Path:
    """Where a file stands until it is whole, written by the holder of the lock with this token."""
    return file.with_name(f"{file.name}.{token}.part")


def drafts(file: Path) -> list[Path]:
    """Every draft of a file that lies beside it, whoever wrote it."""
    return [path for pattern in (".part", ".*.part") for path in file.parent.glob(glob.escape(file.name) + pattern)]


def publish(path: Path, plan: Plan, lock: Lock, progress: Progress = silent) -> None:
    """Write a file beside `path`, check it, bring it to the disk, and let it take `path`'s place.

    `lock` is held, and looked at once more before the file takes its place.

    Raises
    ------
    EmbeddingFileError
        If a row is damaged where it stands, or the disk cannot be written; `path` is untouched.
    """
    for left in drafts(path):
        disk.remove(left)
    part = draft(path, lock.token)
    try:
        _write(part, plan, progress)
        _check(part)
        lock.publish(part, path)
    except BaseException:
        with suppress(OSError):  # it is removed before the next attempt in any case
            disk.remove(part)
        raise
    disk.system.sync_folder(path.parent)


def _write(part: Path, plan: Plan, progress: Progress) -> None:
    with disk.DiskFile(part) as raw:
        # No chunk cache: chunks are written whole and once, and lie on the disk in the order of writing.
        with h5py.File(raw, "w", libver=layout.LIBVER, rdcc_nbytes=0) as file:
            sheet = layout.Sheet(file, plan.card)
            done = 0
            for embeddings in _gather(plan):
                sheet.write(embeddings)
                raw.check()
                done += embeddings.shape[1]
                progress(done, plan.card.shape[1])
            sheet.finish()
        raw.check()
        raw.seek(0, os.SEEK_END)
        raw.write(salvage.index(part, plan.card))
        raw.sync()


def _gather(plan: Plan) -> Iterator[npt.NDArray[np.float32]]:
    """Yield the embeddings (passes, rows, dim) of a new file, in order, in stretches of whole blocks."""
    passes, n, dim = plan.card.shape
    step = _step(plan)
    room = np.empty((passes, min(step, n), dim), dtype=np.float32)  # one for all: who takes a stretch copies it
    for start in range(0, n, step):
        here = plan.places[start : start + step]
        out = room[:, : len(here)]
        ids = plan.card.ids[start : start + step]
        for number in np.unique(here[:, 0]).tolist():
            targets = (here[:, 0] == number).nonzero()[0]
            _copy(plan.sources[number], here[targets, 1], out, targets, ids[targets])
        yield out


def _step(plan: Plan) -> int:
    """Rows gathered at a time: whole blocks."""
    passes, n, dim = plan.card.shape
    short, long = (max(1, size // (4 * passes * dim * BLOCK)) * BLOCK for size in STRETCHES)
    # Of a file single blocks are read, a part is always read whole.
    whole = np.array([isinstance(source, parts.Part) for source in plan.sources], bool)
    costs = [-(-len(s.rows) // BLOCK) if isinstance(s, parts.Part) else 1 for s in plan.sources]
    number, row = plan.places.T
    units, unit = np.unique((number << 32) + np.where(whole[number], 0, row // BLOCK), return_inverse=True)
    cost = np.array(costs, np.int64)[units >> 32]
    readings = np.unique(np.arange(n) // short * len(units) + unit) % max(len(units), 1)
    return short if cost[readings].sum() <= READ_AGAIN * cost.sum() else long


def _copy(
    source: Source,
    rows: npt.NDArray[np.int64],
    out: npt.NDArray[np.float32],
    targets: npt.NDArray[np.int64],
    ids: npt.NDArray[np.bytes_],
) -> None:
    """Copy the embeddings of a source's `rows` to the places `targets` of `out`, checked."""
    if isinstance(source, parts.Part):
        _put(parts.load(source), rows, out, targets, ids)
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
        _put(found, rows[here] - block * BLOCK, out, targets[here], ids[here])


def _put(
    found: Rows,
    rows: npt.NDArray[np.int64],
    out: npt.NDArray[np.float32],
    targets: npt.NDArray[np.int64],
    ids: npt.NDArray[np.bytes_],
) -> None:
    # Rows are joined by id, never by position: a row that is not the one meant stops everything.
    if (found.ids[rows] != ids).any():
        raise EmbeddingFileError(f"image {ids[0].decode(errors='replace')!r} is not where its row was found before.")
    out[:, targets] = found.embeddings[:, rows]


def _check(path: Path) -> None:
    """Raise unless a file just written reads back as what was meant."""
    with EmbeddingFile.open(path) as file:
        for block, _ in layout.blocks(len(file)):
            if not file.sound(block, file.block(block)):
                raise EmbeddingFileError(f"{path} was not written as it was meant; check the disk and run again.")
