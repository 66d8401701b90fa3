"""Fitting a head: a study and its embedding files in, a run folder out."""

from __future__ import annotations

import itertools
import json
import platform
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from cxrfeat._cluster import connected
from cxrfeat._datasets.reading import read_study
from cxrfeat._files import sha256, write_atomically
from cxrfeat._heads.base import CHECKPOINT, Fitted, Head, Task
from cxrfeat._heads.decision import Rule, decide
from cxrfeat._heads.ensemble import combine
from cxrfeat._heads.features import Features, Joined, prepare
from cxrfeat._heads.registry import CALIBRATIONS, ENSEMBLES, HEADS, PASSES, PRESETS, WEIGHTINGS, head_class
from cxrfeat._heads.search import out_of_fold, search
from cxrfeat._heads.weighting import weigh
from cxrfeat._machine import versions
from cxrfeat._progress import Progress, silent
from cxrfeat._project import RUNS, embedding_paths, remind, settle, study_path
from cxrfeat._recipe import Recipe
from cxrfeat._run import Decision, FittedOn, Options, Run, draft_of, publish, write_tables
from cxrfeat._study import Study
from cxrfeat.errors import HeadError, OutputError

PACKAGES = ("cxrfeat", "numpy", "scikit-learn", "keras", "tensorflow", "jax", "torch", "skops")


