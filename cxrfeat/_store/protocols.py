"""The two sides of the store: a journal that keeps rows as they come, and a published file that holds them all.

`Writer`, `EmbeddingFile`, merge, repair and verify know these protocols and no format. Another format is a module with
a `Store`, and its line in `names.STORES`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import numpy.typing as npt

from cxrfeat._recipe import Recipe
from cxrfeat._store import names
from cxrfeat._store.lock import Lock
from cxrfeat._store.rows import Failure, Header, Rows


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


@dataclass(frozen=True)
class Segment:
    """Durable rows of a journal: `rows` has ids and image hashes; `load` reads the embeddings too, checked again."""

    path: Path
    rows: Rows
    failures: Sequence[Failure]
    provenance: str
    load: Callable[[], Rows]


class Journal(Protocol):
    """What keeps the rows of an extraction until they are published; of two rows with one id, the later counts."""

    folder: Path

    def find(self, recipe: Recipe, dim: int) -> tuple[list[Segment], list[Path]]:
        """Return the sound segments, oldest first, and the files that are damaged or unfinished."""

    def write(self, lock: Lock, recipe: Recipe, provenance: str, rows: Rows, failures: Sequence[Failure]) -> Segment:
        """Keep rows durably, if the lock is still held."""

    def shards(self, lock: Lock) -> Shards:
        """Return what workers elsewhere write segments with, while the lock is held."""

    def take(self, path: Path, rows: Rows) -> Segment:
        """Return the segment that a worker wrote, of which ids and image hashes are known; it must be there."""

    def remove(self, paths: Sequence[Path]) -> None:
        """Remove segments or what is left of them."""


class Shards(Protocol):
    """A journal for a worker of the process that writes `file`; it can be pickled."""

    @property
    def file(self) -> Path:
        """The embedding file."""

    def check(self) -> None:
        """Raise an EmbeddingFileError unless the journal is seen here, and the writer still holds its lock."""

    def write(self, recipe: Recipe, provenance: str, rows: Rows) -> Path:
        """Keep rows durably as one more segment, whole or not at all, if the lock is still held.

        Values are checked and rounded as `Writer.append` does.
        """


def store_of(path: Path) -> Store:
    """Return the store of a file, or of its draft, by its ending."""
    return cast(Store, import_module(names.STORES.get(names.owner(path).suffix, names.STORES[names.SUFFIX])))
