"""Study + recipe -> embedding file, doing only what is not done."""

from __future__ import annotations

import datetime
import itertools
import logging
import os
import platform
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, Unpack

import numpy as np

from cxrfeat import __version__, _html
from cxrfeat import _machine as machine
from cxrfeat import _manifest as manifest
from cxrfeat import _project as project
from cxrfeat._backbones import engine as engines
from cxrfeat._backbones import registry
from cxrfeat._backbones.engine import Engine
from cxrfeat._datasets.reading import read_study
from cxrfeat._extract import plan
from cxrfeat._extract.execution import Execution, local
from cxrfeat._extract.pipeline import Item, Seconds
from cxrfeat._extract.recipes import RecipeOptions, recipe_of, weights_of
from cxrfeat._extract.shard import Shard
from cxrfeat._manifest import Manifest
from cxrfeat._progress import Progress, silent
from cxrfeat._recipe import Recipe
from cxrfeat._remote import Url, join, place
from cxrfeat._store import EmbeddingFile, Writer, names
from cxrfeat._study import Study, identical_images
from cxrfeat.errors import ImageError

_log = logging.getLogger(__name__)

MAX_FAILURES_SHARE = 0.05
"""Share of a study's images that may be unusable before an extraction counts as failed, unless a number is given."""

FLUSH_SECONDS = 30.0
"""No more than this much work is lost when the process is killed, however slow the machine."""

Execute: TypeAlias = Callable[[Writer, Sequence[Item]], AbstractContextManager[Execution]]
"""What has images embedded, here or elsewhere."""

PACKAGES = ("numpy", "opencv-python-headless", "openvino", "keras", "tensorflow", "jax", "torch", "h5py")


