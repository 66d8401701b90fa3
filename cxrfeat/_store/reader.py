"""Reading an embedding file: every size is bounded before any memory is taken, and rows are joined by id.

A read that touches one row of a block reads the whole block (256 rows), since that is what a checksum covers. Reading
in the file's own order, or any order, costs each block once; reading single rows costs a block each.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import numpy.typing as npt

from cxrfeat._recipe import Recipe
from cxrfeat._store import layout, schema
from cxrfeat._store.layout import BLOCK
from cxrfeat.errors import EmbeddingFileError, NotFoundError, RecipeError

if TYPE_CHECKING:
    import pandas as pd

Ids = Sequence[str] | npt.NDArray[np.str_]


class EmbeddingFile:
    """A published embedding file, open for reading; a context manager.

    Opening checks everything but the embeddings themselves against the SHA-256s in the file; each read checks what it
    reads against HDF5's checksums; `verify` does the rest.

    Parameters
    ----------
    path, file, tolerant, limit
        The file, opened; use `EmbeddingFile.open`, which checks it first.

    Attributes
    ----------
    path : pathlib.Path
        The file.
    recipe : Recipe
        What made it.
    provenance : dict
        With which packages, engine and device, and when.
    image_ids : ndarray of str, (n,)
        In the order of the rows.
    dim, passes : int
        Length of an embedding, and number of renderings: `recipe.passes` + 1.
    """

    def __init__(self, path: Path, file: h5py.File, tolerant: bool = False, limit: int | None = None) -> None:
        self.path = path
        self._file = file
        self._data = schema.datasets(file, path, path.stat().st_size if limit is None else limit)
        self.passes, _, self.dim = self._data["embeddings"].shape
        self.encoded_ids = np.asarray(self._read_all("image_id"))
        self._hashes = np.asarray(self._read_all("image_sha256"))
        self._table = np.asarray(self._read_all("block_sha256"))
        self.recipe = self._read_recipe()
        self.problems = self._problems()
        if self.problems and not tolerant:
            raise EmbeddingFileError(
                f"{path} is damaged: {self.problems[0]}. `cxrfeat cache repair {path}` keeps what is sound."
            )
        self.image_ids: npt.NDArray[np.str_] = self._decode_ids()

    @classmethod
    def open(cls, path: str | Path) -> EmbeddingFile:
        """Open a file.

        Parameters
        ----------
        path : str or Path
            The file.

        Raises
        ------
        NotFoundError
            If it is not there.
        EmbeddingFileError
            If it is damaged, not an embedding file, or of a newer version.
        """
        return cls._open(Path(path), tolerant=False)

    @classmethod
    def open_damaged(cls, path: Path, padded: io.RawIOBase | None = None, limit: int | None = None) -> EmbeddingFile:
        """Open a file even if hashes do not match, with what is wrong in `problems`; for `verify` and `repair`.

        `padded` gives its bytes in the file's stead, `limit` of them.

        Parameters
        ----------
        path, padded, limit
            The file, and what stands in for its bytes where it was cut short.
        """
        return cls._open(path, tolerant=True, padded=padded, limit=limit)

    @classmethod
    def _open(
        cls, path: Path, tolerant: bool, padded: io.RawIOBase | None = None, limit: int | None = None
    ) -> EmbeddingFile:
        if not path.is_file():
            raise NotFoundError(f"no embedding file at {path}; `cxrfeat extract` makes one.")
        file = schema.open_file(path, padded)
        with schema.closing_on_error(file, path):
            return cls(path, file, tolerant, limit)

    def __enter__(self) -> EmbeddingFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self.encoded_ids)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def read(self, image_ids: Ids | None = None, passes: Sequence[int] = (0,)) -> npt.NDArray[np.float32]:
        """Read rows, joined by id, in the order asked.

        Parameters
        ----------
        image_ids : sequence of str, optional
            By default all, in the file's order.
        passes : sequence of int
            Which renderings: 0 is never augmented.

        Returns
        -------
        float32 (len(passes), len(image_ids), dim)
            The embeddings; no other array of that size is made.

        Raises
        ------
        EmbeddingFileError
            If an id or a pass is not in the file, or what is read does not match its checksum.
        """
        rows = self._rows(image_ids)
        self._check_passes(passes)
        out = np.empty((len(passes), len(rows), self.dim), dtype=np.float32)
        order = None if (rows[1:] >= rows[:-1]).all() else np.argsort(rows, kind="stable")
        in_order = rows if order is None else rows[order]
        buffer = np.empty((min(len(self), BLOCK), self.dim), dtype=np.float32)
        for k, pass_ in enumerate(passes):
            for start, here in _by_block(in_order):
                self._read_block(out[k], pass_, start, here, in_order, order, buffer)
        return out

    def batches(
        self, image_ids: Ids | None = None, passes: Sequence[int] = (0,), rows: int = 4096
    ) -> Iterator[tuple[slice, npt.NDArray[np.float32]]]:
        """Read `rows` at a time, never holding more than one batch and one block.

        Cheapest in the file's order; in a random one every batch reads every block that it touches.

        Parameters
        ----------
        image_ids : sequence of str, optional
            Which rows, in order; by default all, as they are stored.
        passes : sequence of int
            Which renderings.
        rows : int
            Rows at a time.

        Yields
        ------
        slice, float32 (len(passes), <= rows, dim)
            Positions in `image_ids`, and their embeddings.
        """
        wanted = self.image_ids if image_ids is None else image_ids
        for start in range(0, len(wanted), rows):
            part = slice(start, min(start + rows, len(wanted)))
            yield part, self.read(wanted[part], passes)

    def failures(self) -> pd.DataFrame:
        """Images that could not be used: columns `image_id`, `path`, `reason`."""
        import pandas as pd

        return pd.DataFrame(self.failed, columns=["image_id", "path", "reason"], dtype=str)

    def image_sha256(self) -> npt.NDArray[np.uint8]:
        """Hashes of the image files' bytes, uint8 (n, 32), in the order of the rows."""
        return self._hashes

    @cached_property
    def failed(self) -> list[layout.Failure]:
        """The failures as (image_id, path, reason)."""
        rows = np.asarray(self._read_all("failures"))
        columns = (layout.decode_texts(rows[name]).tolist() for name in ("image_id", "path", "reason"))
        return list(zip(*columns, strict=True))

    @cached_property
    def positions(self) -> dict[str, int]:
        """Row of each image id."""
        return dict(zip(self.image_ids.tolist(), range(len(self)), strict=True))

    @property
    def content_sha256(self) -> str:
        """The hash that stands for everything but the provenance."""
        return schema.text(self._file, "content_sha256", self.path)

    @property
    def provenance_text(self) -> str:
        """The provenance as it stands in the file."""
        return schema.text(self._file, "provenance", self.path)

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Package versions, engine, device and time; not part of the content."""
        try:
            found = json.loads(self.provenance_text)
        except ValueError as error:
            raise EmbeddingFileError(f"{self.path}: its provenance is not JSON: {error}.") from error
        return found if isinstance(found, dict) else {}

    def block(self, number: int) -> layout.Rows:
        """Return one block of rows, all passes.

        Parameters
        ----------
        number : int
            Of the block, from 0.
        """
        rows = slice(number * BLOCK, min((number + 1) * BLOCK, len(self)))
        try:
            embeddings = self._data["embeddings"][:, rows]
        except schema.HDF5_ERRORS as error:
            raise schema.damaged(self.path, error, f"rows {rows.start} to {rows.stop - 1}") from error
        return layout.Rows(self.encoded_ids[rows], self._hashes[rows], embeddings)

    def sound(self, number: int, rows: layout.Rows) -> bool:
        """Whether what `block` returned is what was written, by SHA-256.

        Parameters
        ----------
        number : int
            Of the block.
        rows : Rows
            What `block` returned.
        """
        return layout.sound(self._table[:, number], rows)

    def _rows(self, image_ids: Ids | None) -> npt.NDArray[np.int64]:
        if image_ids is None or image_ids is self.image_ids:
            return np.arange(len(self))
        wanted = np.asarray(image_ids, dtype=np.str_).tolist()
        rows = np.fromiter((self.positions.get(i, -1) for i in wanted), dtype=np.int64, count=len(wanted))
        if (rows < 0).any():
            missing = (rows < 0).nonzero()[0]
            raise EmbeddingFileError(
                f"{len(missing)} of {len(rows)} images are not in {self.path}, the first is "
                f"{wanted[missing[0]]!r}. Run `cxrfeat extract` for this study, or name its own embedding file."
            )
        return rows

    def _check_passes(self, passes: Sequence[int]) -> None:
        for pass_ in passes:
            if not 0 <= pass_ < self.passes:
                raise EmbeddingFileError(
                    f"pass {pass_} is not in {self.path}: it has pass 0 and {self.passes - 1} augmented."
                )

    def _read_block(
        self,
        out: npt.NDArray[np.float32],
        pass_: int,
        start: int,
        here: slice,
        rows: npt.NDArray[np.int64],
        order: npt.NDArray[np.int64] | None,
        buffer: npt.NDArray[np.float32],
    ) -> None:
        """Read rows[here], which lie in the block that begins at row `start`, to their places in `out`."""
        wanted = rows[here] - start
        size = min(BLOCK, len(self) - start)
        straight = order is None and len(wanted) == size and bool((wanted == np.arange(size)).all())
        try:
            self._data["embeddings"].read_direct(
                out if straight else buffer,
                np.s_[pass_, start : start + size],
                here if straight else np.s_[:size],
            )
        except schema.HDF5_ERRORS as error:
            raise schema.damaged(self.path, error, f"rows {start} to {start + size - 1} of pass {pass_}") from error
        if not straight:
            out[here if order is None else order[here]] = buffer[wanted]

    def _read_all(self, name: str) -> npt.NDArray[Any]:
        try:
            return self._data[name][...]
        except schema.HDF5_ERRORS as error:
            raise schema.damaged(self.path, error, f"/{name}") from error

    def _read_recipe(self) -> Recipe:
        text = schema.text(self._file, "recipe", self.path)
        if layout.text_sha256(text) != schema.text(self._file, "recipe_sha256", self.path):
            raise EmbeddingFileError(f"{self.path} is damaged: its recipe does not match its recipe_sha256.")
        try:
            recipe = Recipe.from_json(text)
        except RecipeError as error:
            raise EmbeddingFileError(f"{self.path}: {error}") from error
        if recipe.passes + 1 != self.passes:
            raise EmbeddingFileError(
                f"{self.path}: its recipe has {recipe.passes} augmented passes, /embeddings {self.passes - 1}."
            )
        return recipe

    def _problems(self) -> list[str]:
        """What does not match its SHA-256, but for the embeddings."""
        found = []
        if layout.text_sha256(self.provenance_text) != schema.text(self._file, "provenance_sha256", self.path):
            found.append("its provenance does not match its hash")
        for number, rows in layout.blocks(len(self)):
            if (layout.digest(self.encoded_ids[rows], self._hashes[rows]) != self._table[0, number]).any():
                found.append(f"the ids or image hashes of rows {rows.start} to {rows.stop - 1} do not match their hash")
        extent = (self.passes, len(self), self.dim)
        content = layout.content_sha256(self.recipe.to_json(), extent, self.failed, self._table)
        if content != self.content_sha256:
            found.append("its content_sha256 does not match its recipe, failures and block_sha256")
        return found

    def _decode_ids(self) -> npt.NDArray[np.str_]:
        ids = layout.decode_texts(self.encoded_ids)
        if len(set(ids.tolist())) != len(ids) and not self.problems:
            raise EmbeddingFileError(f"{self.path} is damaged: an image_id stands in it twice.")
        return ids


def _by_block(rows: npt.NDArray[np.int64]) -> Iterator[tuple[int, slice]]:
    """First row of each block that sorted `rows` touch, and which of them lie in it."""
    blocks = rows // BLOCK
    edges = [*np.flatnonzero(np.diff(blocks, prepend=-1)).tolist(), len(rows)]
    for begin, end in pairwise(edges):
        yield int(blocks[begin]) * BLOCK, slice(begin, end)
