"""The experiment: three arms in several ways from one study, everything kept, nothing slow done twice."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cxrfeat import _html as html
from cxrfeat._datasets.reading import read_study
from cxrfeat._evaluate import Comparison, Evaluation, compare, evaluate
from cxrfeat._explain.maps import explain
from cxrfeat._extract import extract, make_recipe
from cxrfeat._heads import fit_head, resumable
from cxrfeat._progress import Progress, silent
from cxrfeat._reproduce.paper import ARMS, BATCH, EPOCHS, PATIENCE, SIZE, WAYS, Arm, Way
from cxrfeat._run import Run
from cxrfeat._study import Study
from cxrfeat.errors import HeadError, NotFoundError, WeightsError

_log = logging.getLogger(__name__)

Steps = Callable[[str], AbstractContextManager[Progress]]

PASSES, PANELS, REPLICATES = 2, 2, 1000


@dataclass
class Result:
    """One arm in one way, evaluated on the training images, as the paper's table 1 is, and on the test images."""

    arm: Arm
    way: Way
    run: Run
    training: Evaluation
    test: Evaluation

    @property
    def key(self) -> str:
        """Its name in file names."""
        return f"{self.way.key}-{self.arm.key}"


@dataclass
class Reproduction:
    """The paper's experiment on a study: three arms in each way, and their comparisons.

    `between_arms` has the other arms against DenseNet121 without augmentation, by way; `between_ways` the other ways
    against the paper's text, by arm. `embedded` and `fitted` count what was done now, and not before.
    """

    folder: Path
    page: Path
    study: Study
    size: int
    passes: int
    epochs: int = EPOCHS
    replicates: int = REPLICATES
    seed: int = 0
    results: list[Result] = field(default_factory=list)
    between_arms: dict[str, Comparison] = field(default_factory=dict)
    between_ways: dict[str, Comparison] = field(default_factory=dict)
    embedded: int = 0
    fitted: int = 0

    def __repr__(self) -> str:
        stamp = "RANDOM weights, not a result; " if self.random else ""
        return f"<Reproduction of the paper on study {self.study.name}: {stamp}{len(self.results)} heads; {self.page}>"

    def _repr_html_(self) -> str:
        rows = self.to_frame().to_dict("records")
        return html.page("The reference paper", {"study": self.study.name, "random weights": self.random}, rows)

    @property
    def random(self) -> bool:
        """Whether a backbone had random weights, so that no number says anything about the paper."""
        return any(result.run.random for result in self.results)

    @property
    def tables(self) -> Mapping[str, list[dict[str, Any]]]:
        """Rows of every table, by name: accuracies beside the paper's, AUROCs of the labels it names, deviations."""
        from cxrfeat._reproduce import account

        return account.tables_of(self)

    @property
    def account(self) -> list[str]:
        """Sentences on where and why the numbers differ from the paper's."""
        from cxrfeat._reproduce import account

        return account.sentences(self)

    def to_frame(self) -> pd.DataFrame:
        """Test accuracy of each arm in each way, beside the paper's."""
        return pd.DataFrame(self.tables["accuracy-test"])

    def of(self, way: Way) -> list[Result]:
        """The three arms in one way."""
        return [result for result in self.results if result.way == way]

    def maps_folder(self, result: Result) -> Path:
        """Where the panels of figures 7 and 8 are."""
        return self.folder / "figures" / f"maps-{result.key}"


def reproduce_paper(
    study: Study | str | Path | None = None,
    out: str | Path | None = None,
    *,
    images: str | Path | Iterable[str] | None = None,
    weights: str = "auto",
    size: int = SIZE,
    passes: int = PASSES,
    epochs: int = EPOCHS,
    replicates: int = REPLICATES,
    seed: int = 0,
    engine: str = "auto",
    progress: Steps = lambda title: nullcontext(silent),
) -> Reproduction:
    """Repeat the experiment of the reference paper on a study, and write a page about it.

    DenseNet121 without and with augmentation and ResNet50 with it, each in four ways: as the paper's text says, with
    the sigmoids that its figures need, with its class weights to the letter, and as it should be done. Embeddings,
    heads and maps in the folder that are of the same images, labels and settings are used again.

    Parameters
    ----------
    study : Study, path or str, optional
        With splits train, val and test; see `read_study`. By default the only one under `studies/`.
    out : path, optional
        The folder: `index.html`, `figures/`, `tables/`, `study/`, `cache/` and `runs/`; by default `paper-STUDY`.
    images : path or iterable of str, optional
        Only these images: their ids, or a text file with one id a line.
    weights : str
        `imagenet`, `random:SEED` or `auto`, of both backbones.
    size : int
        Side of the networks' input, pixels; the paper's is 400.
    passes : int
        Augmented passes of the two arms with augmentation.
    epochs : int
        At most; the paper's are 80.
    replicates : int
        Of the bootstrap over patients.
    seed : int
        Of augmentation, heads, maps and bootstrap.
    engine : str
        Inference engine.
    progress : callable
        Given a title, returns a context manager for the progress of a long step.

    Returns
    -------
    Reproduction
        With `tables`, `account` (sentences on where and why the numbers differ), `page` and `to_frame`.

    Raises
    ------
    WeightsError
        If `weights` names a file, or they are not available.
    StudyError, LeakageError, CxrfeatError
        If the study lacks a split or leaks, and as the steps do.

    Examples
    --------
    >>> import cxrfeat as cxr
    >>> done = cxr.reproduce_paper("sample", weights="random:0")  # doctest: +SKIP
    >>> done.to_frame()[["arm", "way", "accuracy", "paper"]]  # doctest: +SKIP
    """
    chosen = read_study(study)
    if images is not None:
        chosen = chosen.join(list(dict.fromkeys(_listed(images))))
    _refuse_impossible(chosen, weights, passes)
    folder = Path(out or f"paper-{chosen.name}")
    done = Reproduction(folder, folder / "index.html", chosen, size, passes, epochs, replicates, seed)
    chosen.save(folder / "study" / f"{chosen.name}.csv")
    embeddings = _embeddings(done, weights, engine, progress)
    for way in WAYS:
        for arm in ARMS:
            _log.info("head: %s, %s", way.title, arm.title)
            run = _head(done, arm, way, embeddings[arm.backbone, repr(way.recipe)], progress)
            done.results.append(_evaluated(done, arm, way, run))
    _log.info("tests between the arms and between the ways")
    _compare(done)
    for result in done.results:
        if result.arm.figure == 5:
            _maps(done, result, engine, progress)
    _log.info("figures, tables and the page")
    from cxrfeat._reproduce import page  # brings matplotlib, which the steps above do not need

    page.write(done)
    return done