@dataclass(repr=False)
class Extraction:
    """What an extraction did.

    Of the study's `images`, `extracted` were embedded now, among them the `changed` ones, whose files had changed;
    `kept` were embedded before, `gone` of these are no longer on disk; `failed` has the reason of those that could not
    be used. `engine` is empty if nothing had to run. `shard` says which share of the study the images are, if not all.
    If the file was written to an `address`, `path` is the copy here.
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
    engine: str = ""
    wall: float = 0.0  # seconds from the first image to the last
    seconds: Seconds = field(default_factory=Seconds)  # where the workers' time went
    workers: int = 0  # threads, on a cluster those of all processes
    at_work: int = 0  # how many of them can be at work at a time
    shard: str = ""
    address: str = ""

    @property
    def rate(self) -> float:
        """Images per second, NaN if none were extracted."""
        return self.extracted / self.wall if self.extracted and self.wall else float("nan")

    def shares(self) -> dict[str, float]:
        """Where the time of the workers went: shares that add up to 1."""
        return self.seconds.shares(self.workers, self.at_work)

    @property
    def too_many_failures(self) -> bool:
        """Whether more images are unusable than were allowed."""
        return len(self.failed) > self.max_failures

    def describe(self) -> str:
        """Return what was done, in a sentence."""
        if not self.extracted:
            return f"nothing to do: {self.kept:,} images are embedded already."
        changed = f", {len(self.changed):,} of them because their files changed" if self.changed else ""
        kept = f", {self.kept:,} kept" if self.kept else ""
        return f"{self.extracted:,} images embedded{changed}{kept}; {self.rate:.1f} images/s with {self.engine}."

    def __repr__(self) -> str:
        return f"<Extraction {self.path}: {self.images - len(self.failed):,} of {self.images:,} images>"

    def _repr_html_(self) -> str:
        facts = {"recipe": self.recipe.describe(), "images": self.images, "embedded now": self.extracted}
        facts |= {"kept": self.kept, "unusable": len(self.failed)}
        return _html.page(str(self.path), facts, [{"image": i, "reason": why} for i, why in self.failed.items()][:20])


def extract(
    study: Study | str | Path | None = None,
    recipe: Recipe | None = None,
    *,
    out: str | Path | None = None,
    cache: str | Path = project.CACHE,
    engine: str = "auto",
    max_failures: int | None = None,
    retry: bool = False,
    workers: int | None = None,
    shard: str | None = None,
    ray: str | bool | None = None,
    progress: Progress = silent,
    **options: Unpack[RecipeOptions],
) -> Extraction:
    """Embed every image of a study that is not embedded yet.

    An interrupted extraction resumes; a finished one is not repeated unless an image changed or was added. Images that
    cannot be used are recorded in the file, and tried again when their file, its permissions or the installed decoders
    change.

    Parameters
    ----------
    study : Study, str or path, optional
        The images: a study, or what `read_study` reads; by default the only one under `studies/`.
    recipe : Recipe, optional
        By default it is made from `options`.
    out : path or address, optional
        The embedding file, at an address once it is whole; by default
        `<cache>/<study>-<backbone>-<first 8 of the recipe's hash>.h5`, with `-2` and so on where that is another
        study's of the same name.
    cache : path
        Folder of the default file.
    engine : str
        `openvino`, `keras`, ..., or `auto`: Keras where it finds a GPU, else OpenVINO.
    max_failures : int, optional
        Images that may be unusable; by default 5 % of the study's, at least 1. See `Extraction.too_many_failures`.
    retry : bool
        Try images again that could not be used, even if nothing about them changed.
    workers : int, optional
        Threads; by default what keeps this machine busy.
    shard : str, optional
        `3/8`: only the third of eight shares of the images, into a file of its own, by default in the folder
        `<cache>/<study>-<backbone>-<recipe>.shards`. An image's share depends on its id alone. `max_failures` is then
        that of the share; `cache.merge` joins the files.
    ray : str or bool, optional
        Embed on a Ray cluster: `HOST:PORT` of its head; `local` starts one on this machine; True is the one that is
        running, else `local`. All nodes need the same disk for the images, `out` and the weights. `?gpus=0.5` or
        `?cpus=4` after the address is what each worker takes; by default all cores, or a GPU each where there are any.
        `workers` is then how many processes there may be.
    progress : callable
        Called with the images done and their total.
    **options
        `backbone`, `weights`, `size`, `preprocessing`, `geometry`, ...: the options of `make_recipe`. With a
        recipe, `weights` alone may be given: where the weights file is now.

    Returns
    -------
    Extraction
        With the path of the embedding file; `fit_head` takes it as it is.

    Raises
    ------
    RecipeError
        If there is no such recipe, or `out` was made by another one.
    WeightsError, EngineError
        If the weights or the engine are not available.
    LockedError, EmbeddingFileError
        If another process is writing the file, or it is damaged or cannot be written.
    ImageError
        If more images than allowed are not on disk, or none can be used.
    StorageError
        If a store denies access or does not answer, or another writer replaced the file at the address meanwhile.
    ClusterError
        If no Ray is at the address, or a worker cannot do its part; what is embedded is kept.

    Examples
    --------
    >>> import cxrfeat as cxr
    >>> done = cxr.extract("sample", backbone="densenet121", weights="random:0")
    >>> done
    <Extraction cache/sample-densenet121-...h5: 150 of 150 images>
    >>> cxr.extract("sample", done.recipe).extracted
    0
    """
    share = Shard.parse(shard) if shard else None
    study = read_study(study)
    recipe = recipe_of(recipe, options, study)
    if out and isinstance(address := place(out), Url):
        from cxrfeat._remote import copies

        rest: RecipeOptions = {"weights": options["weights"]} if "weights" in options else {}
        copy = copies.fetch(address, new=True)
        result = extract(
            study, recipe, out=copy, engine=engine, max_failures=max_failures, retry=retry, workers=workers,
            shard=shard, ray=ray, progress=progress, **rest,
        )  # fmt: skip
        copies.publish(address)
        return replace(result, address=address.address)
    study = share.take(study) if share else study
    paths = [Path(out)] if out else list(_default_paths(Path(cache), study, recipe, share))
    now = manifest.look(study)
    result = Extraction(paths[0], recipe, len(study), shard=str(share or ""))
    result.max_failures = max(1, int(MAX_FAILURES_SHARE * len(study))) if max_failures is None else max_failures
    for path in paths:
        if (work := plan.nothing_to_do(path, recipe, study, now, retry)) is not None:
            result.path, result.kept, result.gone, result.failed = path, work.kept, work.gone, work.failed
            return result

    def open_engine() -> Engine:
        return engines.open_engine(recipe, weights_of(recipe, options), engine)

    execute: Execute = partial(local, open_engine=open_engine, workers=workers)
    if ray:
        from cxrfeat._extract.on_ray import cluster

        execute = partial(cluster, ray=ray, options=options, engine=engine, workers=workers)
    for path in paths:
        with Writer.open(path, recipe, registry.get(recipe.backbone).dim, _session(result.shard)) as writer:
            work = plan.make(writer, study, now, retry, progress)
            if work.foreign and path != paths[-1]:
                _log.info("%s has other images under the same ids: it is another study's and stays as it is.", path)
                continue
            result.path = path
            _complete(writer, study, now, work, execute, result, progress)
            break
    with EmbeddingFile.open(result.path) as file:
        there = study.take(file.has(study.ids))
        identical_images(there, file.image_sha256(there.ids))
    return result


def _default_paths(cache: Path, study: Study, recipe: Recipe, shard: Shard | None) -> Iterator[Path]:
    """The default file, and after each that exists the next: it may be another study's of the same name."""
    for number in itertools.count(1):
        path = names.default(cache, study.name, recipe.backbone, recipe.sha256, number, shard.stem if shard else None)
        yield path
        if not path.exists():
            return


