"""Reading an embedding file, whatever its format: rows are joined by id, and each block read is checked.

A read that touches one row of a block reads the whole block (256 rows), since that is what a checksum covers. Reading
in the file's own order, or any order, costs each block once; reading single rows costs a block each.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from itertools import pairwise, product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cxrfeat._html import page
from cxrfeat._recipe import Recipe
from cxrfeat._remote import Place, Url, local, place
from cxrfeat._store import rows
from cxrfeat._store.ids import Ids
from cxrfeat._store.protocols import Table, store_of
from cxrfeat._store.rows import BLOCK, Failure, Header, Rows
from cxrfeat.errors import EmbeddingFileError, NotFoundError, RecipeError

if TYPE_CHECKING:
    import pandas as pd

ImageIds = Sequence[str] | npt.NDArray[np.str_]


class EmbeddingFile:
    """A published embedding file, or a collection of them, open for reading; a context manager.

    Opening checks all but the embeddings against the SHA-256s in the file. The first read of each block of 256 rows
    checks that block, so a damaged or non-finite value is an error and never a result.

    Parameters
    ----------
    path : str or Path
        The file, or the folder of a collection. Of a file at an address a copy is kept in the user's cache folder.

    Attributes
    ----------
    path : pathlib.Path
        The file or folder.
    recipe : Recipe
        What made it.
    provenance : dict
        With which packages, engine and device, and when; `earlier` lists the sessions before the last one.
    image_ids : ndarray of str, (n,)
        In the order of the rows.
    dim, passes : int
        Length of an embedding, and number of renderings: `recipe.passes` + 1.

    Raises
    ------
    NotFoundError
        If the file is not there.
    EmbeddingFileError
        If it is damaged, not an embedding file, or of a newer version.

    Examples
    --------
    >>> import cxrfeat as cxr
    >>> import numpy as np
    >>> cxr.cache.import_(np.ones((2, 4)), "cache/a.h5", ids=["1", "2"], backbone="ours").close()
    >>> with cxr.EmbeddingFile("cache/a.h5") as file:
    ...     x = file.to_numpy(["2"])
    >>> x
    array([[1., 1., 1., 1.]], dtype=float32)
    """

    def __new__(cls, path: str | Place = "") -> EmbeddingFile:
        """Make a `Collection` of a folder."""
        if cls is EmbeddingFile and path and not isinstance(there := place(path), Url) and there.is_dir():
            from cxrfeat._store.collection import Collection

            return object.__new__(Collection)
        return object.__new__(cls)

    def __init__(self, path: str | Place) -> None:
        path = local(path)
        if not path.is_file():
            raise NotFoundError(f"No embedding file found at {path}. Run `cxrfeat extract`.")
        self._take(store_of(path).open_sound(path))
        if not self.problems and len(self._ids.twice):
            self.problems.append("an image_id is duplicated")
        if self.problems:
            self.close()
            raise rows.damaged(path, self.problems[0])

    @classmethod
    def open(cls, path: str | Place) -> EmbeddingFile:
        """Open a file: the same as `EmbeddingFile(path)`.

        Parameters
        ----------
        path
            The file.
        """
        return cls(path)

    def _take(self, table: Table) -> None:
        self._table, self.path = table, table.path
        self.passes, self._n, self.dim = self.header.shape
        self._checked = np.zeros((self.passes, -(-self._n // BLOCK)), bool)
        try:
            self.recipe = self._read_recipe()
            self._ids = Ids(self.header.ids)
            self.problems = [*table.problems, *self._mismatches(), *filter(None, [self._ids.problem])]
        except BaseException:
            table.close()
            raise

    def __enter__(self) -> EmbeddingFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return self._n

    def __contains__(self, image_id: object) -> bool:
        return bool(self.has([str(image_id)])[0])

    def __repr__(self) -> str:
        failed = f", {len(self.failed):,} failures" if self.failed else ""
        size = f"{len(self):,} images, {self.passes} passes, dim {self.dim}{failed}"
        return f"<{type(self).__name__} {self.path.name}: {size}; {self.recipe.describe()}>"

    def _repr_html_(self) -> str:
        facts = {"recipe": self.recipe.describe(), "images": len(self), "passes": self.passes, "dim": self.dim}
        made = {key: self.provenance[key] for key in ("engine", "created") if key in self.provenance}
        failed = [dict(zip(("image_id", "path", "reason"), row, strict=True)) for row in self.failed]
        return page(str(self.path), facts | {"failures": len(failed)} | made, failed[:10])

    def close(self) -> None:
        """Close the file."""
        self._table.close()

    def read(self, image_ids: ImageIds | None = None, passes: Sequence[int] = (0,)) -> npt.NDArray[np.float32]:
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
            If an id or a pass is not in the file, or a block that is read does not match its SHA-256 or holds NaN.
        """
        return self.read_rows(self.rows_of(image_ids), passes)

    def read_rows(self, wanted: npt.NDArray[np.int64], passes: Sequence[int] = (0,)) -> npt.NDArray[np.float32]:
        """Read rows by their numbers; `read` otherwise.

        Parameters
        ----------
        wanted : int64 (n,)
            Row numbers, as `rows_of` gives them: looked up once for many reads.
        passes
            See `read`.
        """
        for pass_ in passes:
            if not 0 <= pass_ < self.passes:
                raise EmbeddingFileError(
                    f"pass {pass_} is not in {self.path}: it has pass 0 and {self.passes - 1} augmented."
                )
        out = np.empty((len(passes), len(wanted), self.dim), dtype=np.float32)
        order = None if (wanted[1:] >= wanted[:-1]).all() else np.argsort(wanted, kind="stable")
        self._fill(out, wanted if order is None else wanted[order], order, passes)
        return out

    def _fill(
        self,
        out: npt.NDArray[np.float32],
        wanted: npt.NDArray[np.int64],
        places: npt.NDArray[np.int64] | None,
        passes: Sequence[int],
    ) -> None:
        """Read rows, `wanted` in ascending order, to their `places` in `out`; without, one after another."""
        buffers = np.empty((2, min(len(self), BLOCK), self.dim), dtype=np.float32)
        checks: list[Future[None] | None] = [None, None]  # of what was last read to each buffer
        with ThreadPoolExecutor(1) as checker:  # one block is hashed while the next is read
            for number, (k, (block, here)) in enumerate(product(range(len(passes)), _by_block(wanted))):
                _wait(checks[number % 2])
                within = wanted[here] - block * BLOCK
                size = min(BLOCK, len(self) - block * BLOCK)
                straight = places is None and len(within) == size and bool((within == np.arange(size)).all())
                values = out[k, here] if straight else buffers[number % 2, :size]
                self._table.read(passes[k], block, values)
                if not straight:
                    out[k, here if places is None else places[here]] = values[within]
                known = self._checked[passes[k], block]
                checks[number % 2] = None if known else checker.submit(self._check_block, passes[k], block, values)
            for check in checks:
                _wait(check)

    def rows_of(self, image_ids: ImageIds | None = None) -> npt.NDArray[np.int64]:
        """Row numbers of images, int64 (len(image_ids),).

        Parameters
        ----------
        image_ids
            See `read`.
        """
        if image_ids is None:
            return np.arange(len(self))
        found = self._ids.find(image_ids)
        if (found < 0).any():
            missing = (found < 0).nonzero()[0]
            raise EmbeddingFileError(
                f"{len(missing)} of {len(found)} images are not in {self.path}, the first is "
                f"{str(image_ids[missing[0]])!r}. Run `cxrfeat extract` for this study, or name its own embedding file."
            )
        return found

    def has(self, image_ids: ImageIds) -> npt.NDArray[np.bool_]:
        """Whether images have a row, bool (len(image_ids),).

        Parameters
        ----------
        image_ids : sequence of str
            Any ids.
        """
        return self._ids.find(image_ids) >= 0

    def batches(
        self, image_ids: ImageIds | None = None, passes: Sequence[int] = (0,), rows: int = 4096
    ) -> Iterator[tuple[slice, npt.NDArray[np.float32]]]:
        """Read `rows` at a time, never holding more than one batch and one block.

        Cheapest in the file's order; in a random one every batch reads every block that it touches.

        Parameters
        ----------
        image_ids, passes
            See `read`.
        rows : int
            Rows at a time.

        Yields
        ------
        slice, float32 (len(passes), <= rows, dim)
            Positions in `image_ids`, and their embeddings.
        """
        count = len(self) if image_ids is None else len(image_ids)
        for start in range(0, count, rows):
            part = slice(start, min(start + rows, count))
            where = np.arange(part.start, part.stop) if image_ids is None else self.rows_of(image_ids[part])
            yield part, self.read_rows(where, passes)

    def blocks(
        self, pass_: int = 0, rows: int = 4096
    ) -> Iterator[tuple[npt.NDArray[np.str_], npt.NDArray[np.float32]]]:
        """Read one rendering in the file's order, `rows` at a time, and nothing else: ids are not held either.

        Parameters
        ----------
        pass_, rows
            See `batches`.

        Yields
        ------
        ndarray of str, float32 (<= rows, dim)
            Image ids, and their embeddings.
        """
        for part, values in self.batches(passes=(pass_,), rows=rows):
            yield self._ids.decoded(part), values[0]

    def to_numpy(self, image_ids: ImageIds | None = None, pass_: int = 0) -> npt.NDArray[np.float32]:
        """Read one rendering as a matrix, float32 (len(image_ids), dim).

        Parameters
        ----------
        image_ids, pass_
            See `read`.
        """
        return self.read(image_ids, (pass_,))[0]

    def to_frame(self, image_ids: ImageIds | None = None, pass_: int = 0) -> pd.DataFrame:
        """Read one rendering as a table indexed by `image_id`, with columns 0 to dim - 1.

        Parameters
        ----------
        image_ids, pass_
            See `read`.
        """
        import pandas as pd

        wanted = self.image_ids if image_ids is None else image_ids
        return pd.DataFrame(self.to_numpy(wanted, pass_), index=pd.Index(wanted, name="image_id", dtype=str))

    def failures(self) -> pd.DataFrame:
        """Images that could not be used: columns `image_id`, `path`, `reason`."""
        import pandas as pd

        return pd.DataFrame(self.failed, columns=["image_id", "path", "reason"], dtype=str)

    def image_sha256(self, image_ids: ImageIds | None = None) -> npt.NDArray[np.uint8]:
        """SHA-256 of the image files from which rows were made, uint8 (len(image_ids), 32); zeros where it is unknown.

        Parameters
        ----------
        image_ids : sequence of str, optional
            Whose, in this order; by default all, in the file's order.
        """
        hashes = self.header.image_sha256
        return hashes if image_ids is None else hashes[self.rows_of(image_ids)]

    @property
    def failed(self) -> Sequence[Failure]:
        """The failures as (image_id, path, reason)."""
        return self.header.failures

    @cached_property
    def header(self) -> Header:
        """All that the file says beside its embeddings."""
        return self._table.header

    @cached_property
    def image_ids(self) -> npt.NDArray[np.str_]:
        """All ids, in the order of the rows."""
        return self._ids.decoded(slice(None))

    @property
    def content_sha256(self) -> str:
        """Hash of everything but the provenance: files with the same one hold the same rows in the same order."""
        return self._table.sha256.get("content") or self.header.content_sha256(self._table.block_sha256)

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """With which packages, engine and device, and when."""
        try:
            found = json.loads(self.header.provenance)
        except (ValueError, RecursionError) as error:
            raise EmbeddingFileError(f"{self.path} is damaged: its provenance is no JSON.") from error
        return found if isinstance(found, dict) else {"provenance": found}

    def _block(self, number: int) -> Rows:
        """Return one block of rows, all passes, unchecked."""
        part = slice(number * BLOCK, min((number + 1) * BLOCK, len(self)))
        embeddings = np.empty((self.passes, part.stop - part.start, self.dim), np.float32)
        for pass_, out in enumerate(embeddings):
            self._table.read(pass_, number, out)
        return Rows(self.header.ids[part], self.header.image_sha256[part], embeddings)

    def _sound(self, number: int, found: Rows) -> bool:
        """Whether what `_block` returned is what was written, by SHA-256."""
        now = [rows.digest(found.ids, found.image_sha256), *map(rows.digest, found.embeddings)]
        return bool((np.stack(now) == self._table.block_sha256[:, number]).all())

    def _check_block(self, pass_: int, block: int, out: npt.NDArray[np.float32]) -> None:
        """Raise unless what was read is what was written, and finite."""
        where = f"rows {block * BLOCK} to {block * BLOCK + len(out) - 1} of pass {pass_}"
        if (rows.digest(out) != self._table.block_sha256[1 + pass_, block]).any():
            raise rows.damaged(self.path, f"{where} do not match their SHA-256")
        if not np.isfinite(out).all():
            raise rows.damaged(self.path, f"{where} hold a value that is NaN or infinite")
        self._checked[pass_, block] = True

    def _read_recipe(self) -> Recipe:
        text = self.header.recipe
        if self._table.sha256.get("recipe", rows.text_sha256(text)) != rows.text_sha256(text):
            raise EmbeddingFileError(f"{self.path} is damaged: its recipe does not match its recipe_sha256.")
        try:
            recipe = Recipe.from_json(text)
        except (RecipeError, RecursionError) as error:
            raise EmbeddingFileError(f"{self.path}: {str(error).rstrip('.')}.") from error
        if recipe.passes + 1 != self.passes:
            raise EmbeddingFileError(
                f"{self.path}: its recipe has {recipe.passes} augmented passes, /embeddings {self.passes - 1}."
            )
        return recipe

    def _mismatches(self) -> list[str]:
        """What does not match its SHA-256, but for the embeddings."""
        found, stated, header, table = [], self._table.sha256, self.header, self._table.block_sha256
        if stated and rows.text_sha256(header.provenance) != stated["provenance"]:
            found.append("its provenance does not match its hash")
        for number, part in rows.blocks(len(self)):
            if (rows.digest(header.ids[part], header.image_sha256[part]) != table[0, number]).any():
                found.append(f"the ids or image hashes of rows {part.start} to {part.stop - 1} do not match their hash")
        if stated and header.content_sha256(table) != stated["content"]:
            found.append("its content_sha256 does not match its recipe, failures and block_sha256")
        return found


def open_damaged(path: Path, salvage: bool = False) -> EmbeddingFile:
    """Open a file for verify and repair: what is wrong is in `problems`, and `salvage` tries every way to its rows."""
    if not path.is_file():
        raise NotFoundError(f"No embedding file found at {path}. Run `cxrfeat extract`.")
    store, file = store_of(path), EmbeddingFile.__new__(EmbeddingFile)
    file._take(store.open_damaged(path) if salvage else store.open_sound(path))
    return file


def _wait(check: Future[None] | None) -> None:
    if check is not None:
        check.result()


def _by_block(wanted: npt.NDArray[np.int64]) -> Iterator[tuple[int, slice]]:
    """Number of each block that sorted rows touch, and which of them are in it."""
    blocks = wanted // BLOCK
    edges = [*np.flatnonzero(np.diff(blocks, prepend=-1)).tolist(), len(wanted)]
    for begin, end in pairwise(edges):
        yield int(blocks[begin]), slice(begin, end)
