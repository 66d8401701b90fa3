"""What the rows are to be told apart by: labels as one byte each, and the weights of their losses.

A row's weight in a label's loss is the class weight, times that of the row. Weights are made from the labels block by
block, so that a label costs a byte a row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cxrfeat._heads.solver.rows import Bools, Floats, Ints, sigmoid

CHUNK = 4096  # rows of labels that are dealt with at once


@dataclass(frozen=True)
class Counts:
    """Of every label, (2, labels): rows of weight that are positive or negative, and the summed weight of each class.

    A probability counts as a positive row, and adds to both weights.
    """

    rows: Ints
    weight: Floats

    @property
    def both(self) -> Bools:
        """Labels with a positive and a negative, bool (labels,)."""
        return (self.rows[0] > 0) & (self.rows[1] > 0)

    def of(self, which: Bools) -> Counts:
        return Counts(self.rows[:, which], self.weight[:, which])

    def chance(self, rows: int) -> Floats:
        """What to multiply the weights of positives and negatives by, (2, labels), to draw so many rows or fewer.

        Each label has an equal part in the draw, and in that each of its classes: a rare finding is all there.
        """
        return rows / 2 / self.weight.shape[1] / self.weight

    def joined(self, other: Counts) -> Counts:
        return Counts(self.rows + other.rows, self.weight + other.weight)


@dataclass(frozen=True)
class Entries:
    """A block's losses: `sign` -1 for a positive and 1 for a negative, `weight`, and what a probability takes off."""

    sign: npt.NDArray[Any]
    weight: npt.NDArray[Any]
    pull: npt.NDArray[Any] | None

    def at(self, z: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Weighted log-loss of every logit, and its derivative."""
        against = z * self.sign
        small = np.exp(-np.abs(against))
        loss = np.log1p(small)
        loss += np.maximum(against, 0)
        loss *= self.weight
        wrong = np.where(against > 0, 1, small)
        wrong /= 1 + small
        wrong *= self.weight
        wrong *= self.sign
        if self.pull is not None:  # the loss of a probability t is that of a negative less t z
            loss -= self.pull * z
            wrong -= self.pull
        return loss, wrong

    def bend(self, z: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The second derivative of the weighted log-loss of every logit."""
        p = sigmoid(z)
        return self.weight * p * (1 - p)


@dataclass(frozen=True)
class Labels:
    """Labels of rows, (rows, labels), and class weights, (labels,).

    `y` is int8, with -1 for unknown; or float with NaN for unknown, where there are probabilities. `rows`, (rows,), are
    weights of rows.
    """

    y: npt.NDArray[Any]
    positive: Floats
    negative: Floats
    rows: npt.NDArray[Any] | None = None
    _kept: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def of(
        cls, y: npt.NDArray[Any], positive: Floats, negative: Floats, rows: npt.NDArray[Any] | None = None
    ) -> Labels:
        """Of labels 1, 0, NaN for unknown, or probabilities between."""
        codes = np.empty(y.shape, dtype=np.int8)
        for place in chunks(len(y)):
            filled = np.nan_to_num(y[place], nan=-1)
            codes[place] = filled
            if (codes[place] != filled).any():
                return cls(np.asarray(y), positive, negative, rows)
        return cls(codes, positive, negative, rows)

    @property
    def soft(self) -> bool:
        return self.y.dtype != np.int8

    def times(self, positive: Floats, negative: Floats) -> Labels:
        """The same with the class weights multiplied, (labels,) each."""
        return replace(self, positive=self.positive * positive, negative=self.negative * negative)

    def part(self, rows: Any, weight: npt.NDArray[Any] | None = None) -> Labels:
        """Those of some rows, whose own weights are multiplied by `weight`."""
        own = None if self.rows is None else self.rows[rows]
        if weight is not None:
            own = weight if own is None else own * weight
        return replace(self, y=self.y[rows], rows=own)

    def joined(self, other: Labels) -> Labels:
        rows = None
        if self.rows is not None and other.rows is not None:
            rows = np.concatenate([self.rows, other.rows])
        return replace(self, y=np.concatenate([self.y, other.y]), rows=rows)

    def of_labels(self, which: npt.NDArray[Any]) -> Labels:
        return replace(self, y=self.y[:, which], positive=self.positive[which], negative=self.negative[which])

    def entries(self, place: slice, kind: Any) -> Entries:
        """The losses of a block of at most `CHUNK` rows, in the precision `kind`."""
        t, _, share, weight = self._shares(place, kind)
        if not self.soft:
            return Entries(1 - 2 * t, weight, None)
        return Entries(np.where(t == 1, -1, 1).astype(kind), weight, np.where((t > 0) & (t < 1), share, 0))

    def dense(self) -> tuple[Floats, Floats]:
        """Targets and weights of all entries, float64: the loss is weight (log(1 + exp(z)) - target z)."""
        parts = [self._shares(place, np.float64)[2:] for place in chunks(len(self.y))]
        share, weight = (np.concatenate(part) for part in zip(*parts, strict=True))
        return share / np.where(weight > 0, weight, 1), weight

    def counts(self) -> Counts:
        """Rows and weights of each class."""
        count = self.y.shape[1]
        found = Counts(np.zeros((2, count), int), np.zeros((2, count)))
        for place in chunks(len(self.y)):
            t, unknown, share, weight = self._shares(place, np.float64)
            rows = [(which & ~unknown & (weight > 0)).sum(axis=0) for which in (t > 0, t == 0)]
            weights = [share.sum(axis=0), (weight - share).sum(axis=0)]
            found = found.joined(Counts(np.stack(rows), np.stack(weights)))
        return found

    def _shares(self, place: slice, kind: Any) -> tuple[npt.NDArray[Any], ...]:
        """Labels with 0 for unknown, where they are unknown, the weight as a positive, and that of both classes."""
        y = self.y[place]
        positive, negative = (tile[: len(y)] for tile in self._tiles(np.dtype(kind)))
        unknown = np.isnan(y) if self.soft else y < 0
        t = np.nan_to_num(y).astype(kind) if self.soft else np.maximum(y, 0).astype(kind)
        share = t * positive
        weight = 1 - t
        weight *= negative
        weight += share
        weight *= ~unknown
        if self.rows is not None:
            own = self.rows[place, None].astype(kind)
            share *= own
            weight *= own
        return t, unknown, share, weight

    def _tiles(self, kind: np.dtype[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """The class weights, once for every row of a block: three times as fast to multiply by as one row of them."""
        if kind not in self._kept:
            self._kept[kind] = tuple(np.tile(w.astype(kind), (CHUNK, 1)) for w in (self.positive, self.negative))
        return self._kept[kind]


def chunks(rows: int) -> Iterator[slice]:
    """All rows, a part at a time, for what needs labels only."""
    for at in range(0, rows, CHUNK):
        yield slice(at, min(at + CHUNK, rows))
