"""Size and time of the image files when they were embedded, so that 112,120 files need no second reading.

Kept beside the embedding file as `<file>.seen`, not in it: it is true of one machine only, can be deleted at any time,
and is made again by hashing. A file whose size and time are as they were is taken as unchanged; any other is hashed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cxrfeat import _files as files

MISSING = -1


@dataclass(frozen=True)
class Stamps:
    """Size and modification time of files.

    Attributes
    ----------
    image_ids : ndarray of str, shape (n,)
    stamps : ndarray of int64, shape (n, 2)
        Bytes, and nanoseconds since 1970; -1 where there is no file.
    """

    image_ids: npt.NDArray[np.str_]
    stamps: npt.NDArray[np.int64]

    @property
    def missing(self) -> npt.NDArray[np.bool_]:
        """Where there is no file, bool (n,)."""
        return self.stamps[:, 0] == MISSING

    def same_as(self, other: Stamps) -> npt.NDArray[np.bool_]:
        """Which of these images have the same stamp in `other`, bool (n,); none, twice, is the same."""
        if np.array_equal(self.image_ids, other.image_ids):
            return (self.stamps == other.stamps).all(axis=1)
        if not len(other.image_ids):
            return np.zeros(len(self.image_ids), bool)
        order = np.argsort(other.image_ids)
        place = order[np.searchsorted(other.image_ids, self.image_ids, sorter=order).clip(max=len(order) - 1)]
        return (other.image_ids[place] == self.image_ids) & (other.stamps[place] == self.stamps).all(axis=1)


def look(image_ids: npt.NDArray[np.str_], root: Path, paths: Sequence[str]) -> Stamps:
    """Read the stamps of files; `paths` are relative to `root` or absolute."""
    flat: list[int] = []
    for path in _absolute(root, paths):
        try:
            found = os.stat(path)  # noqa: PTH116  a Path for each file would take longer than looking at it
        except (OSError, ValueError):  # ValueError: a NUL in the path
            flat += (MISSING, MISSING)
        else:
            flat += (found.st_size, found.st_mtime_ns)
    return Stamps(np.asarray(image_ids), np.array(flat, np.int64).reshape(-1, 2))


def _absolute(root: Path, paths: Sequence[str]) -> list[str]:
    base = os.path.join(root, "")  # noqa: PTH118
    if os.name == "posix":  # where a look at the first letter does, and is five times as fast as joining
        return [path if path[:1] == "/" else base + path for path in paths]
    return [os.path.join(base, path) for path in paths]  # noqa: PTH118


def sidecar(path: Path) -> Path:
    """Where the stamps of an embedding file are kept."""
    return path.with_name(path.name + ".seen")


def read(path: Path) -> Stamps:
    """Read the stamps kept with an embedding file; none if there are none or they are damaged."""
    try:
        with sidecar(path).open("rb") as file, np.load(file, allow_pickle=False) as kept:
            return Stamps(kept["image_ids"], kept["stamps"].reshape(-1, 2))
    except (OSError, ValueError, KeyError, EOFError):
        return Stamps(np.zeros(0, "U1"), np.zeros((0, 2), np.int64))


def write(path: Path, stamps: Stamps) -> None:
    """Keep stamps beside an embedding file."""
    with files.atomic_path(sidecar(path)) as part, part.open("wb") as file:
        np.savez(file, image_ids=stamps.image_ids, stamps=stamps.stamps)
