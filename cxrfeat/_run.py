"""A run folder: what a head was trained on and how, and what it predicted. No head is loaded here.

A run holds `head.json` (the fields of `Run`), the head's own files, `study.csv` (the study with the splits used),
`predictions.csv` (`image_id`, `split`, one probability column per label; both are `.parquet` with more than a million
images, and probabilities have 32 bits there) and, if they were made, `history.csv`,
`metrics.json` and `figures/`. Only this module knows the layout of `head.json`. A run can be moved: the only paths in
it are those of the images in `study.csv`.
"""

from __future__ import annotations

import json
import logging
import shutil
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxrfeat import _parquet as parquet
from cxrfeat._files import csv_text, own_hash, read_csv, restored, sha256, sync_folder, write_atomically
from cxrfeat._html import page
from cxrfeat._project import aside_of, run_path, settle
from cxrfeat._recipe import Recipe
from cxrfeat._store import EmbeddingFile
from cxrfeat._study import RESERVED, Study, read_study_file
from cxrfeat._typed import typed
from cxrfeat.errors import HeadError, NotFoundError

FILE, FORMAT, VERSION = "head.json", "cxrfeat-run", 2
_STUDY = ("study.csv", "study.provenance.json", "study.parquet", "study.parquet.provenance.json")
_TABLES = (*_STUDY, "predictions.csv", "predictions.parquet", "history.csv")
PREDICTIONS = "predictions"
_GROUPS = 50
"""A column with more different values than this is not there to group by."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """What a fit was asked for; the defaults are those of `fit_head`, which documents them."""

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


@dataclass(frozen=True)
class Decision:
    """Decision thresholds: the rule, the split they were chosen on, their values, and why a label has none."""

    rule: str = ""
    split: str = ""
    thresholds: Mapping[str, float | None] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class FittedOn:
    """What a head learned from."""

    splits: tuple[str, ...] = ()
    passes: tuple[int, ...] = ()
    rows: int = 0
    images: int = 0
    patients: int = 0


@dataclass(frozen=True, repr=False)
class Run:
    """One run: a fitted head, what it was trained on, and its predictions.

    `fit_head` makes runs and `load_run` opens them.

    Attributes
    ----------
    path : pathlib.Path
        The folder.
    kind : str
        Kind of head: `logistic`, `keras`, ...
    labels : tuple of str
        The labels, in the order of the head's outputs.
    recipes : tuple of Recipe
        Recipes of the embeddings it was trained on; several if files were joined.
    study_name, study_sha256 : str
        The study it was trained on, and the hash of its content.
    dims : tuple of int
        Length of the embeddings of each file.
    state : mapping
        What the kind of head keeps beside its files, such as the members of an ensemble.
    unfitted : tuple of str
        Labels with one class only in training; they are predicted as NaN.
    calibration : mapping
        Calibration of the logits, one step per label.
    options : Options
        What the fit was asked for.
    validation : str
        Where the validation images come from, in words.
    class_weights : tuple of mapping
        Counts and class weights of each label.
    decision : Decision
        Rule, split and values of the thresholds.
    fitted_on : FittedOn
        Splits, passes, rows, images and patients in training.
    notes : mapping
        What the kind of head reports of its fit: settings, tolerance, epochs, the search's table.
    converged : bool
        False if the optimiser stopped before its tolerance.
    files : mapping of str to str
        SHA-256 of the run's files.
    versions : mapping of str to str
        Versions of the packages that made it.
    created : str
        When, ISO 8601, UTC.

    Examples
    --------
    >>> import cxrfeat as cxr
    >>> run = cxr.load_run("sample-densenet121-logistic")
    >>> run.kind, len(run.labels), run.random
    ('logistic', 14, True)
    >>> sorted(run.study().splits), run.predictions("test").shape[1]
    (['test', 'train', 'val'], 14)
    """

    path: Path
    kind: str
    labels: tuple[str, ...]
    recipes: tuple[Recipe, ...]
    study_name: str
    study_sha256: str
    dims: tuple[int, ...] = ()
    state: Mapping[str, Any] = field(default_factory=dict)
    unfitted: tuple[str, ...] = ()
    calibration: Mapping[str, Any] = field(default_factory=dict)
    options: Options = field(default_factory=Options)
    validation: str = ""
    class_weights: tuple[Mapping[str, Any], ...] = ()
    decision: Decision = field(default_factory=Decision)
    fitted_on: FittedOn = field(default_factory=FittedOn)
    notes: Mapping[str, Any] = field(default_factory=dict)
    converged: bool = True
    files: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    created: str = ""

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """Open a run folder, of this or an earlier format version.

        Parameters
        ----------
        path : str or Path
            The folder.

        Raises
        ------
        NotFoundError
            If it is not there or has no `head.json`.
        HeadError
            If `head.json` is damaged, foreign, or of a newer version.
        """
        path = Path(path)
        settle(path)
        file = path / FILE
        if not file.is_file():
            raise NotFoundError(f"{path} is not a run: it has no {FILE}. `cxrfeat fit-head` makes runs.")
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise HeadError(f"{file} is damaged: {error}.") from error
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise HeadError(f"{file} was not written by cxrfeat: its format is not {FORMAT!r}.")
        version = found.get("format_version")
        if version not in _READERS:
            raise HeadError(
                f"{file} has format version {version}; this cxrfeat reads versions up to {VERSION}. Upgrade cxrfeat, "
                "or fit the head again."
            )
        try:
            return typing.cast(Run, typed(cls, {"path": path, **_READERS[version](found)}))
        except (TypeError, KeyError, AttributeError, ValueError) as error:
            reason = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
            raise HeadError(f"{file} is damaged: {reason}. Fit the head again.") from error

    def to_dict(self) -> dict[str, Any]:
        """Return the content of `head.json`, its own hash aside."""
        content = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "path"}
        content["recipes"] = [json.loads(recipe.to_json()) for recipe in self.recipes]
        content |= {key: asdict(getattr(self, key)) for key in ("options", "decision", "fitted_on")}
        # To JSON and back: what is written is what will be read, tuples as lists among others.
        found = json.dumps({"format": FORMAT, "format_version": VERSION, **content}, allow_nan=False)
        return typing.cast(dict[str, Any], json.loads(found))

    def save(self) -> None:
        """Write `head.json`, atomically."""
        found = self.to_dict()
        found["sha256"] = own_hash(found)
        write_atomically(self.path / FILE, json.dumps(found, indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def earlier(
        cls, path: str | Path, embeddings: str | Path, study: Study, options: Mapping[str, Any] | None = None
    ) -> Run | None:
        """Open a finished run that was fitted on the same, so that it need not be fitted again.

        Parameters
        ----------
        path : path
            The folder; it need not exist.
        embeddings : path
            The embedding file.
        study : Study
            With the labels and splits it would be fitted on.
        options : mapping, optional
            Options of `fit_head` that it must have had.

        Returns
        -------
        Run or None
            None if there is no finished run, or it is of another recipe, study or options.
        """
        if not (Path(path) / FILE).is_file():
            return None
        run = cls.open(path)
        with EmbeddingFile.open(embeddings) as file:
            same = run.recipes == (file.recipe,)
        same = same and all(getattr(run.options, key) == value for key, value in (options or {}).items())
        return run if same and run.study_sha256 == study.sha256 else None

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.resolve().name

    @property
    def thresholds(self) -> dict[str, float]:
        """Decision threshold of each label; NaN if none could be chosen."""
        values = {label: self.decision.thresholds.get(label) for label in self.labels}
        return {label: float("nan") if value is None else value for label, value in values.items()}

    @property
    def random(self) -> bool:
        """Whether a backbone had random weights, so that no number of this run is a result."""
        return any(recipe.random for recipe in self.recipes)

    def describe(self) -> str:
        """The head and its embeddings in one line, for titles and tables."""
        # A head that was trained on pass 0 has nothing of the augmented passes that its file may hold.
        recipes = [recipe.pass0 if self.options.passes == "0" else recipe for recipe in self.recipes]
        return f"{self.kind} head on " + " + ".join(recipe.describe() for recipe in recipes)

    def __repr__(self) -> str:
        return f"<Run {self.name}: {self.describe()}; study {self.study_name or 'none'}, {len(self.labels)} labels>"

    def _repr_html_(self) -> str:
        facts = {
            "head": self.describe(),
            "study": self.study_name,
            "trained on": self.notes.get("trained_on")
            or f"{self.fitted_on.images:,} images of {self.fitted_on.patients:,} patients",
            "validation": self.validation,
            "class weights": self.options.weighting,
            "thresholds": f"{self.decision.rule}, on {self.decision.split or 'no split'}",
            "converged": self.converged,
            **({"RANDOM backbone weights": "no number of this run is a result"} if self.random else {}),
        }
        counts = {str(row.get("label")): row.get("positives") for row in self.class_weights}
        rows = [
            {"label": label, "positives in training": counts.get(label), "threshold": threshold}
            | ({"no threshold, since": self.decision.reasons.get(label, "")} if self.decision.reasons else {})
            for label, threshold in self.thresholds.items()
        ]
        return page(f"Run {self.name}", facts, rows)

    def study(self) -> Study:
        """Return the study it was trained on, with the splits used and its labels in the head's order.

        Of an imported classifier that is the first study that it has predicted.
        """
        if not self.study_name:
            raise NotFoundError(
                f"{self.path} is an imported classifier without a study; `cxrfeat predict --run {self.path} --study "
                "STUDY` predicts one, which can then be evaluated."
            )
        check_files(self, *_STUDY)
        study = read_study_file(self.table("study"), name=self.study_name)
        if not self.fitted_on.images:  # a study that was not fitted on may say nothing of some labels
            missing = [label for label in self.labels if label not in study.labels]
            table = study.table.assign(**dict.fromkeys(missing, np.nan))
            study = replace(study, table=table, labels=(*study.labels, *missing))
        return study.with_labels(self.labels)

    def table(self, name: str) -> Path:
        """Return the file of its `study` or `predictions`: CSV, or Parquet where that is there.

        Parameters
        ----------
        name : str
            Without an ending.
        """
        path = self.path / f"{name}{parquet.ENDING}"
        return path if path.is_file() else path.with_suffix(".csv")

    def predictions(self, split: str | None = None) -> pd.DataFrame:
        """Return probabilities, one column per label, indexed by `image_id`; of one split or of all.

        They are float64, or float32 where the run keeps them as Parquet, as with more than a million images.

        Parameters
        ----------
        split : str, optional
            One split; by default all.

        Raises
        ------
        NotFoundError
            If there are no predictions.
        HeadError
            If it is not a table of numbers, a label's column is missing, or the split has no rows.
        """
        file = self.table("predictions")
        if not file.is_file():
            raise NotFoundError(f"{file} is missing; `cxrfeat predict --run {self.path}` makes it.")
        check_files(self, file.name)
        if file.suffix == parquet.ENDING:
            table = parquet.read(file, HeadError, split=split)
        else:
            table = read_csv(file, HeadError, dtype={"image_id": str, "split": str}, keep_default_na=True)
            table = table.rename(columns=restored)
            if "image_id" in table:
                table["image_id"] = table["image_id"].map(restored)
        missing = [c for c in ("image_id", "split", *self.labels) if c not in table.columns]
        if missing:
            raise HeadError(f"{file} has no column {missing[0]!r}.")
        if split is not None:
            table = table[table["split"] == split]
            if table.empty:
                raise HeadError(f"{file} has no predictions for split {split!r}.")
        try:
            values = table.set_index("image_id")[list(self.labels)]
            return values if file.suffix == parquet.ENDING else values.astype(float)
        except ValueError as error:
            raise HeadError(f"{file} contains values that are not probabilities: {error}. Predict again.") from error


def write_tables(folder: Path, study: Study, labels: Sequence[str], p: npt.NDArray[np.float64]) -> None:
    """Write the study and the predictions of a run; columns such as reports, which no run needs, are left out."""
    own = [c for c in study.table.columns if c not in RESERVED and c not in study.labels]
    if texts := [c for c in own if study.table[c].nunique() > _GROUPS]:
        _log.info("not copied into the run: %s (more than %d different values).", ", ".join(texts), _GROUPS)
    ending = parquet.ending_of(len(study))
    replace(study, table=study.table.drop(columns=texts)).save(folder / f"study{ending}")
    predictions = prediction_table(study.table["image_id"], study.table["split"], labels, p)
    write_predictions(folder / f"predictions{ending}", predictions)


def adopt(run: Run, study: Study, p: npt.NDArray[np.float64]) -> Run:
    """Make a study, with its predictions, that of a run which has none: an imported classifier's."""
    missing = [label for label in run.labels if label not in study.labels]
    if missing:
        _log.info("%s has no labels %s: they are predicted and cannot be evaluated.", study.name, ", ".join(missing))
    own = study.with_labels([label for label in run.labels if label in study.labels])
    write_tables(run.path, own, run.labels, p)
    hashes = {name: sha256(run.path / name) for name in _TABLES if (run.path / name).is_file()}
    run = replace(run, study_name=study.name, study_sha256=own.sha256, files={**run.files, **hashes})
    run.save()
    return run


