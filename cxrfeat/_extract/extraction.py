"""Study + recipe -> embedding file, doing only what is not done."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from cxrfeat._backbones import engine as engines
from cxrfeat._backbones import registry, weights_for
from cxrfeat._backbones.engine import Engine
from cxrfeat._backbones.registry import DEFAULT_SIZE
from cxrfeat._extract import pipeline, plan, provenance, seen
from cxrfeat._extract.pipeline import Item, Seconds
from cxrfeat._extract.recipes import choose_weights, make_recipe
from cxrfeat._images import augment
from cxrfeat._progress import Progress, silent
from cxrfeat._recipe import Recipe
from cxrfeat._store import Writer
from cxrfeat._study import Study
from cxrfeat.errors import ImageError

MAX_FAILURES_SHARE = 0.05
"""Share of a study's images that may be unusable before an extraction counts as failed, unless a number is given."""

FLUSH_SECONDS = 30.0
"""No more than this much work is lost when the process is killed, however slow the machine."""


@dataclass
class Extraction:
    """What an extraction did.

    Attributes
    ----------
    path : pathlib.Path
        The embedding file.
    recipe : Recipe
        What it was made by.
    images : int
        Images in the study.
    extracted : int
        Embedded now.
    kept : int
        There already.
    changed : list of str
        Of the images embedded now, those whose files had changed.
    gone : int
        Kept although their files are no longer there.
    failed : dict of str
        Reason by image id, of all images of the study that have no embedding.
    max_failures : int
        How many of those were allowed.
    notes : list of str
        What the store found and mended.
    engine : str
        What ran; empty if nothing had to.
    wall : float
        Seconds from the first image to the last.
    seconds : Seconds
        Where the workers' time went.
    workers : int
        How many there were.
    """

    path: Path
    recipe: Recipe
    images: int
    extracted: int = 0
    kept: int = 0
    changed: list[str] = field(default_factory=list)
    gone: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    max_failures: int = 0
    notes: list[str] = field(default_factory=list)
    engine: str = ""
    wall: float = 0.0
    seconds: Seconds = field(default_factory=Seconds)
    workers: int = 0

    @property
    def rate(self) -> float:
        """Images per second, NaN if none were extracted."""
        return self.extracted / self.wall if self.extracted and self.wall else float("nan")

    def describe(self) -> str:
        """What was done, in a few words."""
        if not self.extracted:
            return "they are there already."
        return f"{self.extracted} images embedded, {self.rate:.1f} images/s with {self.engine}."

    @property
    def too_many_failures(self) -> bool:
        """Whether more images are unusable than were allowed."""
        return len(self.failed) > self.max_failures


def extract(
    study: Study,
    out: str | Path | None = None,
    *,
    cache: str | Path = "cache",
    backbone: str = "densenet121",
    weights: str = "auto",
    size: int = DEFAULT_SIZE,
    preprocessing: str | None = None,
    interpolation: str = "area",
    policy: str = augment.DEFAULT_POLICY,
    passes: int = 0,
    seed: int = 0,
    engine: str = "auto",
    precision: str = "float32",
    max_failures: int | None = None,
    workers: int | None = None,
    progress: Progress = silent,
    tell: Callable[[str], None] = lambda text: None,
) -> Extraction:
    """Embed every image of a study that is not embedded yet.

    An interrupted extraction goes on where it stopped; a finished one is not repeated unless an image changed or was
    added. Images that cannot be used are recorded in the file, and tried again only when their file changes.

    Parameters
    ----------
    study : Study
        The images.
    out : path, optional
        The embedding file; by default `<cache>/<study>-<backbone>-<first 8 of recipe_sha256>.h5`.
    cache : path
        Folder of the default file.
    weights : str
        See `recipes.choose_weights`.
    backbone, size, preprocessing, interpolation, policy, passes, seed
        See `recipes.make_recipe`.
    engine, precision
        See `backbones.open_engine`.
    max_failures : int, optional
        Images that may be unusable; by default 5 % of the study's, at least 1. See `Extraction.too_many_failures`.
    workers : int, optional
        Threads; by default what keeps this machine busy.
    progress, tell
        Told how far it is, and what the user should know.

    Raises
    ------
    WeightsError, EngineError, RecipeError
        See `backbones.open_engine`.
    LockedError, EmbeddingFileError
        See `store.Writer`.
    ImageError
        If more images than allowed are not on disk, or none can be used.
    """
    spec = registry.get(backbone)
    found = choose_weights(spec, weights, study, tell)
    recipe = make_recipe(spec, found, size, preprocessing, interpolation, policy, passes, seed)
    path = Path(out) if out else Path(cache) / f"{study.name}-{backbone}-{recipe.sha256[:8]}.h5"
    allowed = max(1, int(MAX_FAILURES_SHARE * len(study))) if max_failures is None else max_failures
    now = seen.look(study.ids, study.root, study.table["path"].tolist())
    result = Extraction(path, recipe, len(study), max_failures=allowed)
    if (settled := plan.settled(path, recipe, now)) is not None:
        result.kept, result.failed, result.gone = settled.kept, settled.failed, settled.gone
        return result
    with Writer.open(path, recipe, spec.dim, provenance.session()) as writer:
        result.notes = list(writer.notes)
        open_engine = partial(engines.open_engine, recipe, found, engine, precision=precision)
        _complete(writer, study, now, open_engine, result, workers, progress)
    return result


