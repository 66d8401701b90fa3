"""Groups of images to look at apart: by view, sex, age band, images per patient, or any column of the study."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxrfeat._evaluate.metrics import AUROC
from cxrfeat._evaluate.scored import Scored
from cxrfeat._study import Study
from cxrfeat.errors import EvaluationError

Array = npt.NDArray[np.float64]

DEFAULT = ("view",)
"""Reported without being asked for, where the column is there: AP films are of sicker patients, and a model can live
off the difference."""

IMAGES = "images_per_patient"
MOST = 12
"""Groups of a column at most; more are no groups."""

AGES = {0: "0-17", 18: "18-39", 40: "40-59", 60: "60-79", 80: "80+", 200: ""}
COUNTS = {1: "1", 2: "2-4", 5: "5-9", 10: "10+", 10**9: ""}
"""First whole number of each band, and its name; the last band has none."""


def group(scored: Scored | Study, column: str) -> dict[str, npt.NDArray[np.bool_]]:
    """Masks (n,) of the groups of one column, by name; empty values are the group `unknown`."""
    names = names_of(scored, column)
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
    y: Array, names: npt.NDArray[np.str_], training_y: Array | None = None, training_names: npt.ArrayLike | None = None
) -> list[float]:
    """AUROC of each label of knowing the group and nothing else: each image's score is its group's prevalence.

    Prevalences are those of training where it is given; those of the images themselves would flatter small groups.
    """
    known = pd.DataFrame(y if training_y is None else training_y)
    shares = known.groupby(np.asarray(names if training_names is None else training_names)).mean()
    scores = shares.reindex(names).fillna(known.mean())
    return [AUROC(y[:, j], scores[j]) for j in range(y.shape[1])]


def names_of(scored: Scored | Study, column: str) -> npt.NDArray[np.str_]:
    """The group of each image by one column, str (n,); `unknown` where the value is empty."""
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


def _bands(values: npt.NDArray[np.float64], bands: Mapping[int, str]) -> npt.NDArray[np.str_]:
    found = pd.cut(values, list(bands), right=False, labels=list(bands.values())[:-1])
    return np.array(["unknown" if pd.isna(one) else one for one in found], dtype=str)


def _order(name: str) -> tuple[float, str]:
    head = name.replace("+", "-").split("-")[0]
    return (float(head) if head.isdigit() else 0.0, name)