def prediction_table(ids: Any, splits: Any, labels: Sequence[str], p: npt.NDArray[np.float64]) -> pd.DataFrame:
    """One row an image: `image_id`, `split`, a probability for each label."""
    table = pd.DataFrame(p, columns=list(labels))
    for name, texts in (("split", splits), ("image_id", ids)):
        table.insert(0, name, texts if isinstance(texts, str) else getattr(texts, "array", texts))  # whatever its index
    return table


def write_predictions(path: Path, predictions: pd.DataFrame) -> Path:
    """Write probabilities with 9 significant digits, or 32 bits as Parquet; empty where a label has none."""
    if path.suffix == parquet.ENDING:
        numbers = {str(name): "float32" for name in predictions.select_dtypes("number")}
        return parquet.write(path, predictions, PREDICTIONS, numbers)
    return write_atomically(path, csv_text(predictions, "%.9g"))


def record(run: Run, file: Path) -> None:
    """Keep the hash of a file of this run that was written again; of any other file nothing is kept."""
    if file.resolve().parent == run.path.resolve() and file.name in run.files:
        typing.cast(dict[str, str], run.files)[file.name] = sha256(file)
        run.save()


def check_files(run: Run, *names: str) -> None:
    """Raise a HeadError if a file was changed since the run was made; by default one of the head's own.

    A file that is not there is not checked: whoever reads it reports that.
    """
    for name in names or [name for name in run.files if name not in _TABLES]:
        # Only names of this folder: a path that leads out of it would be someone else's file.
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise HeadError(f"{run.path / FILE} names a file {name!r} outside the run; it was not loaded.")
        file, expected = run.path / name, run.files.get(name)
        if expected is not None and file.is_file() and sha256(file) != expected:
            raise HeadError(f"{file} was changed after the run was made; it was not loaded. Fit the head again.")