def fit_head(
    study: Study | str | Path | None = None,
    embeddings: Any = None,
    head: str | Sequence[str] | None = None,
    *,
    backbone: str | Sequence[str] | None = None,
    preset: str | None = None,
    labels: Iterable[str] = (),
    settings: Mapping[str, Any] | None = None,
    weighting: str | None = None,
    passes: str = "all",
    tta: bool = False,
    calibration: str | None = None,
    threshold: str = "youden",
    ensemble: str | None = None,
    search: bool = False,
    grid: Mapping[str, Any] | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    overwrite: bool = False,
    resume: bool = False,
    memory: int | None = None,
    ray: str | bool | None = None,
    progress: Progress = silent,
) -> Run:
    """Fit a head on the training split, tune it on validation, and write a run folder.

    Calibration and thresholds are learnt on validation (carved from train by patient if the study has none) and never
    on test. Augmented passes are extra training rows; validation and test are predicted from pass 0, or with `tta` from
    the mean over passes.

    Parameters
    ----------
    study : Study, path or str, optional
        Labels and splits; a name is looked up under `studies/`. By default that of the newest embeddings.
    embeddings : path, EmbeddingFile, Extraction, or several of them, optional
        Embeddings of the study's images; several are joined side by side. By default the study's newest.
    head : str or sequence of str, optional
        Kind of head: `logistic` (default), `keras`, `svm`, `lda`, `mlp`, `random-forest`, `hist-gradient-boosting`,
        `knn`, one that another package declares, or `module:Class` of a scikit-learn classifier. Several need
        `ensemble`.
    backbone : str or sequence of str, optional
        Instead of `embeddings`: the study's newest embeddings of this backbone, or of each.
    preset : {"paper"}, optional
        Head, weighting and calibration of the reference paper: a Keras head with softmax, weighted, not calibrated.
    labels : iterable of str
        Fit these labels only; by default all.
    settings : mapping, optional
        Settings of the head; in an ensemble of several kinds, `kind.key` applies to one of them.
    weighting : {"none", "paper", "paper-literal", "balanced", "effective-number"}, optional
        Scheme of class weights; none by default.
    passes : {"all", "0"}
        Train on every pass, or on the unaugmented one alone.
    tta : bool
        Predict by the mean of the logits over all passes instead of pass 0.
    calibration : {"platt", "isotonic", "temperature", "none"}, optional
        Platt scaling by default.
    threshold : str
        Rule of the decision thresholds: `youden`, `f1`, `sensitivity=0.9`, `precision=0.5` or a probability.
    ensemble : {"mean", "stacked"}, optional
        Fit one head for each file and kind, and join them; by default one head on the files side by side.
    search : bool
        Choose settings by cross-validation on train, whole patients in a fold.
    grid : mapping of str to sequence, optional
        Values to search, instead of those that the head declares; implies `search`.
    seed : int
        Seed of every random draw.
    out : path, optional
        The run folder; by default a new one under `runs/`: `<study>-<backbone>-<head>[-weighted][-n]`.
    overwrite : bool
        Replace the run in `out`; it stays as it is until the new one is complete.
    resume : bool
        Continue the interrupted fit of a Keras head in `out`.
    memory : int, optional
        Bytes that the embeddings may take, by default half of what is free; more are read from the files in every
        pass over them (logistic head only).
    ray : str or bool, optional
        Address of a Ray cluster whose workers hold the embeddings; True for the one that `RAY_ADDRESS` names or that
        runs here, else one is started (logistic head only).
    progress : Progress
        Called with the epochs, labels or steps done.

    Returns
    -------
    Run
        The run written.

    Raises
    ------
    HeadError, StudyError, LeakageError, EmbeddingFileError
        If it cannot be done as asked; an earlier run in `out` is left as it is then.

    Examples
    --------
    >>> import cxrfeat as cxr
    >>> embeddings = cxr.extract("sample", weights="random:0")
    >>> run = cxr.fit_head("sample", embeddings, weighting="paper", settings={"C": 0.01})
    >>> run.name, run.converged
    ('sample-densenet121-logistic-weighted', True)
    >>> run.predictions("test").shape
    (57, 14)
    """
    heads = (head,) if isinstance(head, str) else tuple(head or ())
    chosen = _with_preset(preset, {"heads": heads, "weighting": weighting, "calibration": calibration})
    options = Options(
        heads=chosen["heads"] or ("logistic",),
        settings={**chosen.get("settings", {}), **(settings or {})},
        ensemble=ensemble or "",
        search=search or bool(grid),
        grid=dict(grid or {}),
        weighting=chosen["weighting"] or "none",
        passes=passes,
        tta=tta,
        calibration=chosen["calibration"] or "platt",
        threshold=threshold,
        seed=seed,
    )
    _check(options, resume, bool(ray))
    study = read_study(study or study_path(embedded=True), labels=labels)
    paths = embedding_paths(embeddings, study, backbone)
    with connected(ray) if ray else nullcontext() as cluster, Features(paths, memory, cluster) as features:
        joined = features.join_study(study, seed, progress)
        remind(joined.study)
        folder = Path(out) if out else _default_folder(study.name, features.recipes, options)
        with drafted(folder, overwrite, resume) as draft:
            fitted, task = _fit(features, joined, options, draft, resume, progress)
            _write(draft, features, joined, options, fitted, task)
    return Run.open(folder)


def _with_preset(preset: str | None, given: dict[str, Any]) -> dict[str, Any]:
    """Options with those of a preset; a HeadError for one that contradicts it."""
    if preset is None:
        return given
    if preset not in PRESETS:
        raise HeadError(f"unknown preset {preset!r}; choose one of {', '.join(PRESETS)}.")
    for name, value in given.items():
        if value and value != PRESETS[preset][name]:
            raise HeadError(f"preset {preset!r} decides {name}; leave it out, or leave out `preset`.")
    return PRESETS[preset]


