"""What published releases have in common: tables by name and header, folders of images."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

import pandas as pd

from cxrfeat._files import csv_columns, read_csv
from cxrfeat._remote import Place, Url
from cxrfeat.errors import NotFoundError, StudyError


def known_by(files: Sequence[str], columns: Collection[str], by_name: bool = False) -> Callable[[Path], bool]:
    """Return what recognises a release: a table with these columns, or a folder that has one by one of these names.

    With `by_name` the name alone counts in a folder, so that a damaged table is reported as one of the release.
    """
    return lambda source: bool(tables_of(source, files, () if by_name and source.is_dir() else columns))


def tables_of(source: Path, files: Sequence[str], columns: Collection[str]) -> list[Path]:
    """The tables of a release that have these columns: the file itself, or those in the folder, in this order.

    A name of `files` may be a pattern; each is looked for with `.gz` and `.zip` too.
    """
    if source.is_file():
        found = [source]
    else:
        found = [path for file in files for path in _named(source, file)] if source.is_dir() else []
    return [path for path in dict.fromkeys(found) if set(columns) <= csv_columns(path)]


def _named(folder: Path, pattern: str) -> list[Path]:
    """Files of that name, compressed or not. A folder may have 112,120 images: it is listed for patterns only."""
    place, _, name = pattern.rpartition("/")
    found: list[Path] = []
    for here in sorted(folder.glob(place)) if place else [folder]:
        if "*" in name:
            found += (path for path in sorted(here.glob(name + "*")) if path.suffix in (".csv", ".gz", ".zip"))
        else:
            found += (path for end in ("", ".gz", ".zip") if (path := here / (name + end)).is_file())
    return found


def one_table(source: Path, files: Sequence[str], columns: Collection[str]) -> Path:
    """Return the first of `tables_of`, or of those that have the name alone; raise a NotFoundError if there is none."""
    found = tables_of(source, files, columns) or tables_of(source, files, ())
    if not found:
        raise NotFoundError(f"{source} has no table {' or '.join(files)} with the columns {', '.join(columns)}.")
    return found[0]


def cells_of(path: Path, needed: Iterable[str], more: Iterable[str] = ()) -> pd.DataFrame:
    """Read some columns of a table as texts without blanks around them; those of `more` may be missing."""
    needed, wanted = tuple(needed), {*needed, *more}
    raw = read_csv(path, usecols=lambda column: column in wanted)
    if absent := [column for column in needed if column not in raw]:
        raise StudyError(f"{path} has no column {absent[0]!r}; the release's table has {', '.join(needed)}.")
    if raw.empty:
        raise StudyError(f"{path} has no rows.")
    return raw


def image_folder(source: Path, images: Place | None, *names: str) -> Place:
    """The folder of a release's images: the first of these names in the folder given or its own, else that itself."""
    folder = images or (source if source.is_dir() else source.parent)
    return next((folder / name for name in names if (folder / name).is_dir()), folder)


def locate(names: pd.Series, folders: Sequence[Place]) -> pd.Series:
    """Path of each named file, empty if no folder has it; the first folder that has it counts. Each is listed once."""
    where: dict[str, str] = {}
    for folder in reversed(folders):
        if isinstance(folder, Url):
            where.update((path.name, str(path)) for path in folder.iterdir())
            continue
        with os.scandir(folder.absolute()) as entries:
            where.update((entry.name, entry.path) for entry in entries)
    return names.map(where).fillna("")
