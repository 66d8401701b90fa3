"""The rows of an evaluation: one per label, then macro and micro."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cxrfeat._evaluate import delong
from cxrfeat._evaluate.bootstrap import Replicates, bootstrap, point, widened
from cxrfeat._evaluate.metrics import AUROC, METRICS, Metric
from cxrfeat._evaluate.scored import FEW, Scored
from cxrfeat._progress import Progress, silent

Row = dict[str, Any]
Array = npt.NDArray[np.float64]


def resampled(
    scored: Scored, replicates: int, seed: int, progress: Progress = silent, metrics: Iterable[Metric] | None = None
) -> Replicates:
    """Bootstrap replicates of predictions."""
    return bootstrap(
        scored.y, scored.p, scored.patients, scored.thresholds, replicates, seed, metrics, progress=progress
    )


@dataclass(frozen=True)
class Group:
    """One group of images: its column and name, its images, and rows as `Evaluation.rows`."""

    column: str
    name: str
    scored: Scored
    rows: list[Row]


def rows_of(scored: Scored, draws: Replicates | None = None) -> list[Row]:
    """One row per label, then macro and micro, as `Evaluation.rows` has them."""
    labels = len(scored.labels)
    values = point(scored.y, scored.p, scored.thresholds)
    spans = {m.name: draws.interval(m, levels(scored, m)) for m in METRICS} if draws else {}
    patients = np.unique(scored.patients, return_inverse=True)[1]  # numbers are found again faster than names
    known, positive, negative = ~np.isnan(scored.y), scored.y == 1, scored.y == 0
    rows: list[Row] = []
    for j, name in enumerate([*scored.labels, "macro", "micro"]):
        mine = [j] if j < labels else slice(None)
        here, pairs = known[:, mine].any(axis=1), int(known[:, mine].sum())
        count = int(positive[:, mine].sum())
        row: Row = {
            "label": name,
            "n": len(scored) if name == "macro" else pairs,
            "positives": count,
            "patients": len(np.unique(scored.patients[here])),
            "positive_patients": len(np.unique(scored.patients[positive[:, mine].any(axis=1)])),
            "negative_patients": len(np.unique(scored.patients[negative[:, mine].any(axis=1)])),
            "prevalence": count / max(pairs, 1),
            "threshold": float(scored.thresholds[j]) if j < labels else np.nan,
        }
        for metric in METRICS:
            row[metric.name] = float(values[metric.name][j])
            if spans:
                row[f"{metric.name}_bootstrap"] = spans[metric.name][j].tolist()
            if metric.chance is not None:
                row[f"{metric.name}_chance"] = metric.chance(pairs, count)
        if j < labels:
            row["auroc_interval"] = list(delong.over_patients(scored.y[:, j], scored.p[:, j], patients)[1:])
            row["auroc_delong"] = list(delong.interval(scored.y[:, j], scored.p[:, j])[1:])
        elif draws:
            row["auroc_interval"] = row["auroc_bootstrap"]
        if draws:
            row["bootstrap_undefined"] = int(draws.undefined(AUROC)[j])
        rows.append(row)
    over = [row for row in rows[:labels] if not np.isnan(row["auroc"])]
    rows[-2]["over"] = [row["label"] for row in over]
    for metric in METRICS:
        if metric.chance is not None:
            rows[-2][f"{metric.name}_chance"] = _mean([row[f"{metric.name}_chance"] for row in over])
    return rows


def levels(scored: Scored, metric: Metric) -> Array:
    """Share of draws that this metric's intervals hold, (labels + 2,); NaN where an interval would promise too much.

    With fewer than `FEW` positive or negative patients only AUROC has an interval, by other means than draws. A macro
    average of another metric has one only where all its labels have: with few positives an average precision is above
    what more images would give. `Metric.interval` says which metrics have none at all.
    """
    if not metric.interval:
        return np.full(len(scored.labels) + 2, np.nan)
    fewest = scored.fewest_patients
    found = widened(np.where(scored.defined, fewest, 0))
    few = fewest < FEW
    found[:-1][few] = np.nan
    if metric is not AUROC and (few & scored.defined).any():
        found[-1] = np.nan
    pooled = min(len(np.unique(scored.patients[(scored.y == side).any(axis=1)])) for side in (1, 0))
    return np.append(found, widened(np.array([pooled]))[0] if pooled >= FEW else np.nan)


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else np.nan


def comparable(rows: list[Row], mine: list[Group]) -> tuple[float, dict[str, float], int]:
    """Macro AUROC of all images and of each group, over the labels defined in every one of them, and their number."""
    tables = [rows[:-2], *(g.rows[:-2] for g in mine)]
    values = np.array([[row["auroc"] for row in table] for table in tables])
    common = ~np.isnan(values).any(axis=0)
    if not common.any():
        return float("nan"), {}, 0
    macros = values[:, common].mean(axis=1)
    within = {g.name: float(x) for g, x in zip(mine, macros[1:], strict=True)}
    return float(macros[0]), within, int(common.sum())
