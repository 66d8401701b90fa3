"""Fitting a head: a study and its embedding files in, a run folder out."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from cxrfeat._heads import calibration, kinds, thresholds
from cxrfeat._heads.ensemble import METHODS, join
from cxrfeat._heads.features import Features
from cxrfeat._heads.files import prediction_table, save_run
from cxrfeat._heads.head import Head
from cxrfeat._heads.prediction import raw_logits
from cxrfeat._heads.task import Fitted, Task
from cxrfeat._heads.thresholds import Rule
from cxrfeat._heads.validation import Sides, settle
from cxrfeat._heads.weighting import Weighting, weigh
from cxrfeat._progress import Progress, silent
from cxrfeat._run import Run
from cxrfeat._study import Study
from cxrfeat.errors import HeadError

PACKAGES = ("cxrfeat", "numpy", "scikit-learn", "keras", "tensorflow", "skops")


@dataclass(frozen=True)
class Plan:
    """Everything about a fit but its data; the defaults are those of the command line.

    Attributes
    ----------
    heads : tuple of str
        Kind of head, or several for an ensemble.
    settings : mapping
        Settings of the head; in an ensemble of several kinds, `kind.key` goes to one of them.
    ensemble : str
        `mean` or `stacked`: one head for each file and kind, joined; empty: one head on the files side by side.
    search : bool
        Choose settings by cross-validation on train.
    grid : mapping
        Values for the search; empty: those of `search.GRIDS`.
    weighting : str
        Scheme of class weights.
    passes : str
        `all`: train on every rendering; `0`: on the unaugmented one alone.
    tta : bool
        Predict by the mean of the logits over all renderings instead of pass 0.
    calibration : str
        Method of calibration.
    threshold : str
        Rule of thresholds.
    seed : int
        Of everything drawn.
    """

    heads: tuple[str, ...] = ("logistic",)
    settings: Mapping[str, Any] = field(default_factory=dict)
    ensemble: str = ""
    search: bool = False
    grid: Mapping[str, Any] = field(default_factory=dict)
    weighting: str = "none"
    passes: str = "all"
    tta: bool = False
    calibration: str = "platt"
    threshold: str = "youden"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.passes not in ("all", "0"):
            raise HeadError(f"passes {self.passes!r} is neither 'all' nor '0'.")
        Rule.parse(self.threshold)
        if self.ensemble not in ("", *METHODS):
            raise HeadError(f"unknown ensemble {self.ensemble!r}; choose one of {', '.join(METHODS)}.")
        if len(self.heads) > 1 and not self.ensemble:
            raise HeadError(f"{len(self.heads)} heads make one run as an ensemble only; add --ensemble.")


def fit_head(
    study: Study,
    embedding_files: str | Path | Sequence[str | Path],
    head: str | Sequence[str] = "logistic",
    *,
    out: str | Path,
    memory: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress = silent,
    tell: Callable[[Weighting], None] = lambda weighting: None,
    **options: Any,
) -> Run:
    """Fit a head on the training split, tune it on validation, and write a run folder.

    Calibration and thresholds are learnt on validation (carved from train by patient where the study has none) and
    never on test. Augmented passes are extra training rows; validation and test are pass 0, or with `tta` the mean
    over passes.

    Parameters
    ----------
    study : Study
        Labels and splits.
    embedding_files : path or sequence of paths
        Embeddings of the study's images; several are joined side by side.
    head : str or sequence of str
        Kind of head.
    out : path
        The run folder.
    memory : int, optional
        Bytes the embeddings may take; more are read from the files at every sweep (logistic head only).
    resume : bool
        Go on from the checkpoint of an interrupted Keras head in `out`.
    overwrite : bool
        Replace the run that is in `out`.
    progress : Progress
        Told of epochs, labels or steps.
    tell : callable
        Given the class weights before anything is fitted.
    **options
        Fields of `Plan`.

    Returns
    -------
    Run
        The run written.

    Raises
    ------
    HeadError, StudyError, LeakageError, EmbeddingFileError
        If it cannot be done as asked; nothing is left at `out/head.json` then.
    """
    plan = Plan(heads=(head,) if isinstance(head, str) else tuple(head), **options)
    paths = [embedding_files] if isinstance(embedding_files, str | Path) else list(embedding_files)
    out = Path(out)
    if (out / "head.json").exists() and not (overwrite or resume):
        raise HeadError(f"{out} holds a run already; name another folder, or replace it with --overwrite.")
    with Features(paths) as features:
        sides = settle(features.usable(study), plan.seed)
        out.mkdir(parents=True, exist_ok=True)
        if plan.ensemble:
            fitted, weighting = _fit_members(features, sides, plan, memory, progress)
        else:
            task = prepare(features, sides, plan, memory, out, plan.heads[0])
            tell(task.weighting)
            fitted, weighting = _fit_one(plan.heads[0], task, plan, resume, progress), task.weighting
        return _finish(features, sides, plan, weighting, fitted, study, out, memory)


def _fit_one(kind: str, task: Task, plan: Plan, resume: bool, progress: Progress) -> Fitted:
    """Fit a head, with settings searched for if asked."""
    settings = settings_of(plan.settings, kind)
    table = None
    if plan.search:
        # Imported here: scoring needs scipy.stats, which takes as long to import as a small head to fit.
        from cxrfeat._heads.search import search

        settings, table = search(kind, task, settings, plan.grid, progress=progress)
    fitted = kinds.fit(kind, task, settings, resume=resume, progress=progress)
    fitted.head.fitted = task.weighting.fittable
    if table is None:
        return fitted
    notes = {**fitted.notes, "search": json.loads(table.to_json(orient="records", double_precision=6))}
    return replace(fitted, notes=notes)


def _fit_members(
    features: Features, sides: Sides, plan: Plan, memory: int | None, progress: Progress
) -> tuple[Fitted, Weighting]:
    """One head for each file and kind, joined."""
    members: list[Fitted] = []
    places: list[tuple[int, int]] = []
    held_out, start = [], 0
    for number, dim in enumerate(features.dims):
        for kind in plan.heads:
            task = prepare(features.only(number), sides, plan, memory, None, kind)
            members.append(_fit_one(kind, task, plan, False, progress))
            places.append((start, start + dim))
            if plan.ensemble == "stacked":
                from cxrfeat._heads.search import out_of_fold

                held_out.append(out_of_fold(kind, task, settings_of(plan.settings, kind)))
        start += dim
    y, weights = task.y[: task.images], task.weights[: task.images]
    stacked = np.stack(held_out, axis=1) if held_out else None
    head = join([m.head for m in members], places, plan.ensemble, stacked, y, weights)
    notes = {"members": [dict(m.notes) for m in members]}
    return Fitted(head, all(m.converged for m in members), None, notes), task.weighting


def settings_of(settings: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Settings for one kind: the plain ones, and those written `kind.key` for it."""
    plain = {key: value for key, value in settings.items() if "." not in key}
    own = {key.rpartition(".")[2]: value for key, value in settings.items() if key.rpartition(".")[0] == kind}
    return {**plain, **own}


