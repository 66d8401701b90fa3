"""Putting rows from several places into one new embedding file, and giving it its name.

Rows are gathered a stretch at a time, so that memory stays bounded whatever the order: for each stretch of the new file
every source is read once at most, and not at all where it has no row there. Stretches are short where rows come nearly
in the order that is wanted, as after any extraction, and longer where short ones would read the sources many times.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cxrfeat import _machine as machine
from cxrfeat._progress import Progress, silent
from cxrfeat._store import disk, names
from cxrfeat._store.embedding_file import EmbeddingFile, open_damaged
from cxrfeat._store.journal import Segment
from cxrfeat._store.lock import Lock
from cxrfeat._store.protocols import store_of
from cxrfeat._store.rows import BLOCK, Header, Rows, ahead, blocks, damaged
from cxrfeat.errors import EmbeddingFileError

STRETCHES = (1 << 20, 64 << 20)
"""Bytes of embeddings gathered at a time, where rows come in order and where they do not; twice as many are held."""

READ_AGAIN = 2  # how often the sources may be read, on average, before short stretches are too short

Source = EmbeddingFile | Segment | None
Places = npt.NDArray[np.int64]


def publish(
    path: Path, header: Header, sources: Sequence[Source], places: Places, lock: Lock, progress: Progress = silent
) -> None:
    """Write a file beside `path`, check it, bring it to the disk, and let it take `path`'s place in one step.

    `places`, int64 (images, 2), has for each row of the new file the number of its source and its row there.
    """
    for left in names.drafts(path):
        disk.remove(left)
    draft = names.draft(path, lock.token)
    with lock.publishing(draft, path):
        # The next stretch is read and checked while one is hashed and written.
        with closing(ahead(_gather(header, sources, places, progress))) as stretches:
            store_of(path).write(draft, header, stretches)
        _check(path, draft)


def _gather(
    header: Header, sources: Sequence[Source], places: Places, progress: Progress
) -> Iterator[npt.NDArray[np.float32]]:
    """Yield the embeddings (passes, rows, dim) of a new file, in order, in stretches of whole blocks."""
    passes, n, dim = header.shape
    step = _step(header.shape, sources, places)
    # Two for all: one is filled while who took the other copies it.
    rooms = [np.empty((passes, min(step, n), dim), dtype=np.float32) for _ in range(2 if n > step else 1)]
    for turn, start in enumerate(range(0, n, step)):
        here = places[start : start + step]
        out = rooms[turn % len(rooms)][:, : len(here)]
        ids = header.ids[start : start + step]
        for number in np.unique(here[:, 0]).tolist():
            targets = (here[:, 0] == number).nonzero()[0]
            _copy(sources[number], here[targets, 1], out, targets, ids[targets])
        yield out
        progress(start + len(here), n)


def _step(shape: tuple[int, int, int], sources: Sequence[Source], places: Places) -> int:
    """Rows gathered at a time: whole blocks."""
    passes, n, dim = shape
    short, long = (max(1, size // (4 * passes * dim * BLOCK)) * BLOCK for size in STRETCHES)
    # Of a file single blocks are read, a segment is always read whole.
    whole = np.array([isinstance(source, Segment) for source in sources], bool)
    costs = [-(-len(source) // BLOCK) if isinstance(source, Segment) else 1 for source in sources]
    number, row = places.T
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
    for found, start, here in _read(source, rows):
        # Rows are joined by id, never by position: a row that is not the one meant stops everything.
        if (found.ids[rows[here] - start] != ids[here]).any():
            name = ids[here][0].decode(errors="replace")
            raise EmbeddingFileError(f"image {name!r} is not where its row was found before.")
        out[:, targets[here]] = found.embeddings[:, rows[here] - start]


def _read(source: Source, rows: npt.NDArray[np.int64]) -> Iterator[tuple[Rows, int, npt.NDArray[np.bool_]]]:
    """Yield rows of a source, the number of the first of them, and which of `rows` are among them."""
    assert source is not None
    if not isinstance(source, EmbeddingFile):
        yield source.load(), 0, np.ones(len(rows), bool)
        return
    for block in np.unique(rows // BLOCK).tolist():
        found = source._block(block)
        if not source._sound(block, found):
            where = f"rows {block * BLOCK} to {block * BLOCK + len(found) - 1}"
            raise damaged(source.path, f"{where} do not match their SHA-256")
        yield found, block * BLOCK, rows // BLOCK == block


def _check(path: Path, draft: Path) -> None:
    """Raise unless a file just written reads back as what was meant."""
    with open_damaged(draft) as file:
        bad = file.problems or any(_unsound(file))
    if bad:
        raise EmbeddingFileError(f"{path} was not written as it was meant; check the disk and run again.")


def _unsound(file: EmbeddingFile) -> Iterator[bool]:
    """Whether each block is damaged: read one after another, and hashed on all cores."""
    with ThreadPoolExecutor(machine.cores(), thread_name_prefix="cxrfeat-check") as pool:
        pending: deque[Future[bool]] = deque()
        for block, _ in blocks(len(file)):
            pending.append(pool.submit(file._sound, block, file._block(block)))
            if len(pending) > 2 * machine.cores():
                yield not pending.popleft().result()
        yield from (not one.result() for one in pending)