def _listed(images: str | Path | Iterable[str]) -> list[str]:
    """Image ids, from a file with one id a line or as they are."""
    if not isinstance(images, str | Path):
        return [str(image) for image in images]
    if not Path(images).is_file():
        raise NotFoundError(f"there is no list of images {images}.")
    return [line.strip() for line in Path(images).read_text(encoding="utf-8-sig").splitlines() if line.strip()]


def _refuse_impossible(study: Study, weights: str, passes: int) -> None:
    """Raise before anything is done; see `reproduce_paper`."""
    if not (weights in ("auto", "imagenet") or weights.startswith("random:")):
        raise WeightsError(
            f"`weights` {weights!r} are of one backbone, and this needs two: give imagenet or random:SEED."
        )
    if passes < 1:
        raise HeadError("two of the three arms are trained with augmentation: give `passes=1` or more.")
    study.split("train", "val", "test")


def _embeddings(done: Reproduction, weights: str, engine: str, progress: Steps) -> dict[tuple[str, str], Path]:
    """One file for each backbone and recipe; arms and ways that differ in the head alone share theirs."""
    found: dict[tuple[str, str], Path] = {}
    backbones = list(dict.fromkeys(arm.backbone for arm in ARMS))
    if weights == "auto":
        made_of = [make_recipe(backbone, study=done.study) for backbone in backbones]
        # Where one is random all of them are, so that no arm has the advantage of learnt weights.
        weights = next((one.weights for one in made_of if one.random), "imagenet")
    for way in WAYS:
        for backbone in backbones:
            if (key := (backbone, repr(way.recipe))) in found:
                continue
            _log.info("embeddings: %s, %s, %d px, pass 0 and %d augmented", way.title, backbone, done.size, done.passes)
            with progress(f"extract {backbone}") as bar:
                made = extract(
                    done.study, cache=done.folder / "cache", backbone=backbone, weights=weights, size=done.size,
                    passes=done.passes, seed=done.seed, engine=engine, progress=bar, **way.recipe,
                )  # fmt: skip
            done.embedded += made.extracted
            found[key] = made.path
    return found


def _head(done: Reproduction, arm: Arm, way: Way, embeddings: Path, progress: Steps) -> Run:
    """The head of one arm in one way: one that is there, a resumed one, or a new one."""
    out = done.folder / "runs" / f"{way.key}-{arm.key}"
    settings = {**way.head["settings"], "epochs": done.epochs, "batch": BATCH, "patience": PATIENCE}
    passes = "all" if arm.augmented else "0"
    options: dict[str, Any] = {**way.head, "settings": settings, "passes": passes, "seed": done.seed}
    if (run := Run.earlier(out, embeddings, done.study, options)) is not None:
        return run
    done.fitted += 1
    with progress(f"fit {out.name}") as bar:
        if resumable(out):
            with suppress(HeadError):  # the checkpoint is of other images or settings: nothing of it can be used
                return fit_head(done.study, embeddings, "keras", out=out, resume=True, progress=bar, **options)
        return fit_head(done.study, embeddings, "keras", out=out, overwrite=True, progress=bar, **options)


def _evaluated(done: Reproduction, arm: Arm, way: Way, run: Run) -> Result:
    options: dict[str, Any] = {"replicates": done.replicates, "seed": done.seed, "shortcuts": False}
    # Table 1 of the paper is of images that were trained on, so that this has to be asked for.
    training = evaluate(run, "train", by=(), allow_contaminated=True, **options)
    test = evaluate(run, "test", **options)
    test.save(figures=False)
    return Result(arm, way, run, training, test)


def _compare(done: Reproduction) -> None:
    for way in WAYS:
        scored = [result.test.scored for result in done.of(way)]
        done.between_arms[way.key] = compare(*scored, replicates=done.replicates, seed=done.seed)
    for arm in ARMS:
        scored = [result.test.scored for result in done.results if result.arm == arm]
        done.between_ways[arm.key] = compare(*scored, replicates=done.replicates, seed=done.seed)


def _maps(done: Reproduction, result: Result, engine: str, progress: Steps) -> None:
    """Panels of test images at random, as the paper's figures 7 and 8; the same images in every way."""
    ids = done.study.split("test").ids
    chosen = np.random.default_rng(done.seed).choice(ids, min(PANELS, len(ids)), replace=False)
    with progress(f"explain {result.key}") as bar:
        explain(
            result.run, chosen.tolist(), method=result.way.maps, engine=engine, out=done.maps_folder(result),
            progress=bar,
        )  # fmt: skip
