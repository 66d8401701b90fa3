"""The folder where embedding files lie: what is there, and what nobody needs any more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cxrfeat._store import disk, parts
from cxrfeat._store.lock import Lock
from cxrfeat._store.reader import EmbeddingFile
from cxrfeat.errors import CxrfeatError, EmbeddingFileError, LockedError, NotFoundError


@dataclass(frozen=True)
class Need:
    """Something for which embedding files are kept: a study, or a run.

    Attributes
    ----------
    name : str
        For messages.
    image_ids : frozenset of str
        Its images.
    recipes : frozenset of str, optional
        SHA-256 of the recipes it was made with; None if any recipe will do, as for a study.
    """

    name: str
    image_ids: frozenset[str]
    recipes: frozenset[str] | None = None


@dataclass(frozen=True)
class Unneeded:
    """Something that may go.

    Attributes
    ----------
    path : pathlib.Path
        A file, or a folder of parts.
    size : int
        Bytes.
    reason : str
        Why nobody needs it.
    """

    path: Path
    size: int
    reason: str


def ls(folder: str | Path) -> list[dict[str, Any]]:
    """Say of each embedding file in a folder, newest first, what it is; of one that cannot be opened, why."""
    folder = Path(folder)
    if not folder.is_dir():
        return []
    rows = []
    for path in sorted(folder.glob("*.h5"), key=lambda p: p.stat().st_mtime, reverse=True):
        row: dict[str, Any] = {"file": path.name, "bytes": path.stat().st_size}
        try:
            with EmbeddingFile.open(path) as file:
                row |= {
                    "images": len(file),
                    "dim": file.dim,
                    "passes": file.passes,
                    "failures": len(file.failed),
                    "recipe": file.recipe.describe(),
                }
        except EmbeddingFileError as error:
            row["recipe"] = f"cannot be used: {error}"
        if parts.folder(path).is_dir():
            row["recipe"] += "; an extraction is unfinished"
        rows.append(row)
    listed = {row["file"] for row in rows}
    for where in sorted(folder.glob("*.h5.parts")):
        name = where.name.removesuffix(".parts")
        if name not in listed:
            rows.append({"file": name, "bytes": _size(where), "recipe": "unfinished extraction, not published yet"})
    return rows


def info(path: str | Path) -> dict[str, Any]:
    """Return all that an embedding file says of itself."""
    with EmbeddingFile.open(path) as file:
        return {
            "file": str(file.path),
            "bytes": file.path.stat().st_size,
            "images": len(file),
            "dim": file.dim,
            "passes": file.passes,
            "failures": [dict(zip(("image_id", "path", "reason"), row, strict=True)) for row in file.failed],
            "description": file.recipe.describe(),
            "recipe": {name: getattr(file.recipe, name) for name in file.recipe.__dataclass_fields__},
            "recipe_sha256": file.recipe.sha256,
            "content_sha256": file.content_sha256,
            "provenance": file.provenance,
            "unfinished": parts.folder(file.path).is_dir(),
        }


def unneeded(folder: str | Path, needs: Sequence[Need]) -> list[Unneeded]:
    """Return what no study or run needs: files none of whose images they have, and what dead processes left.

    A file that cannot be opened is not listed: nobody knows whose it is. Nor is anything that is being written.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise NotFoundError(f"no folder of embedding files at {folder}.")
    found = []
    for path in sorted(folder.glob("*.h5")):
        try:
            with EmbeddingFile.open(path) as file:
                recipe, ids = file.recipe.sha256, frozenset(file.image_ids.tolist())
        except EmbeddingFileError:
            continue
        if not any(need.image_ids & ids and (need.recipes is None or recipe in need.recipes) for need in needs):
            found.append(Unneeded(path, path.stat().st_size, f"no study or run has any of its {len(ids):,} images"))
    for draft in sorted(folder.glob("*.h5.part")):
        found.append(Unneeded(draft, draft.stat().st_size, "left by an extraction that was killed while publishing"))
    gone = {row.path.name for row in found}
    for where in sorted(folder.glob("*.h5.parts")):
        if where.name.removesuffix(".parts") in gone:
            found.append(Unneeded(where, _size(where), "unfinished extraction of a file that nobody needs"))
    return [row for row in found if not _is_being_written(row.path)]


def remove(rows: Sequence[Unneeded]) -> list[Unneeded]:
    """Remove what `unneeded` found, each under its file's lock; returns what was removed.

    Raises
    ------
    EmbeddingFileError
        If something cannot be removed.
    """
    removed = []
    for row in rows:
        with disk.telling(row.path):
            try:
                with Lock(_file_of(row.path)):
                    if row.path.is_dir():
                        parts.remove(_file_of(row.path), list(row.path.iterdir()))
                    else:
                        disk.remove(row.path)
                        disk.remove(row.path.with_name(row.path.name + ".seen"))  # an extraction's notes on its images
            except LockedError:
                continue
            disk.system.sync_folder(row.path.parent)
        removed.append(row)
    return removed


def _file_of(path: Path) -> Path:
    """Return the embedding file to which a draft or a folder of parts belongs."""
    return path.with_suffix("") if path.suffix in (".part", ".parts") else path


def _is_being_written(path: Path) -> bool:
    try:
        with Lock(_file_of(path)):
            return False
    except LockedError:
        return True
    except (CxrfeatError, OSError):  # a folder that cannot be written: nothing there can be removed either
        return True


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())
