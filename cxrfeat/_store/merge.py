"""Joining embedding files of one recipe into one."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from cxrfeat._progress import Progress, silent
from cxrfeat._store import assembly
from cxrfeat._store.collection import members_of
from cxrfeat._store.embedding_file import EmbeddingFile
from cxrfeat._store.lock import Lock
from cxrfeat._store.row_index import gather
from cxrfeat._store.rows import Header, encode_ids, listing, provenance, some
from cxrfeat.errors import EmbeddingFileError, RecipeError


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


def merge(
    files: Sequence[str | Path],
    out: str | Path,
    *,
    prefer: Literal["first", "last"] | None = None,
    progress: Progress = silent,
) -> Merge:
    """Write a new file with the rows of several, in their order; memory stays bounded whatever their size.

    Parameters
    ----------
    files : sequence of str or Path
        Two or more, of one recipe; or a collection, whose members are joined.
    out : str or Path
        The new file.
    prefer : {"first", "last"}, optional
        Whose row to take if an image has different hashes in several files; by default that is an error.
    progress : Progress
        Called with rows written.

    Returns
    -------
    Merge
        What was taken from which file.

    Raises
    ------
    RecipeError
        If the recipes differ.
    EmbeddingFileError
        If images clash without `prefer`, a row is damaged, or `out` exists.

    Examples
    --------
    >>> import cxrfeat as cxr
    >>> import numpy as np
    >>> for name, ids in {"a": ["1", "2"], "b": ["2", "3"]}.items():
    ...     cxr.cache.import_(np.ones((2, 4)), f"cache/{name}.h5", ids=ids, backbone="ours").close()
    >>> merged = cxr.cache.merge(["cache/a.h5", "cache/b.h5"], "cache/ab.h5")
    >>> merged.rows, merged.from_each, merged.same
    (3, (2, 1), 1)
    """
    out = Path(out)
    if out.exists():
        raise EmbeddingFileError(f"{out} exists already; name a new file.")
    paths = [path for given in files for path in members_of(Path(given))]
    if len(paths) < 2:
        raise EmbeddingFileError("a merge needs two embedding files or more.")
    with ExitStack() as stack:
        found = [stack.enter_context(EmbeddingFile.open(path)) for path in paths]
        for other in found[1:]:
            if other.recipe != found[0].recipe:
                raise RecipeError(
                    f"{found[0].path} and {other.path} were made by different recipes "
                    f"({found[0].recipe.difference(other.recipe)}); one file holds rows of one recipe."
                )
        where, same, clashes = _join(found, prefer)
        places = np.array(list(where.values()), dtype=np.int64).reshape(-1, 2)
        with Lock(out) as lock, lock.writing():
            assembly.publish(out, _header(found, where, places), found, places, lock, progress)
    taken = np.bincount(places[:, 0], minlength=len(found)).tolist()
    return Merge(out, len(places), tuple(taken), same, tuple(clashes))


def _join(found: Sequence[EmbeddingFile], prefer: str | None) -> tuple[dict[str, tuple[int, int]], int, list[str]]:
    """Return where to take each image from, how many are in several files alike, and which clash."""
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
                if prefer == "last":
                    where[image_id] = (number, row)
    if clashes and prefer is None:
        raise EmbeddingFileError(
            f"{len(clashes)} images have different hashes in several files: {some(clashes)}. Take one file's with "
            "`prefer=first` or `prefer=last`, or extract them again."
        )
    return where, same, list(clashes)


def _header(found: Sequence[EmbeddingFile], where: dict[str, tuple[int, int]], places: np.ndarray) -> Header:
    failures = {row[0]: row for file in found for row in file.failed if row[0] not in where}
    return Header(
        recipe=found[0].header.recipe,
        provenance=provenance({"merged": [file.provenance for file in found]}),
        shape=(found[0].passes, len(places), found[0].dim),
        ids=encode_ids(list(where)),
        image_sha256=gather([file.image_sha256() for file in found], places),
        failures=list(failures.values()),
    )
