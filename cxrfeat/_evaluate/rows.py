"""The rows of an evaluation: one per label, then macro and micro."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from cxrfeat._evaluate import delong
from cxrfeat._evaluate.arrays import Array
from cxrfeat._evaluate.bootstrap import Replicates, bootstrap, point, widened
from cxrfeat._evaluate.metrics import AUROC, METRICS, Metric
from cxrfeat._evaluate.scored import FEW, Scored
from cxrfeat._progress import Progress, silent
from cxrfeat._report.tables import Row


def resampled(
    scored: Scored, replicates: int, seed: int, progress: Progress = silent, metrics: Iterable[Metric] | None = None
) -> Replicates:
    """Bootstrap replicates of predictions; by default of every metric that has intervals."""
    metrics = [m for m in METRICS if m.interval] if metrics is None else metrics
    return bootstrap(
        scored.truth, scored.p, scored.patients, scored.thresholds, replicates, seed, metrics, progress=progress
    )


@dataclass(frozen=True)
class Group:
    """One group of images: its column and name, how many there are, and rows as `Evaluation.rows`.

    `few` are the labels with too few positive or negative patients for a conclusion.
    """

    column: str
    name: str
    images: int
    rows: list[Row]
    few: tuple[str, ...] = ()


def rows_of(scored: Scored, draws: Replicates | None = None) -> list[Row]:
    """One row per label, then macro and micro, as `Evaluation.rows` has them."""
    labels = len(scored.labels)
    values = point(scored.truth, scored.p, scored.thresholds)
    spans = {m.name: draws.interval(m, levels(scored, m)) for m in METRICS} if draws else {}
    pooled = scored.any_of(1), scored.any_of(0)
    known = (scored.positives + scored.negatives).tolist()
    rows: list[Row] = []
    for j, name in enumerate([*scored.labels, "macro", "micro"]):
        one = j < labels
        positive, negative = (scored.truth[:, j] == 1, scored.truth[:, j] == 0) if one else pooled
        pairs, count = (known[j], int(scored.positives[j])) if one else (sum(known), int(scored.positives.sum()))
        row: Row = {
            "label": name,
            "n": len(scored) if name == "macro" else pairs,
            "positives": count,
            "patients": scored.patients_of(positive | negative),
            "positive_patients": scored.patients_of(positive),
            "negative_patients": scored.patients_of(negative),
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
            y, p = scored.label(j)
            row["auroc_interval"] = list(delong.over_patients(y, p, scored.patients)[1:])
            row["auroc_delong"] = list(delong.interval(y, p)[1:])
        elif draws:
            row["auroc_interval"] = row["auroc_bootstrap"]
        if draws:
            row["bootstrap_undefined"] = int(draws.undefined(AUROC)[j])
        rows.append(row)
    over = [row for row in rows[:labels] if not np.isnan(row["auroc"])]
    rows[-2]["over"] = [row["label"] for row in over]
    for metric in METRICS:
        if metric.chance is not None:
            chances = [row[f"{metric.name}_chance"] for row in over]
            rows[-2][f"{metric.name}_chance"] = float(np.mean(chances)) if chances else np.nan
    return rows


def levels(scored: Scored, metric: Metric) -> Array:
    """Share of draws that this metric's intervals hold, (labels + 2,); NaN where an interval would promise too much.

    With fewer than `FEW` positive or negative patients only AUROC has an interval, by other means than draws. A macro
    average of another metric has one only where all its labels have: with few positives an average precision is above
    what more images would give. `Metric.interval` says which metrics have none at all.
    """
    if not metric.interval:
        return np.full(len(scored.labels) + 2, np.nan)
    fewest, pooled = scored.fewest_patients, scored.fewest_of_any
    found = widened(np.where(scored.defined, fewest, 0))
    found[:-1][scored.few] = np.nan
    if metric is not AUROC and (scored.few & scored.defined).any():
        found[-1] = np.nan
    return np.append(found, widened(np.array([pooled]))[0] if pooled >= FEW else np.nan)
