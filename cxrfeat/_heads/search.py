"""Choosing a head's settings by cross-validation on train: whole patients in a fold, labels in proportion."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from cxrfeat._heads.base import Floats, Head, Task, logits_of
from cxrfeat._heads.solver.rows import Ints
from cxrfeat._progress import Progress, silent
from cxrfeat._split import stratified
from cxrfeat.errors import HeadError

FOLDS = 5


def search(
    kind: type[Head],
    task: Task,
    settings: Mapping[str, Any],
    grid: Mapping[str, Sequence[Any]] | None = None,
    folds: int = FOLDS,
    progress: Progress = silent,
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Choose settings by the macro AUROC on held-out patients: the best ones joined with those given, and a table.

    All combinations of `grid`, by default the kind's own, are tried. All passes of a patient are in one fold, and only
    pass 0 is scored. The table has one row a combination: the settings, mean and standard deviation of the macro AUROC
    over folds, and the labels it runs over on average.
    """
    grid = grid or kind.grid
    if not grid:
        raise HeadError(f"head {kind.kind!r} declares nothing to search; give values, such as `grid=C=0.1,1,10`.")
    tried = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    scores, defined = np.full((len(tried), folds), np.nan), np.zeros((len(tried), folds))
    side = _folds(task, folds)
    for fold in range(folds):
        part = task.part((side != fold).nonzero()[0])
        held = (side[: task.images] == fold).nonzero()[0]
        rows, y = task.rows.part(held), task.y[held]
        for number, head in enumerate(_heads(kind, part, [{**settings, **values} for values in tried])):
            logits = logits_of(head, rows)
            areas = np.array([_auroc(y[:, k], logits[:, k]) for k in range(y.shape[1])])
            known = ~np.isnan(areas)
            scores[number, fold] = areas[known].mean() if known.any() else np.nan
            defined[number, fold] = known.sum()
            progress(fold * len(tried) + number + 1, folds * len(tried), f"fold {fold + 1}")
    table = pd.DataFrame(tried)
    table["macro_auroc"], table["sd"] = np.nanmean(scores, axis=1), np.nanstd(scores, axis=1)
    table["labels"] = defined.mean(axis=1)
    return {**settings, **tried[int(np.nanargmax(table["macro_auroc"].to_numpy()))]}, table


def _auroc(y: Floats, scores: Floats) -> float:
    from sklearn.metrics import roc_auc_score

    known = ~np.isnan(y)
    both = len(np.unique(y[known])) == 2 and not np.isnan(scores[known]).any()
    return float(roc_auc_score(y[known], scores[known])) if both else np.nan


def _folds(task: Task, folds: int) -> Ints:
    """Fold of every row; the passes of an image follow it."""
    groups = task.groups[: task.images]
    if len(np.unique(groups)) < folds:
        raise HeadError(f"{len(np.unique(groups))} patients in train are too few for {folds} folds.")
    shares = {str(fold): 1.0 for fold in range(folds)}
    side = stratified(task.y[: task.images], groups, shares, task.seed).astype(np.int64)
    return np.tile(side, len(task.y) // task.images)


def out_of_fold(kind: type[Head], task: Task, settings: Mapping[str, Any], folds: int = FOLDS) -> Floats:
    """Logits of pass 0 of every training image by a head fitted without its patient, float64 (images, labels)."""
    side = _folds(task, folds)
    out = np.full((task.images, len(task.labels)), np.nan)
    for fold in range(folds):
        held = (side[: task.images] == fold).nonzero()[0]
        part = task.part((side != fold).nonzero()[0])
        (head,) = _heads(kind, part, [settings])
        out[held] = logits_of(head, task.rows.part(held))
    return out


def _heads(kind: type[Head], task: Task, tried: Sequence[Mapping[str, Any]]) -> Iterator[Head]:
    """A head for each set of settings; a fit that does not converge is scored as it is, without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for head in kind.fit_grid(task, tried):
            head.fitted = task.weighting.fittable
            yield head
