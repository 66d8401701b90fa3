"""A run's predictions, joined to the truth and checked: the input of every metric, table and figure."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxrfeat._evaluate.arrays import Array, as_codes, numbered, unknown
from cxrfeat._run import Run, load_run
from cxrfeat._study import Study
from cxrfeat.errors import EvaluationError

FEW = 10
"""Positive (or negative) patients under which a label's numbers are mostly chance."""


@dataclass(frozen=True)
class Scored:
    """Truth and probabilities of the same images, checked.

    `truth` is int8 (n, labels): 1, 0, -1 unknown; it may be given as numbers with NaN for unknown, which `y` returns.
    `p` is float64 or float32 (n, labels), a label without any prediction NaN in every row. `ids` are texts (n,),
    `patients` int32 (n,), the place of the image's patient in `names`; without `names`, they may be given as texts.
    `thresholds` are float64 (labels,), NaN where there is none. `name` is what made the
    predictions, `provenance` says where the numbers come from (`split`, `study`, `head`, `recipes`, `weights`, ...),
    `random` whether a backbone had random weights. `table` has the study's rows in the same order, without labels, to
    group by. `palette` has all labels of the run: a label keeps its colour where only some are shown.
    """

    labels: tuple[str, ...]
    truth: npt.NDArray[Any]
    p: npt.NDArray[np.floating]
    ids: Any
    patients: npt.NDArray[Any]
    thresholds: Array
    name: str = ""
    provenance: dict[str, Any] = field(default_factory=dict)
    random: bool = False
    table: pd.DataFrame = field(default_factory=pd.DataFrame)
    palette: tuple[str, ...] = ()
    names: Any = None

    def __post_init__(self) -> None:
        check_arrays(self.truth, self.p, self.labels, self.ids)
        object.__setattr__(self, "truth", as_codes(self.truth))
        if self.names is None:
            patients, names = numbered(self.patients)
            object.__setattr__(self, "patients", patients)
            object.__setattr__(self, "names", names)

    def __len__(self) -> int:
        return len(self.truth)

    @property
    def y(self) -> Array:
        """The truth as numbers, float64 (n, labels): 1, 0, NaN unknown."""
        return np.where(self.truth < 0, np.nan, self.truth)

    def label(self, j: int) -> tuple[Array, Array]:
        """Truth (1, 0, NaN unknown) and probabilities of one label, float64 (n,) each."""
        truth = self.truth[:, j]
        return np.where(truth < 0, np.nan, truth), self.p[:, j].astype(np.float64)

    def take(self, rows: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> Scored:
        """Return the images chosen by a mask or by positions."""
        table = self.table[rows] if rows.dtype == bool else self.table.iloc[rows]
        return replace(
            self, truth=self.truth[rows], p=self.p[rows], ids=self.ids[rows], patients=self.patients[rows], table=table
        )

    def with_labels(self, wanted: Sequence[str]) -> Scored:
        """Return these labels only, in this order; an EvaluationError names one that does not exist."""
        missing = [label for label in wanted if label not in self.labels]
        if missing:
            raise EvaluationError(
                f"{self.name or 'the predictions'} has no label {missing[0]!r}; it has {', '.join(self.labels)}."
            )
        at = [self.labels.index(label) for label in wanted]
        return replace(
            self, labels=tuple(wanted), truth=self.truth[:, at], p=self.p[:, at], thresholds=self.thresholds[at],
            palette=self.palette or self.labels,
        )  # fmt: skip

    def colour_of(self, label: str) -> int:
        """Return the number of a label's colour: the same in every figure of a run."""
        return (self.palette or self.labels).index(label)

    def patients_of(self, chosen: npt.NDArray[np.bool_] | slice = slice(None)) -> int:
        """Number of patients with an image among those chosen."""
        return int(np.count_nonzero(np.bincount(self.patients[chosen])))

    def any_of(self, side: int) -> npt.NDArray[np.bool_]:
        """Images (n,) with a label that is present (1), absent (0) or unknown (-1)."""
        found = np.zeros(len(self), bool)
        for truth in self.truth.T:  # label by label, since all of them take as much memory as the truth
            found |= truth == side
        return found

    @cached_property
    def positives(self) -> npt.NDArray[np.int64]:
        """Number of positives of each label."""
        return np.array([np.count_nonzero(truth == 1) for truth in self.truth.T], np.int64)

    @cached_property
    def negatives(self) -> npt.NDArray[np.int64]:
        """Number of negatives of each label."""
        return np.array([np.count_nonzero(truth == 0) for truth in self.truth.T], np.int64)

    @property
    def predicted(self) -> npt.NDArray[np.bool_]:
        """Labels (labels,) with a prediction: those that have one have it for every image."""
        return ~np.isnan(self.p[0])

    @cached_property
    def fewest_patients(self) -> npt.NDArray[np.int64]:
        """Number of patients of each label's smaller class: what an interval rests on."""
        return np.array([min(self.patients_of(truth == side) for side in (0, 1)) for truth in self.truth.T], np.int64)

    @cached_property
    def fewest_of_any(self) -> int:
        """The same of all labels pooled."""
        return min(self.patients_of(self.any_of(side)) for side in (0, 1))

    @property
    def defined(self) -> npt.NDArray[np.bool_]:
        """Labels (labels,) that have both classes and a prediction, so that an AUROC exists."""
        return (self.positives > 0) & (self.negatives > 0) & self.predicted

    @property
    def few(self) -> npt.NDArray[np.bool_]:
        """Labels (labels,) with fewer than `FEW` positive or negative patients, those with none included."""
        return self.fewest_patients < FEW

    def named(self, chosen: npt.NDArray[np.bool_]) -> tuple[str, ...]:
        """Names of the labels of a mask (labels,)."""
        return tuple(itertools.compress(self.labels, chosen))

    def facts(self) -> dict[str, Any]:
        """Return what every table and figure says about its data."""
        return {
            "n": len(self),
            "patients": self.patients_of(),
            "positives": dict(zip(self.labels, self.positives.tolist(), strict=True)),
            **self.provenance,
            "random_weights": self.random,
        }

    def caption(self) -> str:
        """One line for figures and titles: images, patients, split, study, head, recipe, weights."""
        images = f"n = {len(self):,} images of {self.patients_of():,} patients"
        where = ", ".join(f"{key} {self.provenance[key]}" for key in ("split", "study") if self.provenance.get(key))
        return "; ".join(part for part in (images, where, self.provenance.get("head", self.name)) if part)


Evaluable = Run | Scored | str | Path | None
"""What can be evaluated: a run, its folder or name, or truth and probabilities without a run; None: the newest run."""


def scored_run(run: Evaluable = None, split: str = "test", allow_contaminated: bool = False) -> Scored:
    """Join a run's predictions of one split to the truth of its study, by image id; a `Scored` is returned as it is.

    A split that was used for fitting or for choosing thresholds is refused, unless `allow_contaminated`: every output
    then says so.
    """
    if isinstance(run, Scored):
        return run
    run = load_run(run)
    part = run.study().split(split)
    predictions = run.predictions(split)
    problems = unfair(run, split)
    if problems and not allow_contaminated:
        raise EvaluationError(
            f"{' '.join(problems)} `allow_contaminated=True` evaluates it all the same, and every output says so."
        )
    where = f"{run.table('predictions')}, split {split!r}"
    return of_run(run, part, predictions, split, where, problems)


def of_run(
    run: Run, part: Study, predictions: pd.DataFrame, split: str, where: str, not_fair: Sequence[str] = ()
) -> Scored:
    """Join predictions of a run, a column per label by `image_id`, to images that have the run's labels, in its order.

    `where` says in messages where the predictions are from.
    """
    from cxrfeat._backbones import pretraining

    part, p, missing = _joined(part, predictions, where)
    chosen = run.decision
    words = f"{chosen.rule or 'stored'} on {chosen.split or 'an unknown split'}" if chosen.thresholds else "none"
    about: dict[str, Any] = {
        "run": run.name,
        "split": split,
        "study": part.name,
        "head": run.describe(),
        "recipes": [recipe.describe() for recipe in run.recipes],
        "weights": sorted({recipe.weights for recipe in run.recipes}),
        "thresholds": words,
    }
    more: dict[str, Any] = {
        "not_fair": list(not_fair),
        "without_prediction": missing,
        "pretraining": pretraining.notes(run.recipes, part, split),
    }
    thresholds = np.array([run.thresholds[label] for label in run.labels])
    about |= {key: value for key, value in more.items() if value}
    patients, names = numbered(part.table["patient_id"])
    table = part.table[[column for column in part.table if column not in part.labels]].copy()
    return Scored(
        run.labels, truth_of(part), p, table["image_id"].array, patients, thresholds, run.name, about, run.random,
        table, names=names,
    )  # fmt: skip


def truth_of(study: Study) -> npt.NDArray[np.int8]:
    """The labels of a study: int8 (n, labels), 1, 0, and -1 for unknown."""
    found = np.empty((len(study), len(study.labels)), np.int8)
    for j, label in enumerate(study.labels):
        found[:, j] = as_codes(study.table[label].to_numpy(dtype=np.float64))
    return found


def unfair(run: Run, split: str) -> list[str]:
    """Say why numbers on this split of this run would flatter it; empty if they are fair.

    A patient in two splits is not looked for here: `read_study` refuses such a study.
    """
    problems = []
    fitted = run.fitted_on.splits
    if split in fitted:
        problems.append(f"run {run.name!r} was fitted on split {split!r}: its patients were seen in training.")
    if run.decision.split == split and split not in fitted:
        problems.append(f"the thresholds of run {run.name!r} were chosen on split {split!r} itself.")
    return problems


def check_arrays(y: npt.NDArray, p: npt.NDArray, labels: Sequence[str], ids: Any) -> None:
    """Raise an EvaluationError for truth and probabilities that cannot be evaluated together."""
    if y.ndim != 2 or y.shape != p.shape or y.shape != (len(ids), len(labels)):
        raise EvaluationError(
            f"truth {y.shape}, probabilities {p.shape}, {len(ids)} ids and {len(labels)} labels do not fit together: "
            "both arrays are (images, labels)."
        )
    if not len(ids):
        raise EvaluationError("there are no images to evaluate.")
    wrong: list[tuple[int, int]] = []  # the first row of each label, and the label
    count = 0
    for column, (truth, values) in enumerate(zip(y.T, p.T, strict=True)):
        if not (unknown(truth) | (truth == 0) | (truth == 1)).all():
            raise EvaluationError("the truth must be 1, 0 or NaN (unknown).")
        bad = ~((values >= 0) & (values <= 1))
        if bad.any() and not np.isnan(values).all():
            wrong.append((int(bad.argmax()), column))
            count += int(bad.sum())
    if wrong:
        row, column = min(wrong)
        raise EvaluationError(
            f"{count} predictions are not probabilities in [0, 1]; the first is {p[row, column]} for "
            f"{labels[column]} of image {str(ids[row])!r}. Predict again, or pass logits through a sigmoid."
        )


def _joined(part: Study, predictions: pd.DataFrame, where: str) -> tuple[Study, Array, int]:
    """The study's rows and the probabilities in one order, and how many of the rows have no prediction."""
    ids, own = predictions.index, pd.Index(part.table["image_id"])
    p = predictions.to_numpy()
    if ids.equals(own):  # as a run writes them: nothing to look up
        return part, p, 0
    if ids.has_duplicates:
        raise EvaluationError(f"{where}: image {ids[ids.duplicated()][0]!r} is duplicated.")
    place = own.get_indexer(ids)
    if (absent := ids[place < 0]).size:
        raise EvaluationError(
            f"{where}: {len(absent)} of {len(ids)} images are not in that split of study {part.name!r}, the first is "
            f"{absent.min()!r}. Predict again with this run's study."
        )
    order = np.argsort(place)
    return part.take(place[order]), p[order], len(part) - len(ids)
