"""Weighted multi-label logistic regression to its optimum: all labels over the same rows, each with its own weights.

For label k, with standardised features x and the free intercept b,

    minimise over w, b   C_k sum_i s_ik log(1 + exp(-(2 y_ik - 1) (x_i w + b))) + |w|^2 / 2

which is scikit-learn's objective. s_ik is 0 if the label is unknown.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cxrfeat._heads.solver.dense import Dense
from cxrfeat._heads.solver.labels import Counts, Labels
from cxrfeat._heads.solver.newton import SAMPLED, Course, Found, Objective, minimise
from cxrfeat._heads.solver.rows import Bools, Floats, MatrixRows
from cxrfeat._heads.solver.sums import Frame, LocalSums, Sums
from cxrfeat._progress import Progress, silent


class ConvergenceWarning(UserWarning):
    """The optimiser stopped before it reached its tolerance."""


@dataclass(frozen=True)
class Solution:
    """Coefficients of every label on raw features, and how close to the optimum they are; NaN if it has one class only.

    `coef` is float64 (labels, features), all else (labels,). `gap` is the estimated distance of the `objective` to its
    optimum, relative to it; `sweeps` is the number of passes over the rows.
    """

    coef: Floats
    intercept: Floats
    objective: Floats
    gap: Floats
    converged: Bools
    fittable: Bools
    sweeps: int


# Up to this many bytes of float64, and products for one Hessian, whole Hessians are cheaper than many sweeps.
DENSE_BYTES, DENSE_PRODUCTS = 64 << 20, 200_000_000

# With more than so many times as many rows as a sample has, the search begins at the sample's solution: a sample has so
# many rows a feature, and at most so many numbers. Sweeps are dear then, and Hessians are made from so many rows.
MANY, SAMPLE_ROWS, SAMPLE_NUMBERS = 8, 64, 64 << 20
SAMPLE_TOL, HESSIAN_ROWS = 1e-4, 32


def solve(sums: Sums, C: Floats, **options: Any) -> Solution:
    """Fit every label at one strength, C of shape (labels,); the other parameters are those of `path`."""
    return next(path(sums, C[None], **options))


def path(
    sums: Sums,
    Cs: Floats,
    *,
    intercept: bool = True,
    tol: float = 1e-7,
    steps: int = 200,
    progress: Progress = silent,
) -> Iterator[Solution]:
    """Fit every label at several strengths, each from where the ones before point to.

    Go from small C to large. The next start is extrapolated in log C from the last three solutions; what was learnt of
    a label's curvature is carried over, and renewed only where it fails.

    `Cs` are the inverse L2 strengths, (strengths, labels). Weights of rows count in the mean and scale too. `tol` is
    relative, on the objective; `progress` is called with the number of labels that are done.
    """
    counts = sums.counts()
    there = counts.both
    if not there.all():
        sums.choose(there)
        counts, Cs = counts.of(there), Cs[:, there]
    n, d = sums.shape
    few = n * d * 8 <= DENSE_BYTES and n * min(n, d) ** 2 <= DENSE_PRODUCTS
    drawn = min(SAMPLE_ROWS * d, SAMPLE_NUMBERS // d)
    moments, sample = sums.survey(counts.chance(drawn) if n > MANY * drawn and not few else None)
    mean, scale = moments.standard()
    search: Dense | _Large = (Dense if few else _Large)(sums, mean, scale, intercept)
    done: list[tuple[Floats, Floats]] = []
    for C in Cs:
        start = _extrapolated(done, C) if done else _intercepts(counts, d, intercept)
        if isinstance(search, _Large) and sample is not None:
            start, sample = search.learn(*sample, C, start, steps), None
        w, value, gap, converged = search.run(C, start, tol, steps, progress)
        done = [*done[-2:], (C, w)]
        coef = (w[:-1] / scale[:, None]).T
        found = [_spread(values, there) for values in (coef, w[-1] - coef @ mean, value, gap)]
        ended = np.ones(len(there), dtype=bool)
        ended[there] = converged
        yield Solution(found[0], found[1], found[2], found[3], ended, there, sums.sweeps)


def _spread(values: Floats, there: Bools) -> Floats:
    """Values of the labels that were fitted, among NaN for the others."""
    out = np.full((len(there), *values.shape[1:]), np.nan)
    out[there] = values
    return out


class _Large:
    """All labels together, in sweeps."""

    def __init__(self, sums: Sums, mean: Floats, scale: Floats, intercept: bool) -> None:
        self.sums, self.mean, self.scale, self.intercept = sums, mean, scale, intercept
        self.courses: dict[int, Course] = defaultdict(Course)
        self.last: Floats | None = None
        self.sampled = SAMPLED

    def run(self, C: Floats, start: Floats, tol: float, steps: int, progress: Progress) -> Found:
        if self.last is not None:
            for label, ratio in enumerate(C / self.last):
                self.courses[label].transport(float(ratio))
        self.last = C
        objective = Objective(self.sums, Frame(self.mean, self.scale, C), self.intercept, self.sampled)
        return minimise(objective, self.courses, start, tol, steps, progress)

    def learn(self, x: npt.NDArray[Any], labels: Labels, C: Floats, start: Floats, steps: int) -> Floats:
        """Where to begin: the solution of a sample."""
        self.sampled = HESSIAN_ROWS
        with closing(LocalSums(MatrixRows(x), labels)) as sample:
            inner = _Large(sample, self.mean, self.scale, self.intercept)
            return inner.run(C, start, SAMPLE_TOL, steps, silent)[0]


def _intercepts(counts: Counts, features: int, intercept: bool) -> Floats:
    """Start at the best constant: the log odds of the weighted classes."""
    positive, negative = np.log(np.maximum(counts.weight, 1e-12))
    w = np.zeros((features + 1, len(positive)))
    if intercept:
        w[-1] = positive - negative
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
