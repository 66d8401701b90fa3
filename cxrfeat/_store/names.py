"""Names of embedding files and of the files beside them: nothing else spells them."""

from __future__ import annotations

import glob
import os
import re
from pathlib import Path

STORES = {".h5": "cxrfeat._store.hdf5", ".parquet": "cxrfeat._store.parquet"}
"""Module of the store of files with an ending; without a known ending, and by default, the first."""

_ONLY_NAMED = {".parquet"}  # exports and shards, which lie beside what they were made of: taken only where named

SUFFIX = next(iter(STORES))
COLLECTION = "collection.json"
"""The manifest in the folder of a collection."""

_JOURNAL, _MANIFEST, _LOCK, _DRAFT, _SHARDS = ".parts", ".seen", ".lock", ".part", ".shards"
_BESIDE = re.compile(rf"(.+?)(?:\.[0-9a-f]{{32}})?(?:{re.escape(_DRAFT)}|{re.escape(_JOURNAL)})")


def default(
    folder: Path, study: str, backbone: str, recipe_sha256: str, number: int = 1, shard: str | None = None
) -> Path:
    """Where the embedding file of a study and a recipe lies, unless another name is given; `number` if it is taken.

    That of a `shard` lies in a folder, where no command takes it for the study's.
    """
    name = f"{study}-{backbone}-{recipe_sha256[:8]}{'' if number == 1 else f'-{number}'}"
    return folder / (f"{name}{SUFFIX}" if shard is None else f"{name}{_SHARDS}/{shard}{SUFFIX}")


def embedding_files(folder: Path) -> list[Path]:
    """List the embedding files and the collections in a folder, by name."""
    listed = tuple(STORES.keys() - _ONLY_NAMED)
    if not folder.is_dir():
        return []
    # What is no folder is told by its name: an embedding file may lie among 100,000 images.
    with os.scandir(folder) as entries:
        visible = [entry for entry in entries if entry.name[0] != "."]
        found = [e for e in visible if (e.name.endswith(listed) and e.is_file()) or (e.is_dir() and _collects(e))]
    return sorted(folder / entry.name for entry in found)


def _collects(folder: os.DirEntry[str]) -> bool:
    return Path(folder.path, COLLECTION).is_file()


def size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    return sum(p.stat().st_size for p in path.iterdir()) if path.is_dir() else path.stat().st_size


def beside(file: Path) -> list[Path]:
    """List the embedding files that may have images of `file` too: in its folder, and for a shard, that share's."""
    found = embedding_files(file.parent)
    if file.parent.suffix == _SHARDS:
        others = file.parent.parent.glob(f"*{_SHARDS}/{glob.escape(file.name)}")
        found += [*embedding_files(file.parent.parent), *sorted(others)]
    return [path for path in found if path != file]


def of_shards(folder: Path) -> Path | None:
    """Where the shards in a folder are joined by default: the study's own embedding file; None of another folder."""
    return folder.with_name(folder.name.removesuffix(_SHARDS) + SUFFIX) if folder.suffix == _SHARDS else None


def journal(file: Path) -> Path:
    """Folder of an embedding file's journal segments."""
    return file.with_name(file.name + _JOURNAL)


def manifest(file: Path) -> Path:
    """File with size and time of the images, as they were when they were embedded."""
    return file.with_name(file.name + _MANIFEST)


def lock(file: Path) -> Path:
    """File that says who is writing."""
    return file.with_name(file.name + _LOCK)


def draft(file: Path, token: str) -> Path:
    """Where a file is put together by the holder of the lock with this token."""
    return file.with_name(f"{file.name}.{token}{_DRAFT}")


def drafts(file: Path) -> list[Path]:
    """List every draft of a file, whoever wrote it."""
    return [path for path in file.parent.glob(f"{glob.escape(file.name)}.*") if _is(path, _DRAFT, file)]


def unfinished(folder: Path) -> tuple[list[Path], list[Path]]:
    """List the drafts and the journals in a folder."""
    drafts = [path for path in folder.glob(f"*{_DRAFT}") if _is(path, _DRAFT)]
    return sorted(drafts), sorted(path for path in folder.glob(f"*{_JOURNAL}") if path.is_dir())


def owner(path: Path) -> Path:
    """Return the embedding file to which a draft or a journal belongs; a file itself is its own."""
    match = _BESIDE.fullmatch(path.name)
    return path.with_name(match[1]) if match else path


def _is(path: Path, suffix: str, file: Path | None = None) -> bool:
    found = owner(path)
    return path.suffix == suffix and found != path and (found == file if file else found.suffix in STORES)
