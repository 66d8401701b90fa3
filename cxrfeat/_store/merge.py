"""Joining embedding files of one recipe into one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from cxrfeat._progress import Progress, silent
from cxrfeat._store import assembly, layout
from cxrfeat._store.lock import Lock
from cxrfeat._store.reader import EmbeddingFile
from cxrfeat.errors import EmbeddingFileError, RecipeError

OnClash = Literal["refuse", "first", "last"]


@dataclass(frozen=True)
class Merge:
    """What a merge did.

    Attributes
    ----------
    path : pathlib.Path
        The new file.
    rows : int
        Images in it.
    from_each : tuple of int
        Rows taken from each file, in the order given.
    same : int
        Images that stood in several files with the same image hash: the first file's row was taken.
    clashes : tuple of str
        Images that stood in several files with different hashes.
    """

    path: Path
    rows: int
    from_each: tuple[int, ...]
    same: int
    clashes: tuple[str, ...]


def merge(
    paths: Sequence[str | Path], out: str | Path, on_clash: OnClash = "refuse", progress: Progress = silent
) -> Merge:
    """Write a new file with the rows of several, in their order; memory stays bounded whatever their size.

    Parameters
    ----------
    paths : sequence of str or Path
        Two files or more, of one recipe.
    out : str or Path
        The new file; it must not exist.
    on_clash : {"refuse", "first", "last"}
        Whose row to take if one image id has different image hashes.
    progress : Progress
        Told of rows written.

    Raises
    ------
    RecipeError
        If the recipes differ.
    EmbeddingFileError
        If images clash and `on_clash` is "refuse", a row to be copied is damaged, or `out` exists.
    """
    out = Path(out)
    if out.exists():
        raise EmbeddingFileError(f"{out} exists already; name a new file.")
    if len(paths) < 2:
        raise EmbeddingFileError("a merge needs two embedding files or more.")
    with ExitStack() as stack:
        found = [stack.enter_context(EmbeddingFile.open(path)) for path in paths]
        for other in found[1:]:
            if other.recipe != found[0].recipe:
                raise RecipeError(
                    f"{found[0].path} and {other.path} were made by different recipes "
                    f"({found[0].recipe.difference(other.recipe)}); their rows cannot stand in one file."
                )
        where, same, clashes = _join(found, on_clash)
        places = np.array(list(where.values()), dtype=np.int64).reshape(-1, 2)
        with Lock(out) as lock, lock.writing():
            assembly.publish(out, _plan(found, where, places), lock, progress)
    taken = np.bincount(places[:, 0], minlength=len(found)).tolist()
    return Merge(out, len(places), tuple(taken), same, tuple(clashes))


def _join(found: Sequence[EmbeddingFile], on_clash: OnClash) -> tuple[dict[str, tuple[int, int]], int, list[str]]:
    """Return where to take each image from, how many stood twice alike, and which clash."""
    where: dict[str, tuple[int, int]] = {}
    clashes: dict[str, None] = {}
    same = 0
    for number, file in enumerate(found):
        for image_id, row in file.positions.items():
            if image_id not in where:
                where[image_id] = (number, row)
                continue
            source, there = where[image_id]
            if (found[source].image_sha256()[there] == file.image_sha256()[row]).all():
                same += 1
            else:
                clashes[image_id] = None
                if on_clash == "last":
                    where[image_id] = (number, row)
    if clashes and on_clash == "refuse":
        some = ", ".join(list(clashes)[:5]) + (f" and {len(clashes) - 5} more" if len(clashes) > 5 else "")
        raise EmbeddingFileError(
            f"{len(clashes)} images stand in several files with different image hashes: {some}. Take one file's with "
            "--prefer first or --prefer last, or extract them again."
        )
    return where, same, list(clashes)


def _plan(found: Sequence[EmbeddingFile], where: dict[str, tuple[int, int]], places: np.ndarray) -> assembly.Plan:
    hashes = np.empty((len(places), 32), dtype=np.uint8)
    for number, file in enumerate(found):
        here = places[:, 0] == number
        hashes[here] = file.image_sha256()[places[here, 1]]
    failures = {row[0]: row for file in found for row in file.failed if row[0] not in where}
    provenance = json.dumps({"merged": [file.provenance for file in found]}, sort_keys=True, ensure_ascii=True)
    card = layout.Card(
        recipe=found[0].recipe.to_json(),
        provenance=provenance,
        shape=(found[0].passes, len(places), found[0].dim),
        ids=layout.encode_ids(list(where)),
        image_sha256=hashes,
        failures=list(failures.values()),
    )
    return assembly.Plan(card, found, places)
