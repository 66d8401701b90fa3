"""Quasi-Newton search for all labels at once, for problems too large for whole Hessians.

L-BFGS (Nocedal and Wright, Numerical Optimization, 2nd ed., algorithm 7.4) in which the first matrix is a label's
sampled Hessian instead of a multiple of the identity. Every iteration is one sweep over the rows for all labels
together: the products share the reading of the matrix, which is what takes the time. A label whose progress slows has
its sampled Hessian renewed where it stands, and a label that is done leaves the sweep.

The Hessian of one label is X' diag(h) X + I with h = C s p (1 - p); the first part is estimated from the rows that make
up most of it (`LocalSums.grams`). Its Cholesky factor is a preconditioner: what the draw misses costs iterations,
never accuracy.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from cxrfeat._heads.solver.rows import Bools, Floats, Ints
from cxrfeat._heads.solver.sums import Frame, Sum, Sums
from cxrfeat._progress import Progress

Found = tuple[Floats, Floats, Floats, Bools]
"""Coefficients, objectives, relative half decrements, and whether these met the tolerance."""

SAMPLED = 4  # rows a feature from which a Hessian is estimated
MEMORY = 20
SLOW = 0.3  # a decrement above this share of the last one calls for a new Hessian,
PATIENCE = 2  # if the old one is at least so many iterations old
WORTH = 3  # and if tol is more than so many iterations away at the old pace
GIVE_UP = 12  # iterations without a better decrement: limited by floating-point precision


@dataclass(frozen=True)
class Point:
    """Coefficients of some labels, and what follows from them.

    `w` on standardised features with the intercept last, and the `gradient`, are (features + 1, labels); the objective
    `value` (labels,). The logits stay beside the rows.
    """

    w: Floats
    value: Floats
    gradient: Floats

    def of(self, which: Bools) -> Point:
        return Point(self.w[:, which], self.value[which], self.gradient[:, which])


class Objective:
    """Weighted log-losses of the labels and half the squared norm of their coefficients.

    `begin` and `ahead` are a sweep over the rows each, and so is `settle` where a step is not taken whole. Hessians are
    estimated from `sampled` rows a feature.
    """

    def __init__(self, sums: Sums, frame: Frame, intercept: bool, sampled: int = SAMPLED) -> None:
        self.sums, self.frame, self.intercept, self.sampled = sums, frame, intercept, sampled
        shift = frame.shift
        self.mean = frame.mean if shift is None else frame.mean - shift.astype(sums.dtype)

    def begin(self, w: Floats) -> Point:
        """The point with coefficients `w`, (features + 1, labels)."""
        return self._point(w, self.sums.begin(self.frame, *self._raw(w)))

    def ahead(self, point: Point, step: Floats) -> Point:
        """The point a whole step further."""
        return self._point(point.w + step, self.sums.ahead(*self._raw(step)))

    def slopes(self, point: Point, step: Floats, columns: Ints, lengths: Floats) -> tuple[Floats, Floats]:
        """First and second derivative along a step, at a part of its length, for some labels."""
        slope, bend = self.sums.slopes(columns, lengths)
        w, d = point.w[:-1, columns], step[:-1, columns]
        square = (d * d).sum(axis=0)
        return slope + (d * w).sum(axis=0) + lengths * square, bend + square

    def settle(self, point: Point, new: Point, columns: Ints, lengths: Floats) -> Point:
        """Go on to the point ahead; for some labels back to a part of the step's length."""
        total = self.sums.settle(columns, lengths)
        if total is None:
            return new
        w, value, gradient = new.w.copy(), new.value.copy(), new.gradient.copy()
        w[:, columns] = point.w[:, columns] + lengths * (new.w[:, columns] - point.w[:, columns])
        there = self._point(w[:, columns], total)
        value[columns], gradient[:, columns] = there.value, there.gradient
        return Point(w, value, gradient)

    def grams(self, columns: list[int]) -> Iterator[npt.NDArray[np.float32]]:
        """The Hessian of the loss of some labels, without the penalty; see `LocalSums.grams`."""
        rows = np.full(len(columns), float(self.sampled * self.sums.shape[1]))
        return self.sums.grams(np.array(columns, dtype=np.int64), rows)

    def _raw(self, step: Floats) -> tuple[npt.NDArray[np.floating], npt.NDArray[np.floating]]:
        """Coefficients on features as they are, and what they leave over."""
        v = step[:-1] / self.frame.scale[:, None]
        kind = self.sums.dtype
        return np.ascontiguousarray(v.astype(kind)), (step[-1] - self.mean @ v).astype(kind)

    def _point(self, w: Floats, total: Sum) -> Point:
        gradient = np.empty_like(w)
        gradient[:-1] = (total.product - np.outer(self.mean, total.residual)) / self.frame.scale[:, None] + w[:-1]
        gradient[-1] = total.residual if self.intercept else 0.0
        return Point(w, total.loss + (w[:-1] ** 2).sum(axis=0) / 2, gradient)


