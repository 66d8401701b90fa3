"""What a format of published files is: `Writer`, `EmbeddingFile`, merge, repair and verify know no more of it.

Another format is a module with a `Store`, and its line in `names.STORES`.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import numpy.typing as npt

from cxrfeat._store import names
from cxrfeat._store.rows import Header


class Table(Protocol):
    """A published file, open for reading, with what is wrong beside its rows in `problems`.

    It states hashes of its `recipe`, `provenance` and `content` (`sha256`), and of blocks (uint8 (1 + P, blocks, 32)).
    """

    path: Path
    header: Header
    sha256: dict[str, str]
    block_sha256: npt.NDArray[np.uint8]
    problems: list[str]

    def read(self, pass_: int, block: int, out: npt.NDArray[np.float32]) -> None:
        """Read one pass of one block to `out`, float32 (rows of the block, dim)."""

    def close(self) -> None:
        """Close the file."""


class Store(Protocol):
    """A format of published files: a module."""

    def open_sound(self, path: Path) -> Table:
        """Open a file that is there, or raise an EmbeddingFileError that says what is wrong with it."""

    def open_damaged(self, path: Path) -> Table:
        """Open a damaged file by whatever way still leads to its rows."""

    def write(self, path: Path, header: Header, stretches: Iterable[npt.NDArray[np.float32]]) -> None:
        """Write a new file, durably, of embeddings (passes, rows, dim) in whole blocks but for the last."""

    def damage_outside(self, path: Path) -> str:
        """Say what is damaged beside what `open_sound` reads; empty if nothing is."""


def store_of(path: Path) -> Store:
    """Return the store of a file, or of its draft, by its ending."""
    return cast(Store, import_module(names.STORES.get(names.owner(path).suffix, names.STORES[names.SUFFIX])))
