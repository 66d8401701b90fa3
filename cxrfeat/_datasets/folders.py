"""Finding a table's images on disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from cxrfeat.errors import NotFoundError, StudyError


def locate(names: pd.Series, folders: Sequence[Path]) -> pd.Series:
    """Path of each named file, str (n,), empty where none of the folders has it; the first folder that has it counts.

    Each folder is listed once, which is some hundred times faster than asking for 112,120 files one by one.
    """
    where: dict[str, str] = {}
    for folder in reversed(folders):
        with os.scandir(folder) as entries:
            where.update((entry.name, entry.path) for entry in entries)
    return names.map(where).fillna("")


def missing(paths: Iterable[Path]) -> np.ndarray:
    """Which of the files are not there, bool (n,); each folder they are in is listed once."""
    listed: dict[Path, set[str]] = {}
    absent = []
    for path in paths:
        if path.parent not in listed:
            listed[path.parent] = {p.name for p in path.parent.iterdir()} if path.parent.is_dir() else set()
        absent.append(path.name not in listed[path.parent])
    return np.array(absent, dtype=bool)


def without_missing(
    table: pd.DataFrame, absent: np.ndarray, names: pd.Series, where: str, tell: Callable[[str], None] | None
) -> pd.DataFrame:
    """Return the rows whose image is there; `absent` ones are left out and told to `tell`, or without it an error.

    `names` are the files' names and `where` is the place they are not at, for the message.

    Raises
    ------
    NotFoundError
        If an image is absent and there is no `tell`.
    StudyError
        If all are.
    """
    if not absent.any():
        return table
    first = names.iloc[int(absent.argmax())]
    if absent.all():
        raise StudyError(
            f"none of the {len(table)} images is {where}, the first is {first!r}; say where the images are."
        )
    found = f"{int(absent.sum())} of {len(table)} images are not {where}, the first is {first!r}"
    if tell is None:
        raise NotFoundError(f"{found}. Put them there, or leave their rows out with --skip-missing.")
    tell(f"{found}; their rows are left out.")
    return table[~absent].reset_index(drop=True)
