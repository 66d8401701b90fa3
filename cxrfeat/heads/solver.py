"""Weighted multi-label logistic regression to its optimum: all labels over the same rows, each with its own weights.

For label k, with standardised features x and the free intercept b,

    minimise over w, b   C_k sum_i s_ik log(1 + exp(-(2 y_ik - 1) (x_i w + b))) + |w|^2 / 2

which is scikit-learn's objective. s_ik is 0 where the label is unknown.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cxrfeat.heads import dense
from cxrfeat.heads.rows import Rows
from cxrfeat.heads.scaling import moments

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Solution:
    """Coefficients of every label, and how close to the optimum they are.

    Attributes
    ----------
    coef, intercept : numpy.ndarray
        On raw features: float64 (labels, features) and (labels,).
    mean, scale : numpy.ndarray
        What features are standardised by, (features,).
    objective : numpy.ndarray
        (labels,).
    gap : numpy.ndarray
        Estimated distance of the objective to its optimum, relative to it, (labels,).
    converged : numpy.ndarray
        Whether the gap is within the tolerance asked for, bool (labels,).
    sweeps : int
        Times the rows were gone through.
    """

    coef: Floats
    intercept: Floats
    mean: Floats
    scale: Floats
    objective: Floats
    gap: Floats
    converged: npt.NDArray[np.bool_]
    sweeps: int


def solve(
    rows: Rows,
    y: Floats,
    weight: Floats,
    C: Floats,
    *,
    row_weight: Floats | None = None,
    intercept: bool = True,
    tol: float = 1e-7,
    steps: int = 100,
    start: Solution | None = None,
) -> Solution:
    """Fit every label.

    Parameters
    ----------
    rows : Rows
        Features, (n, d).
    y : numpy.ndarray
        1 or 0, (n, labels); what stands where the weight is 0 does not matter.
    weight : numpy.ndarray
        Weight of every row in every label's loss, (n, labels).
    C : numpy.ndarray
        Inverse L2 strength of every label, (labels,).
    row_weight : numpy.ndarray, optional
        Weight of every row in the mean and scale, (n,).
    intercept : bool
        Whether there is one.
    tol : float
        Relative tolerance on the objective.
    steps : int
        At most so many Newton steps a label.
    start : Solution, optional
        Where to begin, of the same rows.
    """
    mean, scale = moments(rows, row_weight) if start is None else (start.mean, start.scale)
    x = np.concatenate([block for _, block in rows.blocks()]).astype(np.float64)
    span = dense.Span.of((x - mean) / scale)
    labels = y.shape[1]
    coef, free = np.zeros((labels, rows.shape[1])), np.zeros(labels)
    objective, gap, converged = np.zeros(labels), np.zeros(labels), np.zeros(labels, dtype=bool)
    for k in range(labels):
        begin = np.zeros(span.design.shape[1])
        w, objective[k], gap[k], converged[k] = dense.newton(
            span.design, y[:, k], C[k] * weight[:, k], 1.0, begin, intercept, tol, steps
        )
        w = span.up(w)
        coef[k] = w[:-1] / scale
        free[k] = w[-1] - coef[k] @ mean
    return Solution(coef, free, mean, scale, objective, gap / np.maximum(objective, 1e-300), converged, 1)
