"""The logistic head: the solver's answer as a linear head, without importing scikit-learn."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cxrfeat._heads.linear import LinearHead
from cxrfeat._heads.settings import read as read_settings
from cxrfeat._heads.solver import Solution, path, solve
from cxrfeat._heads.task import Fitted, Task
from cxrfeat._progress import Progress, silent

SEARCH_TOL = 1e-5


@dataclass(frozen=True)
class Settings:
    """How to fit.

    Attributes
    ----------
    C : float
        Inverse L2 strength on standardised features, as in scikit-learn: the loss is summed over rows.
    tol : float
        Relative tolerance on the objective.
    steps : int
        At most so many steps of the optimiser.
    """

    C: float = 1.0
    tol: float = 1e-7
    steps: int = 200


def fit_path(task: Task, settings: Mapping[str, Any], strengths: Sequence[float]) -> Iterator[LinearHead]:
    """Fit at several C, rising, each warm-started; for model choice, where a coarse tolerance does."""
    chosen = read_settings(Settings, {k: v for k, v in settings.items() if k != "C"}, "logistic")
    there = task.weighting.fittable
    Cs = np.repeat(np.asarray(strengths, dtype=float)[:, None], int(there.sum()), axis=1)
    truth, weight = np.nan_to_num(task.y[:, there]), task.weights[:, there]
    for solution in path(task.rows, truth, weight, Cs, tol=max(chosen.tol, SEARCH_TOL), steps=chosen.steps):
        yield _head(task, solution, "logistic")


def _head(task: Task, solution: Solution, kind: str) -> LinearHead:
    there = task.weighting.fittable
    coef, intercept = np.full((len(there), task.rows.shape[1]), np.nan), np.full(len(there), np.nan)
    coef[there], intercept[there] = solution.coef, solution.intercept
    head = LinearHead(task.labels, coef, intercept, kind)
    head.fitted = there
    return head


def fit(task: Task, settings: Mapping[str, Any], kind: str = "logistic", progress: Progress = silent) -> Fitted:
    """Fit all labels together; a label with one class in training is left out."""
    chosen = read_settings(Settings, settings, kind)
    there = task.weighting.fittable
    C = np.full(int(there.sum()), float(chosen.C))
    solution = solve(
        task.rows,
        np.nan_to_num(task.y[:, there]),
        task.weights[:, there],
        C,
        tol=chosen.tol,
        steps=chosen.steps,
        progress=progress,
    )
    names = [label for label, known in zip(task.labels, there, strict=True) if known]
    tell_if_unconverged(solution, names, chosen.tol)
    gap = dict(zip(names, solution.gap.tolist(), strict=True))
    notes = {"C": chosen.C, "tol": chosen.tol, "sweeps": solution.sweeps, "relative_gap": gap}
    return Fitted(_head(task, solution, kind), bool(solution.converged.all()), None, notes)


def tell_if_unconverged(solution: Solution, labels: list[str], tol: float) -> None:
    """Warn of the labels whose optimum was not reached."""
    if solution.converged.all():
        return
    late = [f"{labels[k]} ({solution.gap[k]:.1e})" for k in (~solution.converged).nonzero()[0]]
    warnings.warn(
        f"the logistic head did not reach a relative tolerance of {tol:g} for {', '.join(late)}; "
        "raise steps, or lower C.",
        ConvergenceWarning,
        stacklevel=3,
    )


class ConvergenceWarning(UserWarning):
    """The optimiser stopped before it reached its tolerance."""
