"""The objective of all labels at once: sums over the rows, and the penalty."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cxrfeat._heads.solver.rows import Bools, Floats, Ints
from cxrfeat._heads.solver.sums import Frame, Sum, Sums

SAMPLED = 4  # rows a feature from which a Hessian is estimated


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
