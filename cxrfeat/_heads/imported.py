"""The classifier that came with imported weights, as a run: labels by name, its operating points as its thresholds.

Such a run has no study. The first one that it predicts becomes its own, and can then be evaluated, compared and mapped
as that of any other run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cxrfeat._backbones import library
from cxrfeat._backbones.library import Card
from cxrfeat._heads.base import Fitted, Task
from cxrfeat._heads.decision import Calibration, Step
from cxrfeat._heads.fit import drafted, written
from cxrfeat._heads.linear import LinearHead
from cxrfeat._heads.registry import IMPORTED
from cxrfeat._progress import Progress, silent
from cxrfeat._recipe import Recipe
from cxrfeat._run import FILE, Decision, Run, settle
from cxrfeat.errors import HeadError, OutputError, WeightsError

OPERATING_POINT = "operating-point"


class ImportedHead(LinearHead):
    """The classifier of a checkpoint; it is never fitted."""

    kind = IMPORTED

    @dataclass(frozen=True)
    class Settings:
        """There is nothing to set."""

    @classmethod
    def fit(cls, task: Task, settings: Settings, *, resume: bool = False, progress: Progress = silent) -> Fitted:
        raise HeadError("a head of kind `imported` comes with imported weights and is not fitted; choose another kind.")


def check_run(out: Path, overwrite: bool = False) -> None:
    """Raise an OutputError if a run cannot be written there."""
    settle(out)
    if out.exists() and not ((out / FILE).exists() and overwrite):
        raise OutputError(
            f"{out} exists already; name another folder in `run`, or replace a run with `overwrite=True`."
        )


def save_run(card: Card, recipe: Recipe, out: Path, overwrite: bool = False) -> Run:
    """Write the run of a card's classifier, whole or not at all; labels without a name are left out."""
    if not card.labels:
        raise WeightsError(f"the weights {card.name!r} have no classifier with named outputs.")
    check_run(out, overwrite)
    head, decision = _head(card)
    with drafted(out, overwrite=True, resume=False) as draft:
        head.save(draft)
        written(draft, head, decision, (recipe,), _notes(card)).save()
    return Run.open(out)


def _head(card: Card) -> tuple[ImportedHead, Decision]:
    """The classifier's named outputs; one without an operating point where others have one was not trained."""
    arrays = library.arrays(card, classifier=True)
    places = [i for i, label in enumerate(card.labels) if label]
    labels = tuple(card.labels[i] for i in places)
    points = [card.op_threshs[i] if card.op_threshs else None for i in places]
    coef, intercept = arrays["kernel"].T[places].astype(np.float64), arrays["bias"][places].astype(np.float64)
    if not card.op_threshs:
        return ImportedHead(labels, coef, intercept), Decision(
            reasons=dict.fromkeys(labels, "the checkpoint has no operating points")
        )
    untrained = np.array([point is None for point in points])
    coef[untrained], intercept[untrained] = np.nan, np.nan
    head = ImportedHead(labels, coef, intercept)
    steps = (Step() if point is None else Step(OPERATING_POINT, point=point) for point in points)
    head.calibration = Calibration(OPERATING_POINT, tuple(steps))
    thresholds = {label: None if point is None else 0.5 for label, point in zip(labels, points, strict=True)}
    reasons = {label: "this output was not trained" for label, point in zip(labels, points, strict=True) if not point}
    return head, Decision("operating points", "its authors' data", thresholds, reasons)


def _notes(card: Card) -> Mapping[str, Any]:
    """Where the classifier comes from, as `head.json` keeps it."""
    found = {
        "weights": card.name,
        "layout": card.layout,
        "checkpoint": card.source,
        "checkpoint_sha256": card.source_sha256,
        "trained_on": card.trained_on,
        "licence": card.licence,
        "reference": card.reference,
    }
    points = {k: v for k, v in zip(card.labels, card.op_threshs, strict=False) if k and v is not None}
    return {key: value for key, value in found.items() if value} | ({"op_threshs": points} if points else {})