def draft_of(out: Path) -> Path:
    """The folder beside a run in which a new one is written."""
    return out.parent / f".{out.name}.draft"


def publish(draft: Path, out: Path) -> None:
    """Put a complete run in the place of `out`; the run that was there stays until then.

    A folder cannot be replaced in one step: the old one is moved aside first, and `settle` moves it back if a process
    died between the two.
    """
    aside = aside_of(out)
    for tries in range(5):
        settle(out)
        if out.exists():
            out.rename(aside)
        try:
            draft.rename(out)
            break
        except OSError:
            if not out.exists() or tries == 4:  # a reader may have settled between the two lines above
                raise
    sync_folder(out.parent)
    shutil.rmtree(aside, ignore_errors=True)


def load_run(run: str | Path | Run | None = None) -> Run:
    """Open a run.

    Parameters
    ----------
    run : str, Path or Run, optional
        The folder, or its name under `runs/`; by default the newest under `runs/`. A `Run` is returned as it is.

    Returns
    -------
    Run
        What `fit_head` returned when it made it.

    Raises
    ------
    NotFoundError
        If it is not there.
    HeadError
        If `head.json` is damaged, foreign, or of a newer version.

    Examples
    --------
    >>> import cxrfeat as cxr
    >>> run = cxr.load_run("sample-densenet121-logistic")
    >>> run
    <Run sample-densenet121-logistic: logistic head on densenet121, RANDOM weights ...; study sample, 14 labels>
    >>> cxr.load_run() == run  # the newest
    True
    """
    return run if isinstance(run, Run) else Run.open(run_path(run))


