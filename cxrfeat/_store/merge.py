"""Joining embedding files of one recipe into one."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from cxrfeat._progress import Progress, silent
from cxrfeat._store import assembly, rows
from cxrfeat._store.embedding_file import EmbeddingFile
from cxrfeat._store.lock import Lock
from cxrfeat._store.protocols import Table, store_of
from cxrfeat._store.row_index import gather
from cxrfeat._store.rows import EARLIER, MOST_EARLIER, Header, listing, provenance, some
from cxrfeat.errors import EmbeddingFileError, RecipeError

OPEN = 8  # files at a time
MAX_PROVENANCE = 1 << 19  # characters; a text of a file has at most twice as many
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Merge:
    """What a merge took from each file: `same` images had one hash in several, `clashes` different ones."""

    path: Path
    rows: int
    from_each: tuple[int, ...]
    same: int
    clashes: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"{self.path}: {self.rows:,} rows ({' + '.join(f'{count:,}' for count in self.from_each)})."]
        if self.same:
            lines.append(f"{self.same:,} images are the same in several files.")
        if self.clashes:
            lines.append(f"{len(self.clashes):,} images differ between files; the preferred file's row was taken:")
        return "\n".join([*lines, *listing(self.clashes)])


def join(
    files: Sequence[Path], out: Path, prefer: Literal["first", "last"] | None = None, progress: Progress = silent
) -> Merge:
    """Write a new file with the rows of several, in their order; see `cache.merge`."""
    if out.exists():
        raise EmbeddingFileError(f"{out} exists already; name a new file.")
    if len(files) < 2:
        raise EmbeddingFileError("a merge needs two embedding files or more.")
    opened: OrderedDict[Path, Table] = OrderedDict()
    found: list[EmbeddingFile] = []
    try:
        for path in files:
            file = EmbeddingFile.open(path)
            file._table = _Reopened(file._table, opened)
            found.append(file)
            if file.recipe != found[0].recipe:
                raise RecipeError(
                    f"{found[0].path} and {file.path} were made by different recipes "
                    f"({found[0].recipe.difference(file.recipe)}); one file holds rows of one recipe."
                )
        _name_missing_shards(found)
        ids, places, same, clashes = _match(found, prefer)
        with Lock(out) as lock, lock.writing():
            assembly.publish(out, _header(found, ids, places), found, places, lock, progress)
    finally:
        for file in found:
            file.close()
    taken = np.bincount(places[:, 0], minlength=len(found)).tolist()
    return Merge(out, len(places), tuple(taken), same, tuple(clashes))


class _Reopened:
    """A table that is closed but while it is read, with a few others in `opened`: h5py is slow with many open files."""

    def __init__(self, table: Table, opened: OrderedDict[Path, Table]) -> None:
        self.path, self.header, self.sha256 = table.path, table.header, table.sha256
        self.block_sha256, self.problems, self._opened = table.block_sha256, table.problems, opened
        table.close()

    def read(self, pass_: int, block: int, out: npt.NDArray[np.float32]) -> None:
        """See `Table`."""
        if self.path not in self._opened:
            table = store_of(self.path).open_sound(self.path)
            self._opened[self.path] = table
            if table.sha256 != self.sha256:
                raise EmbeddingFileError(f"{self.path} was replaced meanwhile; run the same command again.")
            if len(self._opened) > OPEN:
                self._opened.popitem(last=False)[1].close()
        self._opened[self.path].read(pass_, block, out)

    def close(self) -> None:
        """Close the file."""
        if table := self._opened.pop(self.path, None):
            table.close()


def _match(
    found: Sequence[EmbeddingFile], prefer: str | None
) -> tuple[npt.NDArray[np.bytes_], npt.NDArray[np.int64], int, list[str]]:
    """Return the ids, the file and row of each (int64 (n, 2)), how many more files have one alike, and which clash."""
    ids = np.concatenate([file.header.ids for file in found])
    counts = [len(file) for file in found]
    rows_of_each = [np.arange(count) for count in counts]
    places = np.stack([np.repeat(np.arange(len(found)), counts), np.concatenate(rows_of_each)], axis=1)
    order = np.argsort(ids, kind="stable")
    new = np.ones(len(ids), bool)
    new[1:] = ids[order[1:]] != ids[order[:-1]]
    chosen = order[new]  # of each id the first row
    again, first = order[~new], chosen[np.cumsum(new)[~new] - 1]
    hashes = [file.image_sha256() for file in found]
    alike = (gather(hashes, places[again]) == gather(hashes, places[first])).all(axis=1)
    clashes = rows.decode_texts(ids[np.unique(first[~alike])]).tolist()
    if clashes and prefer is None:
        raise EmbeddingFileError(
            f"{len(clashes)} images have different hashes in several files: {some(clashes)}. Take one file's with "
            "`prefer=first` or `prefer=last`, or extract them again."
        )
    taken = np.arange(len(ids))
    if prefer == "last":
        taken[first[~alike]] = again[~alike]  # of several the last: they are in the order of the files
    kept = np.sort(chosen)
    return ids[kept], places[taken[kept]], int(alike.sum()), clashes


def _header(found: Sequence[EmbeddingFile], ids: npt.NDArray[np.bytes_], places: npt.NDArray[np.int64]) -> Header:
    failed = {row[0]: row for file in found for row in file.failed}
    if failed:
        names = list(failed)
        there = np.isin(rows.encode_ids(names), ids)
        failed = {name: failed[name] for name, has_row in zip(names, there.tolist(), strict=True) if not has_row}
    return Header(
        recipe=found[0].header.recipe,
        provenance=_provenance(found),
        shape=(found[0].passes, len(places), found[0].dim),
        ids=ids,
        image_sha256=gather([file.image_sha256() for file in found], places),
        failures=list(failed.values()),
    )


def _provenance(found: Sequence[EmbeddingFile]) -> str:
    """Write the sessions of all files; of very many, the last of each, of some of them."""
    merged = [file.provenance for file in found]
    if len(text := provenance({"merged": merged})) <= MAX_PROVENANCE:
        return text
    last = [{key: value for key, value in session.items() if key != EARLIER} for session in merged[:MOST_EARLIER]]
    return provenance({"merged": last, "files": len(merged)})


def _name_missing_shards(found: Sequence[EmbeddingFile]) -> None:
    """Warn of shards of a study that are not among the files, where some are."""
    shards = [str(file.provenance.get("shard", "")).partition("/") for file in found]
    there = {(int(number), int(of)) for number, _, of in shards if number.isdigit() and of.isdigit()}
    for of in sorted({of for _, of in there}):
        missing = [f"{number}/{of}" for number in range(1, of + 1) if (number, of) not in there]
        if missing:
            _log.warning("%d of %d shards are not among the files: %s.", len(missing), of, some(missing))
