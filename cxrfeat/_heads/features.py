"""Embedding files of one study, opened together and joined to it by image id."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxrfeat import _manifest as manifest
from cxrfeat._files import sha256
from cxrfeat._heads.solver import rows as solver_rows
from cxrfeat._heads.solver.rows import MatrixRows, Rows
from cxrfeat._project import embedding_path
from cxrfeat._recipe import Recipe
from cxrfeat._store import EmbeddingFile
from cxrfeat._study import Study
from cxrfeat.errors import EmbeddingFileError, HeadError, RecipeError

READ = 1000
"""Images that are read at most, to compare them with those of an embedding file."""


def paths_of(embeddings: Any, study: Study, backbones: str | Sequence[str] | None = None) -> list[Path]:
    """Paths of embedding files given as paths or as objects with a `path`, one or several.

    By default the study's newest, or the newest of each backbone named.
    """
    if embeddings is None or (isinstance(embeddings, list | tuple) and not embeddings):
        names: Sequence[str | None] = [backbones] if isinstance(backbones, str) else backbones or [None]
        return [embedding_path(None, study, backbone=name) for name in names]
    if backbones:
        raise HeadError("`backbone` chooses embedding files and `embeddings` names them; give one of them.")
    given = list(embeddings) if isinstance(embeddings, list | tuple) else [embeddings]
    return [Path(getattr(one, "path", one)) for one in given]


def check_images(study: Study, file: EmbeddingFile) -> None:
    """Raise an EmbeddingFileError if images of the study are not those that the rows of the file were made from.

    Ids say nothing of that: two hospitals have an image `1.png`. Files whose size, time and place are those of the
    extraction are unchanged; of the others, up to `READ` are compared byte by byte. Images that are not here, or whose
    hash the file does not have, cannot be compared.
    """
    hashes = file.image_sha256(study.ids)
    now, then = manifest.look(study), manifest.read(file.path)
    doubtful = (hashes.any(axis=1) & ~now.missing & ~now.same_as(then)).nonzero()[0]
    if not len(doubtful) or (not len(then.image_ids) and study.sha256 in file.study_sha256):
        return
    paths = study.paths()
    read = doubtful[np.unique(np.linspace(0, len(doubtful) - 1, min(len(doubtful), READ)).astype(int))]
    different = []
    for row in read:
        with suppress(OSError):  # one that cannot be read cannot be compared
            if bytes.fromhex(sha256(paths[row])) != hashes[row].tobytes():
                different.append(str(study.ids[row]))
    if different:
        raise EmbeddingFileError(
            f"{len(different)} of {len(read)} images compared of study {study.name!r} are not those that {file.path} "
            f"was made from, the first is {different[0]!r}: it is another study's, or the images have changed. Run "
            "`cxrfeat extract`, or name the study's own file in `embeddings`."
        )


class Features:
    """One or more embedding files as one: their embeddings are joined side by side. A context manager."""

    def __init__(self, paths: Sequence[str | Path]) -> None:
        if not paths:
            raise HeadError("a head needs at least one embedding file; `cxrfeat extract` makes one.")
        with ExitStack() as stack:
            self.files = [stack.enter_context(EmbeddingFile.open(Path(path))) for path in paths]
            self._stack = stack.pop_all()

    def __enter__(self) -> Features:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    @property
    def recipes(self) -> tuple[Recipe, ...]:
        """Recipe of every file."""
        return tuple(file.recipe for file in self.files)

    @property
    def dims(self) -> tuple[int, ...]:
        """Embedding length of every file."""
        return tuple(file.dim for file in self.files)

    @property
    def dim(self) -> int:
        """Length of the joined embeddings."""
        return sum(self.dims)

    @property
    def passes(self) -> tuple[int, ...]:
        """The passes that every file has: 0, and 1.. if augmented."""
        return tuple(range(min(file.passes for file in self.files)))

    def only(self, number: int) -> Features:
        """One of the files by itself; it stays open as long as these features are."""
        alone = object.__new__(Features)
        alone.files, alone._stack = [self.files[number]], ExitStack()
        return alone

    def require(self, recipes: Sequence[Recipe]) -> None:
        """Raise a RecipeError unless pass 0 was made by the same recipes, in the same order."""
        if len(recipes) != len(self.files):
            raise RecipeError(
                f"the head was trained on {len(recipes)} joined embedding files and is given {len(self.files)}; "
                f"give files of: {'; '.join(recipe.describe() for recipe in recipes)}."
            )
        for file, recipe in zip(self.files, recipes, strict=True):
            if file.recipe.pass0 != recipe.pass0:
                difference = recipe.pass0.difference(file.recipe.pass0)
                raise RecipeError(
                    f"the head was not trained on embeddings of {file.path.name}: its recipe differs ({difference}). "
                    "Use the file it was trained on, or extract this study by the same recipe."
                )

    def usable(self, study: Study) -> Study:
        """The images of a study that every file has, in the study's order.

        An EmbeddingFileError names a file that lacks images which it does not list as unusable, or has none of them.
        """
        keep = np.ones(len(study), dtype=bool)
        for file in self.files:
            there = pd.Index(study.ids).isin(pd.Index(file.image_ids))
            if not there.any():
                raise EmbeddingFileError(
                    f"{file.path} has none of the {len(study)} images of study {study.name!r}; it was made from "
                    "another study. Name the right file, or run `cxrfeat extract`."
                )
            failed = pd.Index(study.ids).isin(pd.Index(file.failures()["image_id"]))
            lacking = study.ids[~there & ~failed]
            if len(lacking):
                raise EmbeddingFileError(
                    f"{file.path} lacks {len(lacking)} of the {len(study)} images of study {study.name!r}, the first "
                    f"is {lacking[0]!r}; `cxrfeat extract` adds them."
                )
            keep &= there
        usable = study if keep.all() else study.take(keep)
        for file in self.files:
            check_images(usable, file)
        return usable

    def in_file_order(self, study: Study) -> Study:
        """The study's rows in the order of the first file, so that reading moves forward only."""
        place = pd.Index(self.files[0].image_ids).get_indexer(pd.Index(study.ids))
        return study.take(np.argsort(place, kind="stable"))

    def matrix(self, image_ids: npt.NDArray[np.str_], passes: Sequence[int] = (0,)) -> npt.NDArray[np.float32]:
        """Joined embeddings, float32 (passes * n, dim): all images of one pass, then of the next."""
        if len(self.files) == 1:
            return self.files[0].read(image_ids, tuple(passes)).reshape(-1, self.dim)
        out, start = np.empty((len(passes), len(image_ids), self.dim), dtype=np.float32), 0
        for file in self.files:
            out[:, :, start : start + file.dim] = file.read(image_ids, tuple(passes))
            start += file.dim
        return out.reshape(-1, self.dim)

    def rows(self, image_ids: npt.NDArray[np.str_], passes: Sequence[int], memory: int | None = None) -> Rows:
        """The same embeddings to sweep over, read from the files every time if they exceed `memory` bytes."""
        if memory is not None and len(passes) * len(image_ids) * self.dim * 4 > memory:
            # A quarter for what is being read, the rest for what the head keeps of it.
            return FileRows(self.files, image_ids, passes, memory // 4)
        return MatrixRows(self.matrix(image_ids, passes), len(image_ids))


class FileRows:
    """Rows read from embedding files at every sweep, for a matrix that does not fit into memory.

    The rows of one pass follow those of the pass before; `memory` bytes are read at once, rounded to whole blocks, at
    least one.
    """

    def __init__(
        self, files: Sequence[EmbeddingFile], image_ids: npt.NDArray[np.str_], passes: Sequence[int], memory: int
    ) -> None:
        self.files, self.image_ids, self.passes = list(files), image_ids, tuple(passes)
        self.dim = sum(file.dim for file in files)
        self.block = solver_rows.BLOCK
        self.batch = self.block * max(1, memory // (self.block * self.dim * 4))

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and features."""
        return len(self.passes) * len(self.image_ids), self.dim

    @property
    def dtype(self) -> np.dtype[Any]:
        """Always float32."""
        return np.dtype(np.float32)

    def blocks(self) -> Iterator[tuple[slice, npt.NDArray[Any]]]:
        """Every block once, read anew."""
        for number, one in enumerate(self.passes):
            base = number * len(self.image_ids)
            readers = [file.batches(self.image_ids, (one,), self.batch) for file in self.files]
            for parts in zip(*readers, strict=True):
                start = base + parts[0][0].start
                joined = [part[1][0] for part in parts]
                x = joined[0] if len(joined) == 1 else np.concatenate(joined, axis=1)
                for at in range(0, len(x), self.block):
                    yield slice(start + at, start + min(at + self.block, len(x))), x[at : at + self.block]

    def take(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Copy some rows, in one sweep."""
        out = np.empty((len(rows), self.dim), dtype=np.float32)
        for place, x in self.blocks():
            first, last = np.searchsorted(rows, (place.start, place.stop))
            out[first:last] = x[rows[first:last] - place.start]
        return out
