"""What an extraction has to do: which images are embedded and unchanged, and which are not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import overload

import numpy as np
import numpy.typing as npt

from cxrfeat import _manifest as manifest
from cxrfeat._extract.pipeline import Item
from cxrfeat._manifest import Manifest
from cxrfeat._progress import Progress
from cxrfeat._recipe import Recipe
from cxrfeat._remote import clean, join
from cxrfeat._store import EmbeddingFile, Writer
from cxrfeat._study import Study


class Items(Sequence[Item]):
    """Some rows of a study, made into items when they are asked for: all their paths would take much memory."""

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
        return Item(str(self._ids[row]), join(self._study.root, listed), clean(listed))


@dataclass
class Plan:
    """What is to do."""

    todo: Items
    kept: int = 0  # images of the study with a sound, current row
    changed: list[str] = field(default_factory=list)  # their files have other bytes now: rows to drop
    gone: int = 0  # their files are no longer on disk: rows to keep
    failed: dict[str, str] = field(default_factory=dict)  # known failures that are not tried again, with the reason

    @property
    def foreign(self) -> bool:
        """Whether the rows are another study's that has the same ids: most of the images have other bytes."""
        return len(self.changed) > 1 and len(self.changed) > self.kept


def nothing_to_do(path: Path, recipe: Recipe, study: Study, now: Manifest, retry: bool) -> Plan | None:
    """Look whether a published file needs nothing, without locking it or reading an image; None if it may."""
    if not path.is_file():
        return None
    with EmbeddingFile.open(path) as file:
        if file.recipe != recipe:
            return None
        there = file.has(now.image_ids)
        reasons = {} if retry else {image_id: reason for image_id, _, reason in file.failed}
    failed = {i: reasons[i] for i in now.image_ids[~there].tolist() if i in reasons}
    if len(failed) + int(there.sum()) < len(now.image_ids):
        return None
    then, gone = manifest.read(path), there & now.missing
    if not np.where(there, now.same_as(then) | gone, now.same_as(then, failed=True)).all():
        return None
    return Plan(Items(study, np.zeros(0, np.int64)), int(there.sum()), gone=int(gone.sum()), failed=failed)


def make(writer: Writer, study: Study, now: Manifest, retry: bool, progress: Progress) -> Plan:
    """Compare a study with what a writer has already, hashing the files that may not be as they were."""
    ids, missing, then = now.image_ids, now.missing, manifest.read(writer.path)
    there = np.fromiter((i in writer.done for i in ids), bool, len(ids))
    failed = {} if retry else writer.failed
    known = np.fromiter((i in failed for i in ids), bool, len(ids)) if failed else np.zeros(len(ids), bool)
    known &= now.same_as(then, failed=True)
    doubtful = Items(study, np.flatnonzero(there & ~missing & ~now.same_as(then)))
    hashes = manifest.hashes([item.path for item in doubtful], progress)
    # An unreadable file has no hash and counts as changed.
    changed = np.array(
        [found != writer.done[i] for found, i in zip(hashes, ids[doubtful.rows].tolist(), strict=True)], bool
    )
    wanted = ~there & ~known
    wanted[doubtful.rows[changed]] = True
    return Plan(
        Items(study, np.flatnonzero(wanted)),
        kept=int(there.sum() - changed.sum()),
        changed=ids[doubtful.rows[changed]].tolist(),
        gone=int((there & missing).sum()),
    )
