"""A study joined to its embeddings by image id: which rows a head learns from, and which it is tuned on."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cxrfeat import _machine as machine
from cxrfeat import _manifest as manifest
from cxrfeat._heads.base import Floats, Head, Task
from cxrfeat._heads.registry import head_class
from cxrfeat._heads.solver.rows import Bools, FileRows, MatrixRows, Rows
from cxrfeat._heads.weighting import Weighting
from cxrfeat._progress import Progress, silent
from cxrfeat._recipe import Recipe
from cxrfeat._run import Options
from cxrfeat._split import resolve_splits
from cxrfeat._store import EmbeddingFile
from cxrfeat._study import Study, identical_images
from cxrfeat.errors import EmbeddingFileError, HeadError, RecipeError

_log = logging.getLogger(__name__)


class Features:
    """One or more embedding files as one: their embeddings are joined side by side. A context manager.

    If rows to sweep over exceed `memory` bytes, by default half of what is free, they are read from the files in every
    sweep; with a Ray `cluster`, by its workers.
    """

    def __init__(self, paths: Sequence[str | Path], memory: int | None = None, cluster: Any = None) -> None:
        self.memory, self.cluster = memory, cluster
        with ExitStack() as stack:
            self.files = [stack.enter_context(EmbeddingFile.open(Path(path))) for path in paths]
            self._stack = stack.pop_all()

    def __enter__(self) -> Features:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def recipes(self) -> tuple[Recipe, ...]:
        return tuple(file.recipe for file in self.files)

    @property
    def dims(self) -> tuple[int, ...]:
        return tuple(file.dim for file in self.files)

    @property
    def passes(self) -> tuple[int, ...]:
        """The passes that every file has: 0, and 1.. if augmented."""
        return tuple(range(min(file.passes for file in self.files)))

    def passes_of(self, options: Options) -> tuple[int, ...]:
        """The passes that a fit was asked to train on."""
        return self.passes if options.passes == "all" else (0,)

    def each(self) -> Iterator[Features]:
        """Each of the files by itself; it stays open as long as these features are."""
        for file in self.files:
            alone = object.__new__(Features)
            alone.files, alone.memory, alone.cluster, alone._stack = [file], self.memory, self.cluster, ExitStack()
            yield alone

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

    def usable(self, study: Study, progress: Progress = silent) -> Study:
        """The images of a study that every file has, in the study's order; they are those that were embedded.

        An EmbeddingFileError names a file that lacks images which it does not list as unusable, or has none of them, or
        was made from other images.
        """
        keep = np.ones(len(study), dtype=bool)
        for file in self.files:
            there = file.has(study.ids)
            if not there.any():
                raise EmbeddingFileError(
                    f"{file.path} has none of the {len(study)} images of study {study.name!r}; it was made from "
                    "another study. Name the right file, or run `cxrfeat extract`."
                )
            lacking = study.ids[~there]
            lacking = lacking[~np.isin(lacking, np.array([image_id for image_id, _, _ in file.failed], np.str_))]
            if len(lacking):
                raise EmbeddingFileError(
                    f"{file.path} lacks {len(lacking)} of the {len(study)} images of study {study.name!r}, the first "
                    f"is {str(lacking[0])!r}; `cxrfeat extract` adds them."
                )
            keep &= there
        usable = study.take(keep)
        for file in self.files:
            manifest.check(usable, file, progress)
        return usable

    def join_study(self, study: Study, seed: int, progress: Progress = silent) -> Joined:
        """Join a study: its usable images, with a validation split carved from train by `seed` if it has none."""
        usable = self.usable(study, progress)
        usable, note = resolve_splits(usable, seed)
        identical_images(usable, self.files[0].image_sha256(usable.ids))
        split = usable.table["split"].to_numpy(dtype=str)
        order = np.argsort(self.files[0].rows_of(usable.ids), kind="stable")
        return Joined(usable, usable.take(order[split[order] == "train"]), split == "val", note, study.sha256)

    def matrix(self, image_ids: npt.NDArray[np.str_], passes: Sequence[int] = (0,)) -> npt.NDArray[np.float32]:
        """Joined embeddings, float32 (passes * n, dim): all images of one pass, then of the next."""
        dim = sum(self.dims)
        if len(self.files) == 1:
            return self.files[0].read(image_ids, passes).reshape(-1, dim)
        out, start = np.empty((len(passes), len(image_ids), dim), dtype=np.float32), 0
        for file in self.files:
            out[:, :, start : start + file.dim] = file.read(image_ids, passes)
            start += file.dim
        return out.reshape(-1, dim)

    def rows(self, image_ids: npt.NDArray[np.str_], passes: Sequence[int]) -> FileRows:
        """The same embeddings to sweep over, read from the files every time."""
        places = np.stack([file.rows_of(image_ids) for file in self.files])
        return FileRows(self.files, [(one, places) for one in passes])

    def sweep(self, image_ids: npt.NDArray[np.str_], passes: Sequence[int], may_stream: bool = False) -> Rows:
        """The same embeddings to sweep over: in memory, or from the files where they do not fit and a head allows it.

        A HeadError says that they do not fit, for a head that would need them there.
        """
        if self.cluster is not None:
            return self.rows(image_ids, passes)
        count = len(passes) * len(image_ids)
        size, free = count * sum(self.dims) * 4, self.memory or machine.memory()
        fits = size <= (self.memory or free // 2)
        if fits or not (may_stream or self.memory or size > free):
            return MatrixRows(self.matrix(image_ids, passes), len(image_ids))
        limit = f"{'`memory`' if self.memory else 'half of what is free'} ({(self.memory or free // 2) / 1e9:.3g} GB)"
        if not may_stream:
            raise HeadError(
                f"{count:,} rows of embeddings are {size / 1e9:.3g} GB, more than {limit}, and this head needs all of "
                "them in memory. The logistic head reads them from the file; or give more `memory`, or fewer `passes`."
            )
        _log.info("%s rows of embeddings, %.3g GB, are more than %s: every pass reads them anew.",
                  f"{count:,}", size / 1e9, limit)  # fmt: skip
        return self.rows(image_ids, passes)

    def logits(self, head: Head, image_ids: npt.NDArray[np.str_], mean: bool) -> Floats:
        """Raw logits of a head, float64 (n, labels): of pass 0, or the mean over all passes."""
        passes = self.passes if mean else (0,)
        total = np.zeros((len(image_ids), len(head.labels)))
        for one in passes:
            for place, x in self.rows(image_ids, (one,)).blocks():
                total[place] += head.logits(x)
        total /= len(passes)
        return total


@dataclass(frozen=True)
class Joined:
    """A study as it is joined to embeddings: usable images in the study's order, with the splits used.

    `train` has the images to learn from in the order of the first file, so that reading moves forward only. `held` are
    those for early stopping, calibration and thresholds, bool (n,); `note` says in words where they come from. `sha256`
    is the hash of the study as it was given.
    """

    study: Study
    train: Study
    held: Bools
    note: str
    sha256: str


def prepare(
    features: Features, joined: Joined, weighting: Weighting, options: Options, kind: str, folder: Path | None = None
) -> Task:
    """Join training labels to training rows: all images of one pass, then of the next."""
    train = joined.train
    passes, held = features.passes_of(options), None
    if joined.held.any() and head_class(kind).needs_validation:
        held = (features.matrix(joined.study.ids[joined.held]), joined.study.y[joined.held])
    return Task(
        rows=features.sweep(train.ids, passes, head_class(kind).streams),
        y=np.tile(train.y, (len(passes), 1)),
        groups=np.tile(train.patients, len(passes)),
        weighting=weighting,
        images=len(train),
        seed=options.seed,
        validation=held,
        folder=folder,
        soft=_soft(train, len(passes), kind),
        cluster=features.cluster,
        memory=features.memory,
    )


def _soft(train: Study, passes: int, kind: str) -> Floats | None:
    """Labels of all rows with their probabilities, for a kind that learns from them; None if there are none."""
    targets = train.targets
    if not (count := int(((targets > 0) & (targets < 1)).sum())):
        return None
    if head_class(kind).soft_targets:
        return np.tile(targets, (passes, 1))
    _log.warning("%d labels are probabilities. The %s head does not learn from them: they are unknown.", count, kind)
    return None
