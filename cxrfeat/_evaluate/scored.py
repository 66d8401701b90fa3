"""A run's predictions, joined to the truth and checked: the input of every metric, table and figure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxrfeat._run import Run, load_run
from cxrfeat._study import Study
from cxrfeat.errors import EvaluationError

Array = npt.NDArray[np.float64]

FEW = 10
"""Positive (or negative) patients under which a label's numbers are mostly chance."""


@dataclass(frozen=True)
class Scored:
    """Truth (1, 0, NaN unknown) and probabilities of the same images, float64 (n, labels), checked.

    `y` (1, 0, NaN unknown) and `p` are float64 (n, labels), a label without any prediction NaN in every row; `ids` and
    `patients` are str (n,), `thresholds` float64 (labels,), NaN where there is none. `name` is what made the
    predictions, `provenance` says where the numbers come from (`split`, `study`, `head`, `recipes`, `weights`, ...),
    `random` whether a backbone had random weights. `table` has the study's rows in the same order, to group by.
    `palette` has all labels of the run: a label keeps its colour where only some are shown.
    """

    labels: tuple[str, ...]
    y: Array
    p: Array
    ids: npt.NDArray[np.str_]
    patients: npt.NDArray[np.str_]
    thresholds: Array
    name: str = ""
    provenance: dict[str, Any] = field(default_factory=dict)
    random: bool = False
    table: pd.DataFrame = field(default_factory=pd.DataFrame)
    palette: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_arrays(self.y, self.p, self.labels, self.ids)

    def __len__(self) -> int:
        return len(self.y)

    def take(self, rows: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> Scored:
        """Return the images chosen by a mask or by positions."""
        table = self.table[rows] if rows.dtype == bool else self.table.iloc[rows]
        return replace(
            self, y=self.y[rows], p=self.p[rows], ids=self.ids[rows], patients=self.patients[rows], table=table
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
            self, labels=tuple(wanted), y=self.y[:, at], p=self.p[:, at], thresholds=self.thresholds[at],
            palette=self.palette or self.labels,
        )  # fmt: skip

    def colour_of(self, label: str) -> int:
        """Return the number of a label's colour: the same in every figure of a run."""
        return (self.palette or self.labels).index(label)

    @property
    def positives(self) -> npt.NDArray[np.int64]:
        """Number of positives of each label."""
        return np.nansum(self.y, axis=0).astype(np.int64)

    @property
    def fewest_patients(self) -> npt.NDArray[np.int64]:
        """Number of patients of each label's smaller class: what an interval rests on."""
        counts = [[len(np.unique(self.patients[y == side])) for y in self.y.T] for side in (0, 1)]
        return np.min(counts, axis=0)

    @property
    def defined(self) -> npt.NDArray[np.bool_]:
        """Labels (labels,) that have both classes and a prediction, so that an AUROC exists."""
        present, absent = (self.y == 1).any(axis=0), (self.y == 0).any(axis=0)
        return present & absent & ~np.isnan(self.p).all(axis=0)

    def facts(self) -> dict[str, Any]:
        """Return what every table and figure says about its data."""
        return {
            "n": len(self),
            "patients": len(np.unique(self.patients)),
            "positives": dict(zip(self.labels, self.positives.tolist(), strict=True)),
            **self.provenance,
            "random_weights": self.random,
        }

    def caption(self) -> str:
        """One line for figures and titles: images, patients, split, study, head, recipe, weights."""
        images = f"n = {len(self):,} images of {len(np.unique(self.patients)):,} patients"
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
    where = f"{run.path / 'predictions.csv'}, split {split!r}"
    return of_run(run, part, predictions, split, where, problems)


def of_run(
    run: Run, part: Study, predictions: pd.DataFrame, split: str, where: str, not_fair: Sequence[str] = ()
) -> Scored:
    """Join predictions of a run, a column per label by `image_id`, to images that have the run's labels, in its order.

    `where` says in messages where the predictions are from.
    """
    from cxrfeat._backbones import pretraining

    part, p, missing = _joined(part, predictions, where)
    about: dict[str, Any] = {
        "run": run.name,
        "split": split,
        "study": part.name,
        "head": run.describe(),
        "recipes": [recipe.describe() for recipe in run.recipes],
        "weights": sorted({recipe.weights for recipe in run.recipes}),
        "thresholds": _threshold_words(run),
    }
    more: dict[str, Any] = {
        "not_fair": list(not_fair),
        "without_prediction": missing,
        "pretraining": pretraining.notes(run.recipes, part, split),
    }
    thresholds = np.array([run.thresholds[label] for label in run.labels])
    about |= {key: value for key, value in more.items() if value}
    return Scored(run.labels, part.y, p, part.ids, part.patients, thresholds, run.name, about, run.random, part.table)


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


def check_arrays(y: Array, p: Array, labels: Sequence[str], ids: Iterable[str]) -> None:
    """Raise an EvaluationError for truth and probabilities that cannot be evaluated together."""
    ids = np.asarray(ids)
    if y.ndim != 2 or y.shape != p.shape or y.shape != (len(ids), len(labels)):
        raise EvaluationError(
            f"truth {y.shape}, probabilities {p.shape}, {len(ids)} ids and {len(labels)} labels do not fit together: "
            "both arrays are (images, labels)."
        )
    if not len(ids):
        raise EvaluationError("there are no images to evaluate.")
    if not (np.isnan(y) | (y == 0) | (y == 1)).all():
        raise EvaluationError("the truth must be 1, 0 or NaN (unknown).")
    unfitted = np.isnan(p).all(axis=0)
    bad = ~((p >= 0) & (p <= 1)) & ~unfitted
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise EvaluationError(
            f"{int(bad.sum())} predictions are not probabilities in [0, 1]; the first is {p[row, column]} for "
            f"{labels[column]} of image {str(ids[row])!r}. Predict again, or pass logits through a sigmoid."
        )


def _joined(part: Study, predictions: pd.DataFrame, where: str) -> tuple[Study, Array, int]:
    """The study's rows and the probabilities in one order, and how many of the rows have no prediction."""
    ids = predictions.index
    if ids.has_duplicates:
        raise EvaluationError(f"{where}: image {ids[ids.duplicated()][0]!r} is duplicated.")
    unknown = ids.difference(pd.Index(part.ids))
    if len(unknown):
        raise EvaluationError(
            f"{where}: {len(unknown)} of {len(ids)} images are not in that split of study {part.name!r}, the first is "
            f"{unknown[0]!r}. Predict again with this run's study."
        )
    kept = part.take(np.isin(part.ids, ids.to_numpy(dtype=str)))
    return kept, predictions.reindex(index=kept.ids).to_numpy(dtype=np.float64), len(part) - len(kept)


def _threshold_words(run: Run) -> str:
    chosen = run.decision
    return f"{chosen.rule or 'stored'} on {chosen.split or 'an unknown split'}" if chosen.thresholds else "none"
