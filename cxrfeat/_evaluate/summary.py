"""A run, evaluated: rows per label, macro and micro, groups and warnings, in one object that prints as it is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from cxrfeat._evaluate import delong, groups, metrics, warnings
from cxrfeat._evaluate.bootstrap import METRICS, REPLICATES, Replicates, bootstrap, point
from cxrfeat._evaluate.scored import Scored, scored_run
from cxrfeat._progress import Progress, silent
from cxrfeat._run import Run
from cxrfeat._study import Study

Row = dict[str, Any]


@dataclass(frozen=True)
class Group:
    """One group of images.

    Attributes
    ----------
    column, name : str
    scored : Scored
        Its images.
    rows : list of dict
        As `Evaluation.rows`.
    """

    column: str
    name: str
    scored: Scored
    rows: list[Row]


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found.

    Attributes
    ----------
    scored : Scored
        What was evaluated.
    rows : list of dict
        One per label, then `macro` and `micro`: `label`, `n`, `positives`, `patients`, `prevalence`, `threshold`, every
        metric of `cxrfeat._evaluate.bootstrap.METRICS` and its interval under NAME_bootstrap, `auroc_delong` and
        `auroc_delong_patients` (images of one patient as one cluster). Macro has `over`, the labels it runs over.
    groups : list of Group
    alone : dict
        For each column grouped by: AUROC of every label from its prevalence in the group in training, and nothing else.
    warnings : list of Warning
    replicates : int
    seed : int
    """

    scored: Scored
    rows: list[Row]
    groups: list[Group] = field(default_factory=list)
    alone: dict[str, dict[str, float]] = field(default_factory=dict)
    warnings: list[warnings.Warning] = field(default_factory=list)
    replicates: int = 0
    seed: int = 0

    @property
    def macro(self) -> Row:
        """The mean over labels."""
        return self.rows[-2]

    @property
    def micro(self) -> Row:
        """All labels pooled."""
        return self.rows[-1]

    @property
    def accuracy(self) -> dict[str, float]:
        """Share of correct labels over images and labels (equation 1 of the reference paper), and its baseline."""
        return {
            "at_thresholds": self.micro["accuracy"],
            "at_half": self.micro["accuracy_at_half"],
            "all_negative_baseline": self.micro["all_negative_accuracy"],
        }

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON has it; NaN stays NaN."""
        return {
            "format": "cxrfeat-metrics",
            "format_version": 1,
            "stands_on": self.scored.stands_on(),
            "intervals": {"level": delong.LEVEL, "bootstrap_replicates": self.replicates, "seed": self.seed},
            "accuracy": self.accuracy,
            "labels": self.rows[:-2],
            "macro": self.macro,
            "micro": self.micro,
            "groups": [
                {"column": g.column, "group": g.name, "n": len(g.scored), "labels": g.rows[:-2], "macro": g.rows[-2]}
                for g in self.groups
            ],
            "auroc_of_the_group_alone": self.alone,
            "warnings": [asdict(warning) for warning in self.warnings],
        }


def evaluate_run(
    run: Run,
    split: str = "test",
    by: Iterable[str] | None = None,
    replicates: int = REPLICATES,
    seed: int = 0,
    anyway: bool = False,
    progress: Progress = silent,
) -> Evaluation:
    """Evaluate a run's stored predictions of one split; see `scored_run` and `evaluate`.

    Parameters
    ----------
    run : Run
        An opened run.
    split : str
        Which images.
    by : iterable of str, optional
        Columns of the study to group by; by default `view`, where there is one.
    replicates : int
        Replicates of the bootstrap over patients; 0 leaves it out.
    seed : int
        Seed of the bootstrap.
    anyway : bool
        Go on where the split was used in fitting; the standing then says so.
    progress : Progress
        Told of each block of replicates.
    """
    scored = scored_run(run, split, anyway)
    study = run.study()
    fitted = [s for s in run.fitted_on.splits if s in study.splits]
    return evaluate(scored, by, replicates, seed, study.split(*fitted) if fitted else None, progress)


def evaluate(
    scored: Scored,
    by: Iterable[str] | None = None,
    replicates: int = REPLICATES,
    seed: int = 0,
    training: Study | None = None,
    progress: Progress = silent,
) -> Evaluation:
    """Evaluate predictions.

    Parameters
    ----------
    scored : Scored
        Predictions with their truth.
    by : iterable of str, optional
        Columns of the study to group by; `images_per_patient` is always there. By default `view`, where it is.
    replicates : int
        Bootstrap replicates; 0 leaves the bootstrap intervals out.
    seed : int
        Seed of the bootstrap.
    training : Study, optional
        What the head was fitted on, with the same labels, to compare prevalences with.
    progress : Progress
        Told of replicates, over all images and all groups.

    Raises
    ------
    EvaluationError
        If a column to group by is not there or has too many values.
    """
    columns = tuple(groups.default(scored) if by is None else dict.fromkeys(by))
    masks = {column: groups.group(scored, column) for column in columns}
    total, done = replicates * (1 + sum(len(m) for m in masks.values())), 0

    def summarise(part: Scored, note: str) -> list[Row]:
        nonlocal done
        start = done
        draws = None
        if replicates:
            draws = bootstrap(
                part.y, part.p, part.patients, part.thresholds, replicates, seed,
                progress=lambda now, _, __="": progress(start + now, total, note),
            )  # fmt: skip
        done += replicates
        return rows_of(part, draws)

    rows = summarise(scored, "all images")
    found, alone, told = [], {}, warnings.of_scores(scored, training.y if training else None)
    for column, parts in masks.items():
        mine = []
        for name, mask in parts.items():
            part = scored.take(mask)
            mine.append(Group(column, name, part, summarise(part, f"{column} {name}")))
        seen = (training.y, groups.group(training, column)) if training else (None, None)
        values = groups.auroc_alone(scored.y, parts, *seen)
        alone[column] = dict(zip(scored.labels, values.tolist(), strict=True))
        small = {g.name: warnings.small_labels(g.scored) for g in mine}
        told += warnings.of_groups(column, *_comparable(rows, mine), small)
        found += mine
    return Evaluation(scored, rows, found, alone, told, replicates, seed)


def rows_of(scored: Scored, draws: Replicates | None = None) -> list[Row]:
    """One row per label, then macro and micro, as `Evaluation.rows` has them."""
    names = [*scored.labels, "macro", "micro"]
    values = point(scored.y, scored.p, scored.thresholds)
    spans = _spans(draws, values) if draws is not None else {}
    plain = delong.intervals(scored.y, scored.p)
    clustered = delong.intervals(scored.y, scored.p, scored.patients)
    known = ~np.isnan(scored.y)
    counts = [*known.sum(axis=0).tolist(), len(scored), int(known.sum())]
    positives = [*scored.positives.tolist(), int(scored.positives.sum()), int(scored.positives.sum())]
    rows: list[Row] = []
    for j, name in enumerate(names):
        mask = known[:, j] if j < len(scored.labels) else np.ones(len(scored), dtype=bool)
        row: Row = {
            "label": name,
            "n": counts[j],
            "positives": positives[j],
            "patients": len(np.unique(scored.patients[mask])),
            "prevalence": positives[j] / max(int(known.sum()) if j >= len(scored.labels) else counts[j], 1),
            "threshold": float(scored.thresholds[j]) if j < len(scored.labels) else float("nan"),
        }
        for metric in METRICS:
            row[metric] = float(values[metric][j])
            if spans:
                row[f"{metric}_bootstrap"] = spans[metric][j].tolist()
        if j < len(scored.labels):
            row["auroc_delong"], row["auroc_delong_patients"] = list(plain[j][1:]), list(clustered[j][1:])
        if draws is not None:
            row["bootstrap_undefined"] = int(draws.undefined("auroc")[j])
        rows.append(row)
    defined = ~np.isnan(values["auroc"][: len(scored.labels)])
    rows[-2]["over"] = [label for label, yes in zip(scored.labels, defined, strict=True) if yes]
    return rows


def _spans(draws: Replicates, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Bootstrap interval (labels + 2, 2) of every metric."""
    spans = {name: draws.interval(name) for name in METRICS}
    # A draw repeats images, which adds to the calibration error each time: without taking that bias out, the interval
    # would stand beside the estimate.
    mean = metrics.ratio(np.nansum(draws.draws["ece"], axis=0), len(draws) - draws.undefined("ece"))
    spans["ece"] = np.clip(spans["ece"] - (mean - values["ece"])[:, None], 0, 1)
    return spans


def _comparable(rows: list[Row], mine: list[Group]) -> tuple[float, dict[str, float]]:
    """Macro AUROC of all images and of each group, over the labels defined in every one of them."""
    tables = [rows[:-2], *(g.rows[:-2] for g in mine)]
    values = np.array([[row["auroc"] for row in table] for table in tables])
    common = ~np.isnan(values).any(axis=0)
    if not common.any():
        return float("nan"), {}
    macros = values[:, common].mean(axis=1)
    return float(macros[0]), {g.name: float(x) for g, x in zip(mine, macros[1:], strict=True)}
