"""Groups of images to look at apart: by view, sex, age band, images per patient, or any column of the study."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxrfeat._evaluate.arrays import numbered, ratio, unknown
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

AGES = {0: "0-17", 18: "18-39", 40: "40-59", 60: "60-79", 80: "80+", 200: ""}
COUNTS = {1: "1", 2: "2-4", 5: "5-9", 10: "10+", 10**9: ""}
"""First whole number of each band, and its name; the last band has none."""


def group(scored: Scored | Study, column: str) -> dict[str, npt.NDArray[np.bool_]]:
    """Masks (n,) of the groups of one column, by name; empty values are the group `unknown`."""
    names = names_of(scored, column)
    found = sorted(map(str, names.unique()), key=lambda name: (name == "unknown", _order(name)))
    if len(found) > MOST:
        raise EvaluationError(
            f"column {column!r} has {len(found)} different values, which are no groups; at most {MOST} can be compared."
        )
    return {name: (names == name).to_numpy(dtype=bool) for name in found}


def default(scored: Scored | Study) -> tuple[str, ...]:
    """The columns reported without being asked for: those of `DEFAULT` with at least two groups."""
    return tuple(c for c in DEFAULT if c in scored.table and len(group(scored, c)) > 1)


def auroc_alone(
    y: npt.NDArray,
    names: npt.ArrayLike | pd.Series,
    training_y: npt.NDArray | None = None,
    training_names: npt.ArrayLike | pd.Series | None = None,
) -> list[float]:
    """AUROC of each label of knowing the group and nothing else: each image's score is its group's prevalence.

    Prevalences are those of training where it is given; those of the images themselves would flatter small groups.
    """
    here, seen = (pd.Series(each) for each in (names, names if training_names is None else training_names))
    group, known = pd.factorize(seen)
    place = known.get_indexer(pd.Index(here))  # -1: a group that training did not have
    found = []
    for own, truth in zip(y.T, (y if training_y is None else training_y).T, strict=True):
        sums = [np.bincount(group[chosen], minlength=len(known)) for chosen in (truth == 1, ~unknown(truth))]
        share = np.append(ratio(*sums), np.nan)
        found.append(AUROC(own, np.where(np.isnan(share), ratio(*map(np.sum, sums)), share)[place]))
    return found


def names_of(scored: Scored | Study, column: str) -> pd.Series:
    """The group of each image by one column, texts (n,); `unknown` where the value is empty."""
    if column == IMAGES:
        of, _ = numbered(scored.patients if isinstance(scored, Scored) else scored.table["patient_id"])
        return _bands(np.bincount(of)[of].astype(float), COUNTS)
    if column not in scored.table or column in scored.labels:
        usable = [str(c) for c in scored.table if c not in (*scored.labels, "image_id", "path", "patient_id", "split")]
        raise EvaluationError(
            f"the study has no column {column!r} to group by; there are {', '.join([*usable, IMAGES])}."
        )
    values = scored.table[column]
    if column == "age":
        return _bands(pd.to_numeric(values, errors="coerce").to_numpy(dtype=float), AGES)
    text = values.astype("string").fillna("").str.strip()
    return text.where(text != "", "unknown")


def _bands(values: npt.NDArray[np.float64], bands: Mapping[int, str]) -> pd.Series:
    found = pd.cut(pd.Series(values), list(bands), right=False, labels=list(bands.values())[:-1])
    return found.cat.add_categories("unknown").fillna("unknown")


def _order(name: str) -> tuple[float, str]:
    head = name.replace("+", "-").split("-")[0]
    return (float(head) if head.isdigit() else 0.0, name)