def _check(options: Options, resume: bool, cluster: bool) -> None:
    """Raise a HeadError for options that are wrong whatever the data."""
    allowed = {"weighting": WEIGHTINGS, "calibration": CALIBRATIONS, "passes": PASSES, "ensemble": ("", *ENSEMBLES)}
    for name, choices in allowed.items():
        if (value := getattr(options, name)) not in choices:
            raise HeadError(f"unknown {name} {value!r}; choose one of {', '.join(filter(None, choices))}.")
    if isinstance(options.seed, bool) or not isinstance(options.seed, int) or not 0 <= options.seed < 2**32:
        raise HeadError(f"`seed` must be a whole number from 0 to {2**32 - 1}, not {options.seed!r}.")
    Rule.parse(options.threshold)
    if len(options.heads) > 1 and not options.ensemble:
        raise HeadError(f"{len(options.heads)} heads make one run only as an ensemble; add `ensemble`.")
    for kind in options.heads:
        declared = head_class(kind)
        declared.settings(settings_of(options.settings, kind))
        if options.weighting != "none" and not declared.takes_weights:
            able = ", ".join(name for name in HEADS.names if HEADS[name].takes_weights)
            raise HeadError(f"head {kind!r} takes no sample weights, so it cannot be class-weighted; use {able}.")
        if cluster and not declared.distributes:
            raise HeadError(f"a {kind} head is fitted on one machine; leave `ray` out, or take the logistic head.")
        if resume and (options.ensemble or not declared.resumes):
            raise HeadError(f"a {kind} head writes no checkpoints, so it cannot be resumed; leave `resume` out.")


def _fit(
    features: Features, joined: Joined, options: Options, folder: Path, resume: bool, progress: Progress
) -> tuple[Fitted, Task]:
    """Fit one head on the files side by side; for an ensemble, one for each file and kind, and join them."""
    train = joined.train
    weighting = weigh(train.y, train.labels, options.weighting)
    if not weighting.fittable.any():
        raise HeadError(f"no label of study {train.name!r} has both positives and negatives in train; nothing to fit.")
    members: list[Fitted] = []
    places: list[tuple[int, int]] = []
    held_out, start = [], 0
    for part in features.each() if options.ensemble else [features]:
        for kind in options.heads:
            task = prepare(part, joined, weighting, options, kind, None if options.ensemble else folder)
            members.append(_fit_one(kind, task, options, resume, progress))
            places.append((start, start + task.rows.shape[1]))
            if options.ensemble == "stacked":
                held_out.append(out_of_fold(head_class(kind), task, settings_of(options.settings, kind)))
        start = places[-1][1]
    if not options.ensemble:
        return members[0], task
    stack, y = np.stack(held_out, axis=1) if held_out else None, task.y[: task.images]
    head = combine([m.head for m in members], places, stack, y, task.weighting)
    notes = {"members": [dict(m.notes) for m in members]}
    return Fitted(head, all(m.converged for m in members), None, notes), task


def _fit_one(kind: str, task: Task, options: Options, resume: bool, progress: Progress) -> Fitted:
    """Fit a head, with settings searched for if asked."""
    declared, settings = head_class(kind), settings_of(options.settings, kind)
    searched: dict[str, Any] = {}
    if options.search:
        settings, table = search(declared, task, settings, options.grid, progress=progress)
        searched = {"search": json.loads(table.to_json(orient="records", double_precision=6))}
    found = declared.fit(task, declared.settings(settings), resume=resume, progress=progress)
    fitted = Fitted(found) if isinstance(found, Head) else found
    fitted.head.fitted = task.weighting.fittable
    return replace(fitted, notes={**fitted.notes, **searched})


