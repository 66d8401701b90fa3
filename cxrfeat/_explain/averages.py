"""The scores of many boxes in a few numbers: means per label, with intervals over patients."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxrfeat._explain.baselines import KINDS
from cxrfeat._explain.detection import NAMES, Floats

REPLICATES = 2000


def summarise(rows: pd.DataFrame, labels: Iterable[str], seed: int = 0) -> list[dict[str, Any]]:
    """Means over boxes with percentile intervals of a bootstrap over patients, per label and over all boxes."""
    groups: list[tuple[str, pd.DataFrame]] = [(label, rows[rows["label"] == label]) for label in labels]
    groups = [(label, part) for label, part in groups if len(part)] + [("all boxes", rows)]
    out = []
    for label, part in groups:
        for kind in KINDS:
            mine = part[part["kind"] == kind]
            if mine.empty:
                continue
            values = mine[list(NAMES)].to_numpy(dtype=float)
            mean, low, high = intervals(values, mine["patient_id"].to_numpy(), seed)
            row: dict[str, Any] = {"label": label, "kind": kind, "boxes": len(mine)}
            row |= {"images": int(mine["image_id"].nunique()), "patients": int(mine["patient_id"].nunique())}
            for name, *three in zip(NAMES, mean, low, high, strict=True):
                row[name] = {"value": three[0], "low": three[1], "high": three[2]}
            out.append(row)
    return out


def intervals(values: Floats, patients: npt.NDArray[Any], seed: int = 0) -> tuple[Floats, Floats, Floats]:
    """Column means of values (boxes, columns) without NaN, and 95 % intervals resampling whole patients.

    With fewer than 2 patients there is nothing to resample, and the interval is NaN.
    """
    _, owner = np.unique(patients, return_inverse=True)
    known = np.isfinite(values)
    sums, counts = np.zeros((owner.max() + 1, values.shape[1])), np.zeros((owner.max() + 1, values.shape[1]))
    np.add.at(sums, owner, np.where(known, values, 0.0))
    np.add.at(counts, owner, known)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = sums.sum(axis=0) / counts.sum(axis=0)
        if len(sums) < 2:
            return mean, np.full_like(mean, np.nan), np.full_like(mean, np.nan)
        n = len(sums)
        draws = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=REPLICATES)
        replicates = (draws @ sums) / (draws @ counts)
    low, high = np.full_like(mean, np.nan), np.full_like(mean, np.nan)
    some = np.isfinite(replicates).any(axis=0)
    low[some], high[some] = np.nanpercentile(replicates[:, some], [2.5, 97.5], axis=0)
    return mean, low, high