def prepare(features: Features, sides: Sides, plan: Plan, memory: int | None, out: Path | None, kind: str) -> Task:
    """Join training labels to training rows: all images of one pass, then of the next."""
    train = features.in_file_order(sides.train)
    passes = features.passes if plan.passes == "all" else (0,)
    weighting = weigh(train.y, train.labels, plan.weighting)
    if not weighting.fittable.any():
        raise HeadError(f"no label of study {train.name!r} has both positives and negatives in train; nothing to fit.")
    held = None
    if sides.validation is not None and kind == "keras":
        held = (features.matrix(sides.validation.ids), sides.validation.y)
    return Task(
        rows=features.rows(train.ids, passes, memory),
        y=np.tile(train.y, (len(passes), 1)),
        groups=np.tile(train.patients, len(passes)),
        weighting=weighting,
        images=len(train),
        seed=plan.seed,
        validation=held,
        folder=out,
    )


def _finish(
    features: Features,
    sides: Sides,
    plan: Plan,
    weighting: Weighting,
    fitted: Fitted,
    given: Study,
    out: Path,
    memory: int | None,
) -> Run:
    """Predict every image, calibrate, choose thresholds, write."""
    study, head = sides.study, fitted.head
    renderings = features.passes if plan.tta else (0,)
    logits = raw_logits(head, features, study.ids, renderings, memory)
    held = (study.table["split"] == "val").to_numpy()
    _calibrate(head, study.y[held], logits[held], plan, weighting)
    p = head.from_logits(logits)
    rule = Rule.parse(plan.threshold) if held.any() else Rule("fixed", 0.5)
    chosen = thresholds.choose(study.y[held], p[held], rule)
    study.save(out / "study.csv", overwrite=True)
    passes = list(features.passes if plan.passes == "all" else (0,))
    train = sides.train
    info = {
        "recipes": [asdict(recipe) for recipe in features.recipes],
        "dims": list(features.dims),
        "study": {"name": given.name, "sha256": given.sha256},
        "options": {**asdict(plan), "heads": list(plan.heads), "validation": sides.note},
        "weighting": weighting.rows(),
        "thresholds": {
            "method": str(rule),
            "split": "val" if held.any() else "",
            "values": {
                label: None if np.isnan(value) else float(value)
                for label, value in zip(head.labels, chosen, strict=True)
            },
        },
        "fitted_on": {
            "splits": ["train"],
            "passes": passes,
            "rows": len(train) * len(passes),
            "images": len(train),
            "patients": len(np.unique(train.patients)),
        },
        "fit": dict(fitted.notes),
        "converged": fitted.converged,
        "versions": _versions(),
        "seed": plan.seed,
    }
    return save_run(out, head, info, fitted.history, prediction_table(study.ids, study.table["split"], head.labels, p))


def _calibrate(head: Head, y: Any, logits: Any, plan: Plan, weighting: Weighting) -> None:
    method = "none" if getattr(head, "softmax", False) else plan.calibration
    ratio = np.zeros(len(head.labels))
    fitted = weighting.fittable
    ratio[fitted] = np.log(weighting.positive[fitted] / weighting.negative[fitted])
    head.calibration = calibration.calibrate(y, logits, method, "val" if len(y) else "", ratio)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # an optional one that is not installed says so by its absence
            continue
    return found
