"""Making a collection of embedding files, and adding to it: links first, and the manifest last, in one step."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from cxrfeat._progress import Progress, silent
from cxrfeat._recipe import Recipe
from cxrfeat._remote import local
from cxrfeat._store import disk, names
from cxrfeat._store.collection import Manifest, Member, members_of, open_member, united
from cxrfeat._store.embedding_file import EmbeddingFile
from cxrfeat._store.lock import Lock
from cxrfeat.errors import EmbeddingFileError, OutputError, RecipeError


@dataclass(frozen=True)
class Collected:
    """What `collect` made: the folder, its members and rows, and the names of those that were added."""

    path: Path
    members: int
    rows: int
    added: tuple[str, ...]

    def __str__(self) -> str:
        new = "nothing is new" if not self.added else f"{len(self.added):,} added"
        return f"{self.path}: {self.rows:,} rows in {self.members:,} files, {new}."


def collect(files: Sequence[str | Path], out: str | Path, *, progress: Progress = silent) -> Collected:
    """Make a collection of embedding files, or add them to one: a folder that is read as one file.

    Files are linked into the folder, or copied where the disk has no hard links; embeddings are not read. Files that
    lie in the folder already become members as they are, and a file that is a member is passed over.

    Parameters
    ----------
    files : sequence of str or Path
        Embedding files of one recipe, or collections, whose members are taken. No image may be in two of them.
    out : str or Path
        The folder of the collection: a new one, or one that there is.
    progress : Progress
        Called with files looked at.

    Returns
    -------
    Collected
        What is in the collection now.

    Raises
    ------
    RecipeError
        If recipes differ.
    EmbeddingFileError
        If an image is in two files, or a file is damaged.
    OutputError
        If `out` is a folder with other things in it.

    Examples
    --------
    >>> import cxrfeat as cxr
    >>> import numpy as np
    >>> for name, ids in {"a": ["1", "2"], "b": ["3"]}.items():
    ...     cxr.cache.import_(np.ones((len(ids), 4)), f"cache/{name}.h5", ids=ids, backbone="ours").close()
    >>> print(cxr.cache.collect(["cache/a.h5", "cache/b.h5"], "cache/both"))
    cache/both: 3 rows in 2 files, 2 added.
    >>> with cxr.EmbeddingFile("cache/both") as both:
    ...     both.to_numpy(["3", "1"]).shape
    (2, 4)
    """
    out = Path(out)
    sources = list(dict.fromkeys(path for given in files for path in members_of(local(given))))
    if not sources:
        raise EmbeddingFileError("a collection needs at least one embedding file.")
    if out.exists() and not (out.is_dir() and all(_belongs(path) for path in out.iterdir())):
        raise OutputError(f"{out} exists and is no folder of embedding files alone; name a new folder.")
    try:
        with Lock(out / names.COLLECTION) as lock, lock.writing():
            return _collect(sources, out, lock, progress)
    finally:
        with suppress(OSError):  # a new folder, if nothing was collected
            out.rmdir()


def _collect(sources: Sequence[Path], out: Path, lock: Lock, progress: Progress) -> Collected:
    old = Manifest.read(out).members if (out / names.COLLECTION).exists() else ()
    there = [(out / member.file).resolve() for member in old]
    members, added, ids, where = list[Member](), list[str](), [], list[Path]()
    recipe: Recipe | None = None
    entries = [*zip(there, old, strict=True), *((path, None) for path in sources if path not in there)]
    for number, (path, before) in enumerate(entries):
        # A member that is named again is taken as it is now.
        with EmbeddingFile(path) if before is None or path in sources else open_member(out, before) as file:
            recipe = recipe or file.recipe
            if file.recipe != recipe:
                raise RecipeError(
                    f"{where[0]} and {path} were made by different recipes ({recipe.difference(file.recipe)}); a "
                    "collection has files of one recipe."
                )
            if before is not None or file.content_sha256 not in {member.content_sha256 for member in members}:
                members.append(Member(path.name, len(file), file.content_sha256))
                ids.append(file.header.ids)
                where.append(path)
        progress(number + 1, len(entries), "files")
    starts = united(ids, where)[1]
    for number in range(len(old), len(members)):
        target = _place(out, where[number], {member.file for member in members[:number]})
        members[number] = replace(members[number], file=target.name)
        added.append(target.name)
    assert recipe is not None
    disk.system.sync_folder(out)  # no manifest names a file that is not there
    for left in names.drafts(out / names.COLLECTION):
        disk.remove(left)
    draft = names.draft(out / names.COLLECTION, lock.token)
    with lock.publishing(draft, out / names.COLLECTION):
        disk.create(draft, [Manifest(recipe.to_json(), tuple(members)).to_json().encode()])
    return Collected(out, len(members), int(starts[-1]), tuple(added))


def _belongs(path: Path) -> bool:
    """Whether something in a folder is an embedding file, beside one, or of a collection."""
    return bool({*path.suffixes} & names.STORES.keys()) or path.name.startswith(names.COLLECTION)


def _place(out: Path, path: Path, taken: set[str]) -> Path:
    """Link a file into a folder under its name, or a numbered one if another file has that."""
    for number in range(1, 1 << 20):
        target = out / (path.name if number == 1 else f"{path.stem}-{number}{path.suffix}")
        if target.name not in taken and (not target.exists() or target.samefile(path)):
            break
    if not target.exists():
        disk.link(path, target)
    return target
