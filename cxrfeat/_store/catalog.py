"""The folder where embedding files lie: what is there, and what no study or run needs any more."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cxrfeat._store import disk, names
from cxrfeat._store.collection import Collection
from cxrfeat._store.embedding_file import EmbeddingFile
from cxrfeat._store.lock import Lock
from cxrfeat.errors import CxrfeatError, EmbeddingFileError, LockedError, NotFoundError

ASIDE = ".pruned"  # folder, beside the embedding files, to which `set_aside` moves


@dataclass(frozen=True)
class Need:
    """Images of a study or a run, and the SHA-256 of the recipes it was made with; None if any will do."""

    image_ids: frozenset[str]
    recipes: frozenset[str] | None = None


@dataclass(frozen=True)
class Unneeded:
    """A file, or the folder of a journal, that no study or run needs, and what made it when, as far as it says."""

    path: Path
    size: int
    reason: str
    recipe: str = ""
    created: str = ""


def entries(folder: Path) -> list[dict[str, Any]]:
    """Say of each embedding file in a folder, newest first, what it is; of one that cannot be opened, why."""
    rows = []
    for path in sorted(names.embedding_files(folder), key=lambda p: p.stat().st_mtime, reverse=True):
        row: dict[str, Any] = {"file": path.name, "bytes": names.size(path)}
        try:
            with EmbeddingFile.open(path) as file:
                row |= {"images": len(file), "dim": file.dim, "passes": file.passes, "failures": len(file.failed)}
                row["recipe"] = file.recipe.describe()
                if isinstance(file, Collection):
                    row["note"] = f"a collection of {len(file.manifest.members):,} files"
        except EmbeddingFileError as error:
            row["note"] = f"cannot be used: {error}"
        if names.journal(path).is_dir():
            row.setdefault("note", "an extraction is unfinished")
        rows.append(row)
    listed = {row["file"] for row in rows}
    for where in names.unfinished(folder)[1]:
        name = names.owner(where).name
        if name not in listed:
            rows.append({"file": name, "bytes": names.size(where), "note": "unfinished extraction, not published yet"})
    return rows


def unneeded(folder: Path, needs: Sequence[Need]) -> list[Unneeded]:
    """List files none of whose images a study or run has, and what dead processes left.

    A file that cannot be opened is not listed, since nothing says whose it is, nor one that is being written.
    """
    if not folder.is_dir():
        raise NotFoundError(f"No folder of embedding files at {folder}.")
    found = []
    for path in names.embedding_files(folder):
        try:
            with EmbeddingFile.open(path) as file:
                recipe, made = file.recipe, file.provenance.get("created", "")
                fits = [need for need in needs if need.recipes is None or recipe.sha256 in need.recipes]
                needed = any(file.has(list(need.image_ids)).any() for need in fits)
                reason = f"no study or run here has any of its {len(file):,} images"
        except EmbeddingFileError:
            continue
        if not needed:
            found.append(Unneeded(path, names.size(path), reason, recipe.describe(), str(made)))
    drafts, journals = names.unfinished(folder)
    found += [Unneeded(p, p.stat().st_size, "left by an extraction that was killed while publishing") for p in drafts]
    gone = {row.path for row in found}
    for where in journals:
        if names.owner(where) in gone:
            found.append(Unneeded(where, names.size(where), "unfinished extraction of a file that is not needed"))
    return [row for row in found if not _is_being_written(row.path)]


def set_aside(rows: Iterable[Unneeded]) -> list[Path]:
    """Move what `unneeded` found to a folder beside it, each under its file's lock, and return the new places.

    Nothing says whether a study in another folder needs these files, so they are not removed at once.
    """
    moved = []
    for row in rows:
        aside = row.path.parent / ASIDE
        with disk.telling(aside):
            try:
                with Lock(names.owner(row.path)):
                    disk.make_folders(aside)
                    target = _free(aside / row.path.name)
                    disk.system.replace(row.path, target)
                    disk.remove(names.manifest(row.path))  # sizes and times of its images, which are read anew
            except LockedError:
                continue
            disk.system.sync_folder(aside)
            disk.system.sync_folder(row.path.parent)
        moved.append(target)
    return moved


def delete_aside(folder: Path) -> list[Path]:
    """Remove what `set_aside` moved, and return it."""
    aside = folder / ASIDE
    found = sorted(aside.iterdir()) if aside.is_dir() else []
    with disk.telling(aside):
        for path in found:
            for part in sorted(path.iterdir()) if path.is_dir() else [path]:
                disk.remove(part)
            if path.is_dir():
                disk.system.rmdir(path)
        if aside.is_dir():
            disk.system.rmdir(aside)
    return found


def _free(path: Path) -> Path:
    """Return a name that is not taken."""
    numbered = (path.with_name(f"{path.name}.{number}") for number in itertools.count(2))
    return path if not path.exists() else next(other for other in numbered if not other.exists())


def _is_being_written(path: Path) -> bool:
    try:
        with Lock(names.owner(path)):
            return False
    except (CxrfeatError, OSError):  # or a folder that cannot be written: nothing there can be moved either
        return True
