"""Choosing a head's settings by cross-validation on train: whole patients in a fold, labels in proportion."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxrfeat._evaluate.metrics import auroc
from cxrfeat._heads import kinds
from cxrfeat._heads.logistic_fit import fit_path
from cxrfeat._heads.task import Task
from cxrfeat._progress import Progress, silent
from cxrfeat._split import stratified
from cxrfeat.errors import HeadError

FOLDS = 5

GRIDS: dict[str, dict[str, Sequence[Any]]] = {
    "logistic": {"C": tuple(float(f"{C:.2g}") for C in np.logspace(-5, 1, 13))},
    "keras": {"learning_rate": (1e-4, 1e-3, 1e-2)},
    "svm": {"C": (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)},
    "lda": {"shrinkage": ("auto", 0.1, 0.5, 0.9)},
    "mlp": {"alpha": (1e-4, 1e-2, 1.0)},
    "random-forest": {"min_samples_leaf": (1, 3, 10)},
    "hist-gradient-boosting": {"max_leaf_nodes": (4, 15, 31)},
    "knn": {"n_neighbors": (5, 15, 45)},
}


def search(
    kind: str,
    task: Task,
    settings: Mapping[str, Any],
    grid: Mapping[str, Sequence[Any]] | None = None,
    folds: int = FOLDS,
    progress: Progress = silent,
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Choose settings by the macro AUROC on held-out patients.

    Parameters
    ----------
    kind : str
        Kind of head.
    task : Task
        Training rows. Augmented passes of a patient stand on the side of their patient; only pass 0 is scored.
    settings : mapping
        Settings that are not searched.
    grid : mapping, optional
        Values to try of each setting; every combination. By default that of `GRIDS`.
    folds : int
        Number of folds; fewer if there are fewer patients.
    progress : Progress
        Told of fits.

    Returns
    -------
    settings : dict
        The best, joined with those given; the first of equals.
    table : pandas.DataFrame
        One row a combination: the settings, mean and standard deviation over folds of the macro AUROC, and the
        labels it runs over on average.

    Raises
    ------
    HeadError
        If there is nothing to search, or too few patients.
    """
    grid = grid or GRIDS.get(kind)
    if not grid:
        raise HeadError(f"nothing is known to search for head {kind!r}; give values, such as --grid C=0.1,1,10.")
    tried = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    scores, defined = np.full((len(tried), folds), np.nan), np.zeros((len(tried), folds))
    side = _folds(task, folds)
    for fold in range(folds):
        part = task.part((side != fold).nonzero()[0])
        held = (side[: task.images] == fold).nonzero()[0]
        x, y = task.rows.take(held), task.y[held]
        for number, logits in enumerate(_logits(kind, part, x, settings, tried)):
            areas = np.array([auroc(y[:, k], logits[:, k]) for k in range(y.shape[1])])
            known = ~np.isnan(areas)
            scores[number, fold] = areas[known].mean() if known.any() else np.nan
            defined[number, fold] = known.sum()
            progress(fold * len(tried) + number + 1, folds * len(tried), f"fold {fold + 1}")
    table = pd.DataFrame(tried)
    table["macro_auroc"], table["sd"] = np.nanmean(scores, axis=1), np.nanstd(scores, axis=1)
    table["labels"] = defined.mean(axis=1)
    return {**settings, **tried[int(np.nanargmax(table["macro_auroc"].to_numpy()))]}, table


def _folds(task: Task, folds: int) -> npt.NDArray[np.int64]:
    """Fold of every row; the passes of an image follow it."""
    groups = task.groups[: task.images]
    if len(np.unique(groups)) < folds:
        raise HeadError(f"{len(np.unique(groups))} patients in train are too few for {folds} folds.")
    shares = {str(fold): 1.0 for fold in range(folds)}
    side = stratified(task.y[: task.images], groups, shares, task.seed).astype(np.int64)
    return np.tile(side, len(task.y) // task.images)


def out_of_fold(kind: str, task: Task, settings: Mapping[str, Any], folds: int = FOLDS) -> npt.NDArray[np.float64]:
    """Logits of pass 0 of every training image by a head that never saw its patient, float64 (images, labels)."""
    side = _folds(task, folds)
    out = np.full((task.images, len(task.labels)), np.nan)
    for fold in range(folds):
        held = (side[: task.images] == fold).nonzero()[0]
        part = task.part((side != fold).nonzero()[0])
        out[held] = next(iter(_logits(kind, part, task.rows.take(held), settings, [{}])))
    return out


def _logits(
    kind: str, task: Task, x: npt.NDArray[Any], settings: Mapping[str, Any], tried: Sequence[Mapping[str, Any]]
) -> Iterator[npt.NDArray[np.float64]]:
    """Logits for `x` by heads of every combination, fitted on the task; a logistic path is warm-started."""
    if kind == "logistic" and len(tried) > 1 and all(set(t) == {"C"} for t in tried):
        strengths = [float(t["C"]) for t in tried]
        order = np.argsort(strengths)
        heads = fit_path(task, settings, [strengths[k] for k in order])
        found = dict(zip(order.tolist(), (head.logits(x) for head in heads), strict=True))
        yield from (found[k] for k in range(len(tried)))
        return
    for values in tried:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a fit that did not converge scores as it scores; the last one will tell
            fitted = kinds.fit(kind, task, {**settings, **values})
        fitted.head.fitted = task.weighting.fittable
        yield fitted.head.logits(x)