def _complete(
    writer: Writer,
    study: Study,
    now: seen.Stamps,
    open_engine: Callable[..., Engine],
    result: Extraction,
    workers: int | None,
    progress: Progress,
) -> None:
    """Do what is not done, publish it, and note in `result` what was done and what could not be."""
    work = plan.make(writer, study, now, progress)
    result.kept, result.gone, result.changed = work.kept, work.gone, work.changed
    _refuse_hopeless(study, now, work.todo, result.max_failures)
    writer.drop(work.changed)
    try:
        if work.todo:
            _embed(writer, work.todo, open_engine, result, workers, progress)
        if not writer.done:
            first, reason = next(iter(writer.failed.items()))
            raise ImageError(f"none of the {len(study)} images can be used; the first, {first!r}, {reason}")
        writer.publish(study.ids)
    finally:
        # Of what is in the store and was not found changed since; after Ctrl-C too, so that nothing is read twice.
        _keep_stamps(writer.path, now, writer)
    asked = set(study.ids.tolist())
    result.failed = {i: reason for i, reason in writer.failed.items() if i in asked}


def recompute(recipe: Recipe, paths: Sequence[Path], weights: str | None = None, engine: str = "auto") -> np.ndarray:
    """Embed pass 0 of some images again, or of images that are in no study.

    Parameters
    ----------
    recipe : Recipe
        How.
    paths : sequence of Path
        Image files.
    weights : str, optional
        Where a weights file of the user's lies now.
    engine : str
        See `backbones.open_engine`.

    Returns
    -------
    ndarray of float32, shape (n, dim)

    Raises
    ------
    ImageError
        If an image cannot be used.
    """
    found = weights_for(recipe, weights)
    return pipeline.embed(list(paths), recipe, engines.open_engine(recipe.pass0, found, engine))


def _embed(
    writer: Writer,
    todo: Sequence[Item],
    open_engine: Callable[..., Engine],
    result: Extraction,
    workers: int | None,
    progress: Progress,
) -> None:
    # The engine is this function's alone: its memory is free again before the file is put together.
    engine = open_engine()
    result.engine = engine.name
    writer.provenance.update(engine=engine.name, batch=engine.batch, streams=engine.streams)
    begun, done = time.perf_counter(), 0
    flushed = begun
    progress(0, len(todo))
    blocks = pipeline.run(todo, writer.recipe, engine, workers)
    with closing(blocks):
        for block in blocks:
            start = time.perf_counter()
            if block.image_ids:
                writer.append(block.image_ids, block.sha256, block.embeddings)
            for item, reason in block.failures:
                writer.fail(item.image_id, item.listed, reason)
            if time.perf_counter() - flushed > FLUSH_SECONDS:
                writer.flush()
                flushed = time.perf_counter()
            result.seconds.add(block.seconds)
            result.seconds.write += time.perf_counter() - start
            result.extracted += len(block.image_ids)
            done += block.size
            result.wall = time.perf_counter() - begun
            progress(done, len(todo), f"{result.rate:.1f} images/s")
    result.workers = workers or pipeline.workers_for(engine)


def _refuse_hopeless(study: Study, now: seen.Stamps, todo: plan.Items, allowed: int) -> None:
    """Raise an ImageError if more images than allowed are not on disk: a wrong folder, told before the work."""
    lost = todo.rows[now.missing[todo.rows]]
    if len(lost) > allowed:
        first = study.path_of(study.table["path"].iloc[int(lost[0])])
        raise ImageError(
            f"{len(lost)} of the {len(study)} images of study {study.name!r} are not on disk, the first is "
            f"{first} (row {int(lost[0]) + 2}). Mend the study's paths, or allow it with --max-failures {len(lost)}."
        )


def _keep_stamps(path: Path, now: seen.Stamps, writer: Writer) -> None:
    failed = writer.failed
    known = np.fromiter((i in writer.done or i in failed for i in now.image_ids), bool, len(now.image_ids))
    seen.write(path, seen.Stamps(now.image_ids[known], now.stamps[known]))
