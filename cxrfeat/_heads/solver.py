"""Weighted multi-label logistic regression to its optimum: all labels over the same rows, each with its own weights.

For label k, with standardised features x and the free intercept b,

    minimise over w, b   C_k sum_i s_ik log(1 + exp(-(2 y_ik - 1) (x_i w + b))) + |w|^2 / 2

which is scikit-learn's objective. s_ik is 0 where the label is unknown.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from cxrfeat._heads import dense
from cxrfeat._heads.curvature import Factors
from cxrfeat._heads.newton import Course, minimise
from cxrfeat._heads.rows import Rows
from cxrfeat._heads.scaling import moments
from cxrfeat._heads.sweeps import Sweeper
from cxrfeat._progress import Progress, silent

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


# Up to this many bytes of float64, and products for one Hessian, whole Hessians are cheaper than many sweeps.
DENSE_BYTES, DENSE_PRODUCTS = 64 << 20, 200_000_000


def solve(
    rows: Rows,
    y: Floats,
    weight: Floats,
    C: Floats,
    *,
    row_weight: Floats | None = None,
    intercept: bool = True,
    tol: float = 1e-7,
    steps: int = 200,
    progress: Progress = silent,
) -> Solution:
    """Fit every label at one strength.

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
        At most so many iterations.
    progress : Progress
        Told of labels that are done.
    """
    return next(iter(path(rows, y, weight, C[None], row_weight=row_weight, intercept=intercept, tol=tol, steps=steps,
                          progress=progress)))  # fmt: skip


def path(
    rows: Rows,
    y: Floats,
    weight: Floats,
    Cs: Floats,
    *,
    row_weight: Floats | None = None,
    intercept: bool = True,
    tol: float = 1e-7,
    steps: int = 200,
    progress: Progress = silent,
) -> Iterator[Solution]:
    """Fit every label at several strengths, (strengths, labels), each from where the ones before point to.

    Parameters are those of `solve`. Go from small C to large. The next start is extrapolated in log C from the last
    three solutions; what was learnt of a label's curvature is carried over, and renewed only where it fails.
    """
    mean, scale = moments(rows, row_weight)
    n, d = rows.shape
    if n * d * 8 <= DENSE_BYTES and n * min(n, d) ** 2 <= DENSE_PRODUCTS:
        x = np.concatenate([block for _, block in rows.blocks()]).astype(np.float64)
        search: _Search = _Dense((x - mean) / scale, y, weight, intercept)
    else:
        search = _Large(rows, y, weight, mean, scale, intercept)
    done: list[tuple[Floats, Floats]] = []
    for C in Cs:
        start = _extrapolated(done, C) if done else _intercepts(y, weight, d, intercept)
        w, value, gap, converged = search.run(C, start, tol, steps, progress)
        done = [*done[-2:], (C, w)]
        coef = (w[:-1] / scale[:, None]).T
        free = w[-1] - coef @ mean
        yield Solution(coef, free, mean, scale, value, gap, converged, search.sweeps)


class _Search(Protocol):
    @property
    def sweeps(self) -> int: ...

    def run(
        self, C: Floats, start: Floats, tol: float, steps: int, progress: Progress
    ) -> tuple[Floats, Floats, Floats, npt.NDArray[np.bool_]]: ...


class _Dense:
    """Label by label, with whole Hessians."""

    def __init__(self, x: Floats, y: Floats, weight: Floats, intercept: bool) -> None:
        with _one_thread():
            self.span = dense.Span.of(x)
        self.y, self.weight, self.intercept = y, weight, intercept

    @property
    def sweeps(self) -> int:
        return 1

    def run(
        self, C: Floats, start: Floats, tol: float, steps: int, progress: Progress
    ) -> tuple[Floats, Floats, Floats, npt.NDArray[np.bool_]]:
        w, count = start.copy(), len(C)
        value, gap, converged = np.zeros(count), np.zeros(count), np.zeros(count, dtype=bool)
        with _one_thread():
            for k in range(count):
                begin = self.span.down(start[:, k])
                found, value[k], gap[k], converged[k] = dense.newton(
                    self.span.design, self.y[:, k], C[k] * self.weight[:, k], begin, self.intercept, tol, steps
                )
                w[:, k] = self.span.up(found)
                progress(k + 1, count)
        return w, value, gap, converged


class _Large:
    """All labels together, in sweeps."""

    def __init__(self, rows: Rows, y: Floats, weight: Floats, mean: Floats, scale: Floats, intercept: bool) -> None:
        self.sweeper = Sweeper(rows, y, weight, mean, scale, intercept)
        self.factors = Factors(rows, weight, mean, scale, intercept)
        self.weight, self.courses = weight, [Course() for _ in range(y.shape[1])]
        self.last: Floats | None = None

    @property
    def sweeps(self) -> int:
        return self.sweeper.sweeps

    def run(
        self, C: Floats, start: Floats, tol: float, steps: int, progress: Progress
    ) -> tuple[Floats, Floats, Floats, npt.NDArray[np.bool_]]:
        weight = self.weight * C
        self.sweeper.weight = weight.astype(self.sweeper.rows.dtype)
        self.factors.weight = weight
        if self.last is not None:
            ratio = C / self.last
            self.factors.transport(ratio)
            for course, change in zip(self.courses, ratio, strict=True):
                course.transport(float(change))
        self.last = C
        return minimise(self.sweeper, self.factors, self.courses, start, tol, steps, progress)


def _one_thread() -> threadpool_limits:
    """Systems this small lose more to threads that wait for each other, on a busy machine above all, than they gain."""
    return threadpool_limits(1, "blas")


def _intercepts(y: Floats, weight: Floats, features: int, intercept: bool) -> Floats:
    """Start at the best constant: the log odds of the weighted classes."""
    w = np.zeros((features + 1, y.shape[1]))
    if intercept:
        positive = np.where(y > 0, weight, 0).sum(axis=0)
        w[-1] = np.log(np.maximum(positive, 1e-12)) - np.log(np.maximum(weight.sum(axis=0) - positive, 1e-12))
    return w


def _extrapolated(done: list[tuple[Floats, Floats]], C: Floats) -> Floats:
    """Continue the curve in log C through the last solutions, at most three: Lagrange's polynomial, label by label."""
    places = np.log(np.stack([strength for strength, _ in done]))
    at = np.log(C)
    start = np.zeros_like(done[0][1])
    for i, (_, w) in enumerate(done):
        share = np.ones(len(C))
        for j in range(len(done)):
            if j != i:
                apart = places[i] - places[j]
                share *= np.where(apart == 0, np.nan, (at - places[j]) / np.where(apart == 0, 1, apart))
        start += share * w
    # Strengths that repeat, or leap, give no curve to follow: begin at the last solution.
    last = done[-1][1]
    leap = ~np.isfinite(start).all(axis=0)
    if len(done) > 1:
        leap |= np.abs(at - places[-1]) > 2 * np.abs(places[-1] - places[-2])
    return np.where(leap, last, start)