def settings_of(settings: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Settings for one kind: the plain ones, and those written `kind.key` for it."""
    plain = {key: value for key, value in settings.items() if "." not in key}
    own = {key.rpartition(".")[2]: value for key, value in settings.items() if key.rpartition(".")[0] == kind}
    return {**plain, **own}


def _write(draft: Path, features: Features, joined: Joined, options: Options, fitted: Fitted, task: Task) -> None:
    """Predict every image, calibrate, choose thresholds, write the run; `head.json` last."""
    study, head = joined.study, fitted.head
    logits = features.logits(head, study.ids, options.tta)
    decision, p = decide(head, study.y, logits, joined.held, options, task.weighting.log_ratio)
    write_tables(draft, study, head.labels, p)
    head.save(draft)
    if fitted.history is not None:
        csv = fitted.history.to_csv(index=False, float_format="%.9g", lineterminator="\n")
        write_atomically(draft / "history.csv", csv)
    passes = features.passes_of(options)
    replace(
        written(draft, head, decision, features.recipes, fitted.notes),
        study_name=study.name,
        study_sha256=joined.sha256,
        dims=features.dims,
        options=options,
        validation=joined.note,
        class_weights=tuple(task.weighting.rows()),
        fitted_on=FittedOn(("train",), passes, len(passes) * task.images, task.images, len(np.unique(task.groups))),
        converged=fitted.converged,
    ).save()


def written(draft: Path, head: Head, decision: Decision, recipes: tuple[Recipe, ...], notes: Mapping[str, Any]) -> Run:
    """The run of a head whose files are in a draft, with no study yet."""
    return Run(
        path=draft,
        kind=head.kind,
        labels=head.labels,
        recipes=recipes,
        study_name="",
        study_sha256="",
        dims=(head.dim,),
        state=head.describe(),
        unfitted=tuple(label for label, there in zip(head.labels, head.fitted, strict=True) if not there),
        calibration=head.calibration.to_dict(),
        decision=decision,
        notes=notes,
        files=_hashes(draft),
        versions={"python": platform.python_version(), **versions(PACKAGES)},
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _hashes(draft: Path) -> dict[str, str]:
    """SHA-256 of every file of a run, its checkpoint aside."""
    names = {path: path.relative_to(draft) for path in sorted(draft.rglob("*")) if path.is_file()}
    return {name.as_posix(): sha256(path) for path, name in names.items() if name.parts[0] != CHECKPOINT}


def _default_folder(study: str, recipes: Any, options: Options) -> Path:
    """A new folder `<study>-<backbone>-<head>[-weighted][-n]` under `runs/`."""
    backbones = "+".join(dict.fromkeys(recipe.backbone for recipe in recipes))
    kind = "+".join(head.rpartition(":")[2].lower() for head in options.heads)
    name = f"{study}-{backbones}-{kind}" + ("" if options.weighting == "none" else "-weighted")
    names = (RUNS / (name if number == 1 else f"{name}-{number}") for number in itertools.count(1))
    return next(folder for folder in names if not folder.exists())


@contextmanager
def drafted(out: Path, overwrite: bool, resume: bool) -> Iterator[Path]:
    """Give a folder beside `out` to write the run to, and put it in the place of `out` when it is complete.

    What an interrupted Keras head has left there is resumed or removed; after an error nothing but that is left.
    """
    from filelock import FileLock, Timeout

    if out.name in ("", ".."):
        raise HeadError(f"{out} has no name of its own; name a new folder in `out`.")
    settle(out)
    if (out / "head.json").exists() and not (overwrite or resume):
        raise HeadError(f"{out} is a run already; name another folder in `out`, or replace it with `overwrite=True`.")
    if out.exists() and not (out / "head.json").exists() and not (out.is_dir() and _is_unfinished(out)):
        raise OutputError(f"{out} exists and is no run; name a new folder in `out`.")
    draft = draft_of(out)
    draft.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(f"{draft}.lock", timeout=0)
        with lock:
            if not resume:
                shutil.rmtree(draft, ignore_errors=True)
            elif not draft.exists() and (out / CHECKPOINT).is_dir():
                shutil.copytree(out / CHECKPOINT, draft / CHECKPOINT)
            draft.mkdir(exist_ok=True)
            try:
                yield draft
                publish(draft, out)
            finally:
                if draft.exists() and not (draft / CHECKPOINT).exists():
                    shutil.rmtree(draft)
                Path(lock.lock_file).unlink(missing_ok=True)
    except Timeout:
        raise HeadError(f"another process is fitting {out}; name another folder in `out`.") from None


def _is_unfinished(folder: Path) -> bool:
    """Whether a folder without a `head.json` is empty, or holds what an interrupted fit has left."""
    return (folder / CHECKPOINT).is_dir() or not any(folder.iterdir())


def resumable(out: str | Path) -> bool:
    """Whether a fit in this run folder was interrupted and can be resumed."""
    return (draft_of(Path(out)) / CHECKPOINT).is_dir()