@dataclass
class Course:
    """How the search for one label goes.

    `factor` is the Cholesky factor of its sampled Hessian, float32 (features + 1, features + 1); the Hessian is
    `stretch` times as large by now.
    """

    factor: npt.NDArray[np.float32] | None = None
    stretch: float = 1.0
    pairs: deque[tuple[Floats, Floats, float]] = field(default_factory=lambda: deque(maxlen=MEMORY))
    last: float = np.inf
    best: float = np.inf
    age: int = 0
    idle: int = 0

    def direction(self, gradient: Floats) -> Floats:
        """Inverse Hessian times gradient: the two-loop recursion around the factor."""
        from scipy.linalg import lapack

        q, shares = gradient.copy(), []
        for s, y, rho in reversed(self.pairs):
            share = rho * (s @ q)
            q -= share * y
            shares.append(share)
        answer, _ = lapack.spotrs(self.factor, q.astype(np.float32), lower=True)
        q = answer.ravel().astype(np.float64) / self.stretch
        for (s, y, rho), share in zip(self.pairs, reversed(shares), strict=True):
            q += (share - rho * (y @ q)) * s
        return q

    def learn(self, step: Floats, change: Floats) -> None:
        """Remember a step and the change of the gradient along it."""
        product = float(step @ change)
        if product > 1e-12 * float(np.sqrt((step @ step) * (change @ change))):
            self.pairs.append((step.copy(), change.copy(), 1 / product))
        self.age += 1

    def transport(self, ratio: float) -> None:
        """Carry what is known over to a C that is `ratio` times as large: the loss scales with it, the penalty not.

        For the factor this is exact but where the penalty rules.
        """
        self.stretch *= ratio
        for place, (s, y, _) in enumerate(self.pairs):
            changed = ratio * y
            changed[:-1] += (1 - ratio) * s[:-1]
            product = float(s @ changed)
            self.pairs[place] = (s, changed, 1 / product if product > 0 else 0.0)
        self.last = self.best = np.inf
        self.idle = 0

    def judge(self, gap: float) -> None:
        """Note the relative decrement at a new point."""
        self.idle = 0 if gap < 0.9 * self.best else self.idle + 1
        self.best = min(self.best, gap)
        self.last = gap


def minimise(
    objective: Objective, courses: Mapping[int, Course], start: Floats, tol: float, steps: int, progress: Progress
) -> Found:
    """Minimise the objective of every label from `start`, (features + 1, labels).

    A label is done when half its squared Newton decrement is below `tol` times its objective. What `courses` hold from
    a search before is used.
    """
    count = start.shape[1]
    active: npt.NDArray[Any] = np.arange(count)
    point = objective.begin(start)
    if new := [k for k in range(count) if courses[k].factor is None]:
        _renew(objective, [courses[k] for k in new], new)
    w, value, gap = start.copy(), point.value.copy(), np.full(count, np.inf)
    for _ in range(steps + 1):
        step = _directions(objective, point, active, courses, tol)
        decrement = (point.gradient * step).sum(axis=0) / (2 * np.maximum(point.value, 1e-300))
        w[:, active], value[active], gap[active] = point.w, point.value, decrement
        for i, k in enumerate(active):
            courses[k].judge(decrement[i])
        going = (decrement > tol) & np.array([courses[k].idle < GIVE_UP for k in active])
        progress(count - int(going.sum()), count, f"gap {decrement.max():.0e}")
        if not going.any():
            break
        if not going.all():
            objective.sums.keep(going)
            point, step, active = point.of(going), step[:, going], active[going]
        ahead = _advance(objective, point, -step)
        for i, k in enumerate(active):
            courses[k].learn(ahead.w[:, i] - point.w[:, i], ahead.gradient[:, i] - point.gradient[:, i])
        point = ahead
    return w, value, gap, gap <= tol