def _complete(
    writer: Writer,
    study: Study,
    now: Manifest,
    work: plan.Plan,
    execute: Execute,
    result: Extraction,
    progress: Progress,
) -> None:
    """Do what is planned, publish it, and note in `result` what was done and what failed."""
    result.kept, result.gone, result.changed = work.kept, work.gone, work.changed
    _refuse_hopeless(study, now, work.todo, result.max_failures, result.shard)
    writer.drop(work.changed)
    try:
        if work.todo:
            _embed(writer, work.todo, execute, result, progress)
        if not writer.done:
            first, reason = next(iter({**writer.failed, **result.failed}.items()))
            raise ImageError(f"none of the {len(study)} images can be used; the first, {first!r}, {reason}")
        writer.publish(study.ids)
    finally:
        # Of what is in the store and was not found changed since; after Ctrl-C too, so that nothing is read twice.
        failed = writer.failed
        known = np.fromiter((i in writer.done or i in failed for i in now.image_ids), bool, len(now.image_ids))
        try:
            if known.any():  # else there is no embedding file either
                manifest.write(writer.path, Manifest(now.image_ids[known], now.stamps[known], now.decoders))
        except OSError as error:  # it can be made again; what ended the extraction is what the user should read
            _log.warning("the image manifest is not kept (%s): all files are hashed next time.", error.strerror)
    asked = set(study.ids.tolist())
    result.failed = {i: reason for i, reason in writer.failed.items() if i in asked} | result.failed


def _embed(
    writer: Writer,
    todo: Sequence[Item],
    execute: Execute,
    result: Extraction,
    progress: Progress,
) -> None:
    machine.give_back()  # what was taken to read the study
    done, voi = 0, Counter[str]()
    progress(0, len(todo))
    with execute(writer, todo) as execution:
        result.workers, result.at_work = execution.workers, execution.at_work
        begun = flushed = time.perf_counter()
        for block in execution.blocks:
            start = time.perf_counter()
            writer.provenance.update(execution.about)
            if block.shard:
                writer.take(Path(block.shard), block.image_ids, block.sha256)
            elif block.image_ids:
                writer.append(block.image_ids, block.sha256, block.embeddings)
            for item, reason in block.failures:
                writer.fail(item.image_id, item.listed, reason)
            result.failed |= {item.image_id: reason for item, reason in block.away}
            if time.perf_counter() - flushed > FLUSH_SECONDS:
                writer.flush()
                flushed = time.perf_counter()
            voi.update(block.voi)
            if voi:
                writer.provenance["voi"] = dict(voi)
            result.engine = execution.about.get("engine", "")
            result.seconds.add(block.seconds)
            result.seconds.write += time.perf_counter() - start
            result.extracted += len(block.image_ids)
            done += block.size
            result.wall = time.perf_counter() - begun
            most, share = max(result.shares().items(), key=lambda item: item[1])
            progress(done, len(todo), f"{result.rate:.1f} images/s, {share:.0%} {most}")
    if result.failed:
        _log.warning(
            "%d images could not be read now; they do not count as damaged, and the same extraction tries them again.",
            len(result.failed),
        )
    if voi["range"]:
        _log.warning(
            "%d DICOM files have no window, and pixels without a range of their own: they are scaled by their darkest "
            "and brightest pixel, so that one pixel changes all others. `voi=percentile` does not depend on it.",
            voi["range"],
        )


def _refuse_hopeless(study: Study, now: Manifest, todo: plan.Items, allowed: int, shard: str) -> None:
    """Raise an ImageError if more images than allowed are not on disk: a wrong folder, reported before the work."""
    lost = todo.rows[now.missing[todo.rows]]
    if len(lost) > allowed:
        first = join(study.root, study.table["path"].iloc[int(lost[0])])
        where = f"image {study.ids[lost[0]]}" if shard else f"row {int(lost[0]) + 2}"
        raise ImageError(
            f"{len(lost)} of the {len(study)} images of study {study.name!r} are not on disk, the first is "
            f"{first} ({where}). Fix the study's paths, or allow it with `max_failures={len(lost)}`."
        )


def _session(shard: str) -> dict[str, Any]:
    """What an embedding file keeps of each session that computed some of it; no place on the machine is named."""
    return {
        "cxrfeat": __version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "packages": machine.versions(PACKAGES),
        "cores": os.cpu_count(),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **({"shard": shard} if shard else {}),
    }
