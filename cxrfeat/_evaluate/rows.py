"""The rows of an evaluation: one per label, then macro and micro."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cxrfeat._evaluate import delong
from cxrfeat._evaluate.bootstrap import Replicates, point
from cxrfeat._evaluate.metrics import AUROC, METRICS
from cxrfeat._evaluate.scored import Scored

Row = dict[str, Any]


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
    spans = {m.name: draws.interval(m, values[m.name]) for m in METRICS} if draws is not None else {}
    plain = delong.intervals(scored.y, scored.p)
    clustered = delong.intervals(scored.y, scored.p, scored.patients)
    known, positive = ~np.isnan(scored.y), scored.y == 1
    # Of each label, then what the macro and micro rows say: all images, and all pairs of image and label.
    counts = [*known.sum(axis=0).tolist(), len(scored), int(known.sum())]
    positives = [*positive.sum(axis=0).tolist(), int(positive.sum()), int(positive.sum())]
    total = [*counts[:labels], int(known.sum()), int(known.sum())]
    rows: list[Row] = []
    for j, name in enumerate([*scored.labels, "macro", "micro"]):
        here = known[:, j] if j < labels else known.any(axis=1)
        yes, no = (scored.y[:, [j] if j < labels else slice(None)] == value for value in (1, 0))
        row: Row = {
            "label": name,
            "n": counts[j],
            "positives": positives[j],
            "patients": len(np.unique(scored.patients[here])),
            "positive_patients": len(np.unique(scored.patients[yes.any(axis=1)])),
            "negative_patients": len(np.unique(scored.patients[no.any(axis=1)])),
            "prevalence": positives[j] / max(total[j], 1),
            "threshold": float(scored.thresholds[j]) if j < labels else np.nan,
        }
        for metric in METRICS:
            row[metric.name] = float(values[metric.name][j])
            if spans:
                row[f"{metric.name}_bootstrap"] = spans[metric.name][j].tolist()
            if metric.chance is not None:
                row[f"{metric.name}_chance"] = metric.chance(total[j], positives[j])
        if j < labels:
            row["auroc_delong"], row["auroc_delong_patients"] = list(plain[j][1:]), list(clustered[j][1:])
        if draws is not None:
            row["bootstrap_undefined"] = int(draws.undefined(AUROC)[j])
        rows.append(row)
    over = [row for row in rows[:labels] if not np.isnan(row["auroc"])]
    rows[-2]["over"] = [row["label"] for row in over]
    for metric in METRICS:
        if metric.chance is not None:
            chances = [row[f"{metric.name}_chance"] for row in over]
            rows[-2][f"{metric.name}_chance"] = float(np.mean(chances)) if chances else np.nan
    return rows


def comparable(rows: list[Row], mine: list[Group]) -> tuple[float, dict[str, float]]:
    """Macro AUROC of all images and of each group, over the labels defined in every one of them."""
    tables = [rows[:-2], *(g.rows[:-2] for g in mine)]
    values = np.array([[row["auroc"] for row in table] for table in tables])
    common = ~np.isnan(values).any(axis=0)
    if not common.any():
        return float("nan"), {}
    macros = values[:, common].mean(axis=1)
    return float(macros[0]), {g.name: float(x) for g, x in zip(mine, macros[1:], strict=True)}