def _directions(
    objective: Objective, point: Point, active: npt.NDArray[Any], courses: Mapping[int, Course], tol: float
) -> Floats:
    """Steps of all labels, with new Hessians for those that have slowed down."""
    step = np.empty_like(point.w)
    stale = []
    for i, k in enumerate(active):
        step[:, i] = courses[k].direction(point.gradient[:, i])
        gap = float(point.gradient[:, i] @ step[:, i]) / (2 * max(float(point.value[i]), 1e-300))
        ratio = gap / courses[k].last
        # A new Hessian costs as much as some sweeps: it must have that many to save.
        if ratio > SLOW and gap * min(ratio, 1.0) ** WORTH > tol and courses[k].age >= PATIENCE:
            stale.append(i)
    if stale:
        _renew(objective, [courses[active[i]] for i in stale], stale)
        for i in stale:
            step[:, i] = courses[active[i]].direction(point.gradient[:, i])
    if not objective.intercept:
        step[-1] = 0.0
    return step


def _renew(objective: Objective, courses: list[Course], columns: list[int]) -> None:
    """Make the factors of some labels anew where the search stands, in one sweep; they are `columns` of it."""
    for course in courses:  # the old factors make room for the new
        course.factor = None
    for course, gram in zip(courses, objective.grams(columns), strict=True):
        course.factor, course.stretch, course.age = _cholesky(gram, objective.intercept), 1.0, 0
        course.pairs.clear()


def _cholesky(gram: npt.NDArray[np.float32], intercept: bool) -> npt.NDArray[np.float32]:
    """Factor gram + penalty, in float64; more is added to the diagonal if rounding has made it indefinite."""
    from scipy.linalg import lapack

    largest = float(gram.diagonal().max(initial=1.0))
    extra = 0.0
    for _ in range(8):
        matrix = gram.astype(np.float64, order="F")
        matrix.flat[:: len(matrix) + 1] += 1.0 + extra
        matrix[-1, -1] += (-1.0 + 1e-6 * largest) if intercept else largest
        factor, failed = lapack.dpotrf(matrix, lower=True, clean=True, overwrite_a=True)
        if not failed:
            break
        extra = max(10 * extra, 1e-6 * largest)
    return factor.astype(np.float32, order="F")


def _advance(objective: Objective, point: Point, step: Floats) -> Point:
    """One step for every label: a whole one, or a better length where the slope at its end says so."""
    new = objective.ahead(point, step)
    before, after = (point.gradient * step).sum(axis=0), (new.gradient * step).sum(axis=0)
    # Past the valley, or still far up its side: the whole step is taken only between these.
    off = ((after > -0.5 * before) | (after < 0.9 * before)).nonzero()[0]
    return objective.settle(point, new, off, _lengths(objective, point, step, off, before, after))


def _lengths(objective: Objective, point: Point, step: Floats, off: Ints, before: Floats, after: Floats) -> Floats:
    """Lengths of some labels' steps at which the slope is nearly 0, by Newton's method on the line, in a bracket."""
    past = after[off] > 0
    low, high, t = np.where(past, 0.0, 1.0), np.where(past, 1.0, np.inf), np.where(past, 0.5, 2.0)
    open_ = np.arange(len(off))
    for _ in range(30):
        if not len(open_):
            break
        slope, bend = objective.slopes(point, step, off[open_], t[open_])
        steep = np.abs(slope) >= 0.1 * np.abs(before[off[open_]])
        open_, slope, bend = open_[steep], slope[steep], bend[steep]
        low[open_] = np.where(slope > 0, low[open_], t[open_])
        high[open_] = np.where(slope > 0, t[open_], high[open_])
        guess, bounded = t[open_] - slope / bend, np.isfinite(high[open_])
        middle = np.where(bounded, (low[open_] + np.where(bounded, high[open_], 0)) / 2, 2 * t[open_])
        t[open_] = np.where((low[open_] < guess) & (guess < high[open_]), guess, middle)
    return t
