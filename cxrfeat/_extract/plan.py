"""What an extraction has to do: which images are there, unchanged; which are not, or no longer what they were."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import overload

import numpy as np
import numpy.typing as npt

from cxrfeat import _machine as machine
from cxrfeat._extract import seen
from cxrfeat._extract.pipeline import Item
from cxrfeat._images import decode
from cxrfeat._progress import Progress
from cxrfeat._recipe import Recipe
from cxrfeat._store import EmbeddingFile, Writer
from cxrfeat._study import Study
from cxrfeat.errors import ImageError


@dataclass
class Settled:
    """An embedding file with nothing left to do: rows there, failures known, files gone but embedded."""

    kept: int
    failed: dict[str, str]
    gone: int


class Items(Sequence[Item]):
    """Some images of a study, made into items when they are asked for: so many paths would take much memory.

    Parameters
    ----------
    study : Study
        Whose images.
    rows : ndarray of int, shape (n,)
        Which images, in order.
    """

    def __init__(self, study: Study, rows: npt.NDArray[np.int64]) -> None:
        self.rows = rows
        self._study, self._ids, self._paths = study, study.table["image_id"].array, study.table["path"].array

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, at: int) -> Item: ...
    @overload
    def __getitem__(self, at: slice) -> list[Item]: ...
    def __getitem__(self, at: int | slice) -> Item | list[Item]:
        return self._item(self.rows[at]) if isinstance(at, int) else [self._item(row) for row in self.rows[at]]

    def _item(self, row: int) -> Item:
        listed = str(self._paths[row])
        return Item(str(self._ids[row]), self._study.path_of(listed), listed)


@dataclass
class Plan:
    """What is to do.

    Attributes
    ----------
    todo : Items
        To embed, in the study's order.
    kept : int
        Images of the study with a sound, current row.
    changed : list of str
        Images whose rows must be dropped: their files are other ones now.
    gone : int
        Images with a row whose files are no longer there; the row is kept.
    """

    todo: Items
    kept: int = 0
    changed: list[str] = field(default_factory=list)
    gone: int = 0


def settled(path: Path, recipe: Recipe, now: seen.Stamps) -> Settled | None:
    """Look whether a published file needs nothing, without locking it or reading an image; None if it may."""
    if not path.is_file():
        return None
    with EmbeddingFile.open(path) as file:
        if file.recipe != recipe:
            return None
        # The usual case first: the file was made from this very study, and a comparison is all it takes.
        alike = np.array_equal(now.image_ids, file.image_ids)
        there = np.ones(len(now.image_ids), bool) if alike else np.isin(now.image_ids, file.image_ids)
        reasons = {image_id: reason for image_id, _, reason in file.failed}
    failed = {i: reasons[i] for i in now.image_ids[~there] if i in reasons}
    if len(failed) + int(there.sum()) < len(now.image_ids):
        return None
    gone = there & now.missing
    if not (now.same_as(seen.read(path)) | gone).all():
        return None
    return Settled(int(there.sum()), failed, int(gone.sum()))


def make(writer: Writer, study: Study, now: seen.Stamps, progress: Progress) -> Plan:
    """Compare a study with what a writer has already, hashing the files whose size or time are not as they were."""
    ids = now.image_ids
    same, missing, failed = now.same_as(seen.read(writer.path)), now.missing, writer.failed
    there = np.fromiter((i in writer.done for i in ids), bool, len(ids))
    known = np.fromiter((i in failed for i in ids), bool, len(ids)) if failed else np.zeros(len(ids), bool)
    doubtful = Items(study, np.flatnonzero(there & ~missing & ~same))
    changed = _changed(doubtful, writer.done, progress)
    wanted = ~there & ~(same & known)
    wanted[doubtful.rows[changed]] = True
    return Plan(
        Items(study, np.flatnonzero(wanted)),
        kept=int(there.sum() - changed.sum()),
        changed=ids[doubtful.rows[changed]].tolist(),
        gone=int((there & missing).sum()),
    )


def _changed(items: Items, hashes: Mapping[str, bytes], progress: Progress) -> npt.NDArray[np.bool_]:
    """Which of `items` are files with another hash than their row's; an unreadable file counts as changed."""

    def differs(item: Item) -> bool:
        try:
            return hashlib.sha256(decode.read_bytes(item.path)).digest() != hashes[item.image_id]
        except ImageError:
            return True

    found = np.zeros(len(items), bool)
    with ThreadPoolExecutor(machine.cores()) as pool:
        for row, other in enumerate(pool.map(differs, items)):
            found[row] = other
            progress(row + 1, len(items), "checking files whose date changed")
    return found
