"""Groups of images to look at apart: by view, sex, age band, images per patient, or any column of the study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxrfeat._evaluate.metrics import AUROC
from cxrfeat._evaluate.scored import Scored
from cxrfeat._study import Study
from cxrfeat.errors import EvaluationError

DEFAULT = ("view",)
"""Reported without being asked for, where the column is there: AP films are of sicker patients, and a model can live
off the difference."""

IMAGES = "images_per_patient"
MOST = 12
"""Groups of a column at most; more are no groups."""

AGES = (0, 18, 40, 60, 80, 200)
COUNTS = (1, 2, 5, 10, 10**9)


def group(scored: Scored | Study, column: str) -> dict[str, npt.NDArray[np.bool_]]:
    """Masks (n,) of the groups of one column, by name; empty values are the group `unknown`."""
    names = _values(scored, column)
    found = list(dict.fromkeys(sorted(names, key=lambda name: (name == "unknown", _order(name)))))
    if len(found) > MOST:
        raise EvaluationError(
            f"column {column!r} has {len(found)} different values, which are no groups; at most {MOST} can be compared."
        )
    return {name: names == name for name in found}


def default(scored: Scored | Study) -> tuple[str, ...]:
    """The columns reported without being asked for: those of `DEFAULT` with at least two groups."""
    return tuple(c for c in DEFAULT if c in scored.table and len(group(scored, c)) > 1)


def auroc_alone(
    y: npt.NDArray[np.float64],
    masks: Mapping[str, npt.NDArray[np.bool_]],
    training_y: npt.NDArray[np.float64] | None = None,
    training_masks: Mapping[str, npt.NDArray[np.bool_]] | None = None,
) -> npt.NDArray[np.float64]:
    """AUROC (labels,) of knowing the group and nothing else: each image's score is its group's prevalence.

    Prevalences are those of training where it is given; those of the images themselves would flatter small groups.
    """
    if training_y is None or training_masks is None:
        training_y, training_masks = y, masks
    found = np.full(y.shape[1], np.nan)
    for j in range(y.shape[1]):
        score = np.full(len(y), _prevalence(training_y[:, j]))
        for name, mask in masks.items():
            inside = training_masks.get(name)
            share = _prevalence(training_y[inside, j]) if inside is not None else np.nan
            if not np.isnan(share):
                score[mask] = share
        found[j] = AUROC(y[:, j], score)
    return found


def _prevalence(y: npt.NDArray[np.float64]) -> float:
    known = y[~np.isnan(y)]
    return float(known.mean()) if len(known) else float("nan")


def _values(scored: Scored | Study, column: str) -> npt.NDArray[np.str_]:
    if column == IMAGES:
        _, of, count = np.unique(scored.patients, return_inverse=True, return_counts=True)
        return _bands(count[of].astype(float), COUNTS)
    if column not in scored.table or column in scored.labels:
        usable = [str(c) for c in scored.table if c not in (*scored.labels, "image_id", "path", "patient_id", "split")]
        raise EvaluationError(
            f"the study has no column {column!r} to group by; there are {', '.join([*usable, IMAGES])}."
        )
    values = scored.table[column]
    if column == "age":
        return _bands(pd.to_numeric(values, errors="coerce").to_numpy(dtype=float), AGES)
    text = values.astype("string").fillna("").str.strip()
    return text.where(text != "", "unknown").to_numpy(dtype=str)


def _bands(values: npt.NDArray[np.float64], edges: Sequence[int]) -> npt.NDArray[np.str_]:
    """Names of whole-number bands [edge, next edge)."""
    names = [_band(a, b) for a, b in pairwise(edges)]
    at = np.digitize(values, edges) - 1
    inside = (at >= 0) & (at < len(names)) & ~np.isnan(values)
    return np.where(inside, np.array(names)[np.clip(at, 0, len(names) - 1)], "unknown")


def _band(a: int, b: int) -> str:
    if b - a == 1:
        return str(a)
    return f"{a}+" if b >= 200 else f"{a}-{b - 1}"


def _order(name: str) -> tuple[float, str]:
    head = name.replace("+", "-").split("-")[0]
    return (float(head) if head.isdigit() else 0.0, name)
