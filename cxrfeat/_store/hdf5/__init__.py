"""Embedding files as HDF5, format version 1 (docs/embedding-file.md). Only this package imports h5py."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cxrfeat._store.hdf5 import salvage, table, writer
from cxrfeat._store.protocols import Store, Table
from cxrfeat._store.rows import Header


class HDF5:
    """The store of HDF5 files."""

    def open(self, path: Path) -> Table:
        """Open a file, described before it is read."""
        return table.HDF5Table(path)

    def salvage(self, path: Path) -> Table:
        """Open a damaged file: as it is, by its recovery index, or as if zeros followed where it was cut."""
        return salvage.open_damaged(path)

    def write(self, path: Path, header: Header, stretches: Iterable[npt.NDArray[np.float32]]) -> None:
        """Write a file and its recovery index."""
        writer.write(path, header, stretches)

    def damage_outside(self, path: Path) -> str:
        """Say if the recovery index after the end of the HDF5 file is damaged."""
        broken = salvage.has_index(path) and salvage.read_index(path) is None
        return "the recovery index at its end is damaged; no row is" if broken else ""


def store() -> Store:
    """Return the store."""
    return HDF5()