def _read_2(found: Mapping[str, Any]) -> dict[str, Any]:
    if found.get("sha256") != own_hash(found):
        raise ValueError("it was changed after it was written")
    return {key: value for key, value in found.items() if key not in ("format", "format_version", "sha256")}


def _read_1(old: Mapping[str, Any]) -> dict[str, Any]:
    """The first version, written until 2026: `validation` among the options, an ensemble's members at the top."""
    options, decision = dict(old.get("options") or {}), dict(old.get("thresholds") or {})
    keys, names = ("kind", "labels", "recipes"), {"method": "rule", "values": "thresholds"}
    same = ("dims", "unfitted", "calibration", "fitted_on", "converged", "files", "versions", "created")
    return {
        **{key: old[key] for key in keys},
        **{key: old[key] for key in same if key in old},
        "study_name": old["study"]["name"],
        "study_sha256": old["study"]["sha256"],
        "state": {key: old[key] for key in ("members", "weights", "offset") if key in old},
        "validation": options.pop("validation", ""),
        "options": options,
        "class_weights": old.get("weighting", []),
        "decision": {names.get(key, key): value for key, value in decision.items()},
        "notes": old.get("fit", {}),
    }


_READERS: dict[Any, Callable[[Mapping[str, Any]], dict[str, Any]]] = {1: _read_1, 2: _read_2}
