"""The experiment: three arms in two ways from one study, everything kept, nothing slow done twice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any

from cxrfeat._evaluate import compare, evaluate
from cxrfeat._progress import Progress, silent
from cxrfeat._reproduce.arms import ARMS, BATCH, EPOCHS, PATIENCE, SIZE, WAYS, Arm, Way
from cxrfeat._reproduce.reproduction import REPLICATES, Reproduction, Result
from cxrfeat._run import Run
from cxrfeat._study import Study
from cxrfeat.errors import ExplainError, HeadError, WeightsError

PASSES, PANELS = 2, 2
RUNS = "runs"


def reproduce_paper(
    study: Study,
    out: str | Path = "paper",
    *,
    weights: str = "auto",
    size: int = SIZE,
    passes: int = PASSES,
    epochs: int = EPOCHS,
    replicates: int = REPLICATES,
    seed: int = 0,
    engine: str = "auto",
    tell: Callable[[str], None] = lambda text: None,
    progress: Callable[[str], AbstractContextManager[Progress]] = lambda title: nullcontext(silent),
) -> Reproduction:
    """Repeat the paper's experiment, in its way and in the right one, and write a page about it.

    Embeddings, heads and maps of an earlier, even an interrupted go in the same folder are taken over where they are
    of the same images, labels and settings.

    Parameters
    ----------
    study : Study
        With splits train, val and test.
    out : path
        The folder: `index.html`, `figures/`, `tables/`, and what they stand on: `study/`, `cache/`, `runs/`.
    weights : str
        `imagenet`, `random:SEED` or `auto`; see `extract.extract`. Of both backbones, so no file.
    size : int
        Side of the networks' input, pixels; the paper's is 400.
    passes : int
        Augmented passes of the two arms with augmentation.
    epochs : int
        At most; early stopping as in the paper.
    replicates : int
        Of the bootstrap over patients.
    seed : int
        Of augmentation, heads and bootstrap.
    engine : str
        See `backbones.open_engine`.
    tell, progress
        Told of each step; see `demo.run_demo`.

    Raises
    ------
    WeightsError
        If `weights` names a file, or they cannot be had.
    StudyError, LeakageError, CxrfeatError
        If the study lacks a split or leaks, and as the steps do.
    """
    _refuse_impossible(study, weights, passes)
    folder = Path(out)
    done = Reproduction(folder, folder / "index.html", study, size, passes, epochs, replicates, seed)
    study.save(folder / "study" / f"{study.name}.csv", overwrite=True)
    embeddings = _embeddings(done, weights, engine, tell, progress)
    for way in WAYS:
        for arm in ARMS:
            tell(f"head: {way.title.lower()}, {arm.title}.")
            run = _head(done, arm, way, embeddings[arm.backbone, way.key], progress)
            done.results.append(_evaluated(arm, way, run, replicates, seed))
    tell("tests between the arms and between the ways.")
    _compare(done)
    for result in done.results:
        if result.arm.figure == 5:
            tell(f"maps: {result.way.title.lower()}, {result.arm.title}.")
            _maps(done, result, engine, progress)
    tell("figures, tables and the page.")
    from cxrfeat._reproduce import page  # brings matplotlib, which the steps above do not need

    page.write(done)
    return done


def _refuse_impossible(study: Study, weights: str, passes: int) -> None:
    """Raise before anything is done; see `reproduce_paper`."""
    if not (weights in ("auto", "imagenet") or weights.startswith("random:")):
        raise WeightsError(
            f"weights {weights!r} are of one backbone, and this needs two: give imagenet or random:SEED."
        )
    if passes < 1:
        raise HeadError("two of the three arms are trained with augmentation: give at least one pass.")
    study.split("train", "val", "test")


def _embeddings(
    done: Reproduction, weights: str, engine: str, tell: Callable[[str], None], progress: Callable[..., Any]
) -> Mapping[tuple[str, str], Path]:
    """One file for each backbone in each way; the arms with and without augmentation share theirs."""
    from cxrfeat._extract import extract, make_recipe

    found, backbones = {}, list(dict.fromkeys(arm.backbone for arm in ARMS))
    if weights == "auto":
        made_of = [make_recipe(backbone, study=done.study) for backbone in backbones]
        # Where one is random all of them are, so that no arm has the advantage of learnt weights.
        weights = next((one.weights for one in made_of if one.random), "imagenet")
    for way in WAYS:
        for backbone in backbones:
            tell(f"embeddings: {way.title.lower()}, {backbone}, {done.size} px, pass 0 and {done.passes} augmented.")
            with progress(f"extract {backbone}") as bar:
                made = extract(
                    done.study, cache=done.folder / "cache", backbone=backbone, weights=weights, size=done.size,
                    preprocessing=way.preprocessing, policy=way.policy, passes=done.passes, seed=done.seed,
                    engine=engine, progress=bar,
                )  # fmt: skip
            tell(f"    {made.describe()}")
            done.embedded += made.extracted
            found[backbone, way.key] = made.path
    return found


def _head(done: Reproduction, arm: Arm, way: Way, embeddings: Path, progress: Callable[..., Any]) -> Run:
    """The head of one arm in one way: that of an earlier go, one gone on with, or a new one."""
    from cxrfeat._heads import fit_head, resumable

    out = done.folder / RUNS / f"{way.key}-{arm.key}"
    options: dict[str, Any] = {
        "settings": {"activation": way.activation, "epochs": done.epochs, "batch": BATCH, "patience": PATIENCE},
        "weighting": "paper",
        "passes": "all" if arm.augmented else "0",
        "calibration": way.calibration,
        "seed": done.seed,
    }
    if (run := Run.earlier(out, embeddings, done.study, options)) is not None:
        return run
    done.fitted += 1
    with progress(f"fit {out.name}") as bar:
        if resumable(out):
            with suppress(HeadError):  # the checkpoint is of other images or settings: nothing of it can be used
                return fit_head(done.study, embeddings, "keras", out=out, resume=True, progress=bar, **options)
        return fit_head(done.study, embeddings, "keras", out=out, overwrite=True, progress=bar, **options)


def _evaluated(arm: Arm, way: Way, run: Run, replicates: int, seed: int) -> Result:
    # Table 1 of the paper is of images that were trained on, so that this has to be asked for.
    training = evaluate(run, "train", by=(), replicates=replicates, seed=seed, allow_contaminated=True)
    test = evaluate(run, "test", replicates=replicates, seed=seed)
    test.save(figures=False)
    return Result(arm, way, run, training, test)


def _compare(done: Reproduction) -> None:
    for way in WAYS:
        scored = [result.test.scored for result in done.of(way)]
        done.between_arms[way.key] = compare(*scored, replicates=done.replicates, seed=done.seed)
    for arm in ARMS:
        scored = [result.test.scored for result in done.results if result.arm == arm]
        done.between_ways[arm.key] = compare(*scored, replicates=done.replicates, seed=done.seed)


def _maps(done: Reproduction, result: Result, engine: str, progress: Callable[..., Any]) -> None:
    """Panels of the clearest true positives, or of the first test images where there is none."""
    from cxrfeat._explain.maps import explain

    with progress(f"explain {result.key}") as bar:
        taken = {"engine": engine, "out": done.maps_folder(result), "progress": bar}
        try:
            explain(result.run, show="tp", limit=PANELS, **taken)
        except ExplainError:  # no true positive: some images are shown all the same
            explain(result.run, list(done.study.split("test").ids[:PANELS]), **taken)
