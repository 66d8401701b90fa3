"""Going through the rows: logits, loss and gradient of all labels in one sweep, a block at a time.

Blocks are dealt with side by side, one a core and each with one thread of BLAS: a product with a dozen columns is too
narrow to be worth sharing, and the losses between the products would otherwise be one core's work. What they give is
summed in their order, so the answer does not depend on which was done first.

Features are never standardised in memory. With mean m and scale s, x standardised times v is x (v / s) - m (v / s),
and the gradient is corrected likewise after its sum. Products are made in the rows' own precision; what is summed
over blocks is float64.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import ThreadpoolController

from cxrfeat import _machine as machine
from cxrfeat._heads.solver.rows import Rows

Floats = npt.NDArray[np.float64]

# Above this ratio of mean to scale the subtraction after the product would cost float32 its digits, and blocks are
# centred before it.
FAR = 30.0


@dataclass(frozen=True)
class Point:
    """Coefficients of some labels, and what follows from them.

    `w` on standardised features with the intercept last, and the `gradient`, are (features + 1, labels); logits `z`
    (rows, labels) in the rows' precision; the objective `value` (labels,).
    """

    w: Floats
    z: npt.NDArray[Any]
    value: Floats
    gradient: Floats

    def of(self, which: npt.NDArray[Any]) -> Point:
        """The same for some of its labels."""
        return Point(
            self.w[:, which], np.ascontiguousarray(self.z[:, which]), self.value[which], self.gradient[:, which]
        )


class Sweeper:
    """The objective of all labels over the rows; `y` and `weight` are (rows, labels), and the weight includes C."""

    def __init__(self, rows: Rows, y: Floats, weight: Floats, mean: Floats, scale: Floats, intercept: bool) -> None:
        self.rows, self.scale, self.intercept = rows, scale, intercept
        kind = rows.dtype
        self.sign = np.where(y == 1, -1, 1).astype(kind)
        soft = (y > 0) & (y < 1)
        # The loss of a probability t is that of a negative less t z.
        self.soft = np.where(soft, y, 0).astype(kind) if soft.any() else None
        self.weight = weight.astype(kind)
        self.shift = mean.astype(kind) if float((np.abs(mean) / scale).max(initial=0.0)) > FAR else None
        self.mean = mean if self.shift is None else mean - self.shift
        self.sweeps = 0
        self.pool = ThreadPoolExecutor(machine.cores(), thread_name_prefix="cxrfeat-sweep")

    def begin(self, w: Floats) -> Point:
        """The point with coefficients `w`, (features + 1, labels)."""
        labels = np.arange(w.shape[1])
        nothing = np.zeros((self.rows.shape[0], len(labels)), dtype=self.rows.dtype)
        return self.ahead(Point(np.zeros_like(w), nothing, np.zeros(len(labels)), w), w, labels)

    def ahead(self, point: Point, step: Floats, labels: npt.NDArray[np.int64]) -> Point:
        """The point a whole step further, for these labels."""
        v = step[:-1] / self.scale[:, None]
        offset = (step[-1] - self.mean @ v).astype(self.rows.dtype)
        return self._sweep(point.w + step, point.z, labels, np.ascontiguousarray(v.astype(self.rows.dtype)), offset)

    def at(self, w: Floats, z: npt.NDArray[Any], labels: npt.NDArray[np.int64]) -> Point:
        """The point with coefficients and logits that are known already; only its gradient costs a sweep."""
        return self._sweep(w, z, labels, None, None)

    def _sweep(
        self,
        w: Floats,
        z: npt.NDArray[Any],
        labels: npt.NDArray[np.int64],
        v: npt.NDArray[Any] | None,
        offset: npt.NDArray[Any] | None,
    ) -> Point:
        self.sweeps += 1
        count, everything = len(labels), len(labels) == self.sign.shape[1]
        product, total = np.zeros((len(self.scale), count)), np.zeros(count)
        value, out = np.zeros(count), z if v is None else np.empty_like(z)

        def deal(place: slice, x: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], ...]:
            if self.shift is not None:
                x = x - self.shift
            if v is not None:
                out[place] = x @ v + offset + z[place]
            sign, weight = self.sign[place], self.weight[place]
            if not everything:
                sign, weight = sign[:, labels], weight[:, labels]
            loss, residual = entries(out[place], sign, weight)
            if self.soft is not None:
                pull = weight * (self.soft[place] if everything else self.soft[place][:, labels])
                loss -= pull * out[place]
                residual -= pull
            return loss.sum(axis=0, dtype=np.float64), residual.sum(axis=0, dtype=np.float64), x.T @ residual

        with _blas().limit(limits=1, user_api="blas"):
            for parts in self._in_order(deal):
                value += parts[0]
                total += parts[1]
                product += parts[2]
        gradient = np.empty_like(w)
        gradient[:-1] = (product - np.outer(self.mean, total)) / self.scale[:, None] + w[:-1]
        gradient[-1] = total if self.intercept else 0.0
        return Point(w, out, value + (w[:-1] ** 2).sum(axis=0) / 2, gradient)

    def _in_order(
        self, deal: Callable[[slice, npt.NDArray[Any]], tuple[npt.NDArray[Any], ...]]
    ) -> Iterator[tuple[npt.NDArray[Any], ...]]:
        """What `deal` makes of every block, in the order of blocks; only a few are ahead, since memory may be short."""
        ahead: deque[Future[tuple[npt.NDArray[Any], ...]]] = deque()
        for place, x in self.rows.blocks():
            ahead.append(self.pool.submit(deal, place, x))
            if len(ahead) > machine.cores():
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()  # looking for the libraries takes as long as a small sweep


def entries(
    z: npt.NDArray[Any], sign: npt.NDArray[Any], weight: npt.NDArray[Any]
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Weighted log-loss of every logit and its derivative; `sign` is -1 for a positive and 1 for a negative."""
    against = z * sign
    small = np.exp(-np.abs(against))
    loss = np.log1p(small)
    loss += np.maximum(against, 0)
    loss *= weight
    wrong = np.where(against > 0, 1, small)
    wrong /= 1 + small
    wrong *= weight
    wrong *= sign
    return loss, wrong
