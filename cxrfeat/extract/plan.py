"""What an extraction has to do: which images are there, unchanged; which are not, or no longer what they were."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cxrfeat import machine
from cxrfeat.errors import ImageError
from cxrfeat.extract import seen
from cxrfeat.extract.pipeline import Item
from cxrfeat.images import decode
from cxrfeat.progress import Progress
from cxrfeat.store import EmbeddingFile, Writer
from cxrfeat.store.recipe import Recipe
from cxrfeat.study import Study


@dataclass
class Settled:
    """An embedding file with nothing left to do: rows there, failures known, files gone but embedded."""

    kept: int
    failed: dict[str, str]
    gone: int


@dataclass
class Plan:
    """What is to do.

    Attributes
    ----------
    todo : list of Item
        To embed, in the study's order.
    kept : int
        Images of the study with a sound, current row.
    changed : list of str
        Images whose rows must be dropped: their files are other ones now.
    gone : int
        Images with a row whose files are no longer there; the row is kept.
    """

    todo: list[Item] = field(default_factory=list)
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
    plan = Plan()
    same = now.same_as(seen.read(writer.path))
    paths = study.paths()
    doubtful: list[Item] = []
    for row, image_id in enumerate(study.ids):
        item = Item(str(image_id), paths[row])
        if image_id in writer.done:
            plan.kept += 1
            if now.missing[row]:
                plan.gone += 1
            elif not same[row]:
                doubtful.append(item)
        elif not (same[row] and image_id in writer.failed):
            plan.todo.append(item)
    changed = set(_changed(doubtful, writer.done, progress))
    if changed:
        plan.kept -= len(changed)
        plan.changed = [item.image_id for item in doubtful if item.image_id in changed]
        wanted = changed | {item.image_id for item in plan.todo}
        plan.todo = [Item(str(i), path) for i, path in zip(study.ids, paths, strict=True) if i in wanted]
    return plan


def _changed(items: Sequence[Item], hashes: Mapping[str, bytes], progress: Progress) -> list[str]:
    """The images among `items` whose files have another hash than their row's; an unreadable file counts as changed."""

    def differs(item: Item) -> bool:
        try:
            return hashlib.sha256(decode.read_bytes(item.path)).digest() != hashes[item.image_id]
        except ImageError:
            return True

    found = []
    with ThreadPoolExecutor(machine.cores()) as pool:
        for done, (item, other) in enumerate(zip(items, pool.map(differs, items), strict=True), 1):
            if other:
                found.append(item.image_id)
            progress(done, len(items), "checking files whose date changed")
    return found
