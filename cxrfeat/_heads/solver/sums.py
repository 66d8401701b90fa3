"""What the search asks of the rows: sums over them, whatever holds them.

The rows may be in memory or in files (`LocalSums`), or in parts on other machines, each with a `LocalSums` of its own
whose answers are added up. Nothing that grows with their number leaves the place where they are, but for a sample of
fixed size. Logits stay beside the rows from one sweep to the next.

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
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
from threadpoolctl import ThreadpoolController

from cxrfeat import _machine as machine
from cxrfeat._heads.solver.labels import Counts, Labels, chunks
from cxrfeat._heads.solver.rows import Bools, Floats, Ints, Moments, Rows, Tally

if TYPE_CHECKING:
    from cxrfeat._heads.cluster import ClusterSums

Matrix = npt.NDArray[Any]
Sums: TypeAlias = "LocalSums | ClusterSums"

# Above this ratio of mean to scale the subtraction after the product would cost float32 its digits, and blocks are
# centred before it.
FAR = 30.0
FLUSH = 512  # rows of a Gram matrix that are multiplied at once


@dataclass(frozen=True)
class Sum:
    """Of some labels: loss (labels,), its derivative summed (labels,) and multiplied by the rows (features, labels)."""

    loss: Floats
    residual: Floats
    product: Floats

    def joined(self, other: Sum) -> Sum:
        return Sum(self.loss + other.loss, self.residual + other.residual, self.product + other.product)


@dataclass(frozen=True)
class Frame:
    """How features are standardised; and `strength`, (labels,), which multiplies the labels' weights."""

    mean: Floats
    scale: Floats
    strength: Floats

    @property
    def shift(self) -> Floats | None:
        """What is taken off the features before a product; None if the mean can be taken off after it."""
        return self.mean if float((np.abs(self.mean) / self.scale).max(initial=0.0)) > FAR else None


class LocalSums:
    """Rows of this process, that answer with sums over them.

    A search goes from a point to one `ahead` of it, and either takes that or settles between them; the logits of both
    are kept by the rows. `sweeps` counts how often they were gone through, and `workers` the processes that hold them.
    `columns` are positions among the labels that the search has kept so far.
    """

    workers = 1

    def __init__(self, rows: Rows, labels: Labels, seed: int = 0, threads: int | None = None) -> None:
        self.rows, self.labels, self.seed = rows, labels, seed
        self.shape, self.dtype, self.sweeps = rows.shape, rows.dtype, 0
        self.threads = threads or machine.cores()
        self.pool = ThreadPoolExecutor(self.threads, thread_name_prefix="cxrfeat-sweep")

    def close(self) -> None:
        """Give back what the sums are made with."""
        self.pool.shutdown()

    def counts(self) -> Counts:
        """Rows and weights of each class."""
        return self.labels.counts()

    def choose(self, labels: Bools) -> None:
        """Fit some of the labels, bool (labels,); once, before all else."""
        self.labels = self.labels.of_labels(labels)

    def gathered(self) -> tuple[Matrix, Labels]:
        """All rows, here and in memory, and their labels; for few."""
        return self.rows.whole(), self.labels

    def survey(self, chance: Floats | None) -> tuple[Moments, tuple[Matrix, Labels] | None]:
        """Moments, and a sample if `chance`, (2, labels), is given; one sweep for both.

        A row is drawn with the probability of its weights as a positive or negative of every label, times `chance`, and
        weighted by the inverse of that.
        """
        chosen, inverse = (np.empty(0, int), np.empty(0)) if chance is None else self._chosen(chance)
        x = np.empty((len(chosen), self.shape[1]), dtype=self.dtype)
        tally = Tally(self.shape[1])
        self.sweeps += 1
        for place, block in self.rows.blocks():
            tally.add(block, None if self.labels.rows is None else self.labels.rows[place])
            first, last = np.searchsorted(chosen, (place.start, place.stop))
            x[first:last] = block[chosen[first:last] - place.start]
        return tally.moments(), None if chance is None else (x, self.labels.part(chosen, inverse))

    def begin(self, frame: Frame, v: Matrix, offset: Matrix) -> Sum:
        """Go to the logits x v + offset, for all labels."""
        shift, self.frame = frame.shift, frame
        self.shift = None if shift is None else shift.astype(self.dtype)
        self.live = self.labels.times(frame.strength, frame.strength)
        self.active = np.arange(len(frame.strength))
        # Two buffers, the one for where the search stands and the other for what is ahead of it.
        self._memory = [np.zeros(self.shape[0] * len(offset), dtype=self.dtype) for _ in range(2)]
        self.z, self.z_ahead = self._views()
        total = self.ahead(v, offset)
        self._swap()
        return total

    def ahead(self, v: Matrix, offset: Matrix) -> Sum:
        """Add x v + offset to the logits."""
        z, out = self.z, self.z_ahead

        def logits(place: slice, x: Matrix) -> Matrix:
            out[place] = x @ v + offset + z[place]
            return out[place]

        return self._total(self.live, logits)

    def slopes(self, columns: Ints, lengths: Floats) -> tuple[Floats, Floats]:
        """First and second derivative of the loss along the step ahead, at a part of its length, (columns,) each."""
        live, slope, bend = self.live.of_labels(columns), np.zeros(len(columns)), np.zeros(len(columns))
        for place in chunks(self.shape[0]):
            z = self.z[place][:, columns].astype(np.float64)
            dz = self.z_ahead[place][:, columns] - z
            entries = live.entries(place, np.float64)
            z += lengths * dz
            slope += (entries.at(z)[1] * dz).sum(axis=0)
            bend += (entries.bend(z) * dz * dz).sum(axis=0)
        return slope, bend

    def settle(self, columns: Ints, lengths: Floats) -> Sum | None:
        """Take the step ahead; where it is not taken whole, go back to its length and sum there."""
        for place in chunks(self.shape[0]) if len(columns) else ():
            back, ahead = self.z[place][:, columns], self.z_ahead[place]
            ahead[:, columns] = back + lengths * (ahead[:, columns] - back)
        self._swap()
        if not len(columns):
            return None
        z = self.z
        return self._total(self.live.of_labels(columns), lambda place, _: z[place][:, columns])

    def keep(self, columns: Bools) -> None:
        """Go on with some of the columns."""
        z = self.z
        self.active = self.active[columns]
        self.live = self.live.of_labels(columns)
        self._swap()
        for place in chunks(self.shape[0]):
            self.z[place] = z[place][:, columns]

    def grams(self, columns: Ints, rows: Floats) -> Iterator[npt.NDArray[np.float32]]:
        """For each column X' diag(h) X where the search stands, lower triangle, estimated from about so many `rows`.

        X are standardised features and a column of ones, and h is weight p (1 - p); one sweep for all columns. Rows are
        drawn with a probability proportional to their h, at most 1, and weighted by its inverse: the expectation is the
        whole sum, and rows that carry much of it, such as the few positives of a rare label, are all in.
        """
        from scipy.linalg import blas

        features = self.shape[1]
        self.sweeps += 1
        drawn = [self._draw(int(k), float(count)) for k, count in zip(columns, rows, strict=True)]
        mean, scale = self.frame.mean.astype(np.float32), self.frame.scale.astype(np.float32)
        grams = [np.zeros((features + 1, features + 1), dtype=np.float32, order="F") for _ in columns]
        buffers: list[list[npt.NDArray[np.float32]]] = [[] for _ in columns]

        def flush(i: int) -> None:
            part = np.concatenate(buffers[i])
            grams[i] = blas.ssyrk(1.0, part.T, beta=1.0, c=grams[i], lower=True, overwrite_c=True)
            buffers[i].clear()

        for place, x in self.rows.blocks():
            for i, (chosen, root) in enumerate(drawn):
                first, last = np.searchsorted(chosen, (place.start, place.stop))
                if first == last:
                    continue
                buffers[i].append(_standardised(x[chosen[first:last] - place.start], mean, scale, root[first:last]))
                if sum(map(len, buffers[i])) >= FLUSH:
                    flush(i)
        for i in range(len(columns)):
            if buffers[i]:
                flush(i)
            # Given away one by one, so that there need not be two sets of them.
            yield grams[i]
            grams[i] = np.empty((0, 0), dtype=np.float32)

    def curvature(self, columns: Ints) -> Floats:
        """The sum of h, weight p (1 - p), for each column."""
        live, total = self.live.of_labels(columns), np.zeros(len(columns))
        for place in chunks(self.shape[0]):
            z = self.z[place][:, columns].astype(np.float64)
            total += live.entries(place, np.float64).bend(z).sum(axis=0)
        return total

    def _draw(self, column: int, rows: float) -> tuple[Ints, npt.NDArray[np.float32]]:
        """Rows drawn for a column, and the root of what each represents."""
        live, h = self.live.of_labels(np.array([column])), np.empty(self.shape[0])
        for place in chunks(self.shape[0]):
            h[place] = live.entries(place, np.float64).bend(self.z[place, [column]].astype(np.float64))[:, 0]
        if rows >= len(h) or h.sum() <= 0:
            chosen = (h > 0).nonzero()[0]
            return chosen, np.sqrt(h[chosen]).astype(np.float32)
        chance = h * (rows / h.sum())
        for _ in range(4):  # what is cut off at 1 is handed to the rest
            np.minimum(chance, 1, out=chance)
            chance *= rows / chance.sum()
        np.minimum(chance, 1, out=chance)
        # Drawn by label and not by how often or where: the same problem always takes the same course.
        draw = np.random.default_rng([int(self.active[column]), self.seed] if self.seed else int(self.active[column]))
        chosen = (draw.random(len(h)) < chance).nonzero()[0]
        return chosen, np.sqrt(h[chosen] / chance[chosen]).astype(np.float32)

    def _chosen(self, chance: Floats) -> tuple[Ints, Floats]:
        """Rows of a sample, and the inverse of the probability that each had."""
        draw, chosen, inverse = np.random.default_rng([1, self.seed]), [], []
        labels = self.labels.times(*chance)
        for place in chunks(self.shape[0]):
            probability = np.minimum(labels.entries(place, np.float64).weight.sum(axis=1), 1)
            taken = (draw.random(len(probability)) < probability).nonzero()[0]
            chosen.append(taken + place.start)
            inverse.append(1 / probability[taken])
        return np.concatenate(chosen), np.concatenate(inverse)

    def _swap(self) -> None:
        """What was ahead is where the search stands."""
        self._memory.reverse()
        self.z, self.z_ahead = self._views()

    def _views(self) -> tuple[Matrix, Matrix]:
        """The logits of the active labels where the search stands, and those ahead."""
        n, count = self.shape[0], len(self.active)
        here, ahead = (memory[: n * count].reshape(n, count) for memory in self._memory)
        return here, ahead

    def _total(self, live: Labels, logits: Callable[[slice, Matrix], Matrix]) -> Sum:
        """Sums over all blocks; `logits` makes those of a block, of its place and features."""

        def deal(place: slice, x: Matrix) -> tuple[Matrix, ...]:
            if self.shift is not None:
                x = x - self.shift
            loss, residual = live.entries(place, self.dtype).at(logits(place, x))
            return loss.sum(axis=0, dtype=np.float64), residual.sum(axis=0, dtype=np.float64), x.T @ residual

        count = len(live.positive)
        loss, residual, product = np.zeros(count), np.zeros(count), np.zeros((self.shape[1], count))
        self.sweeps += 1
        with _blas().limit(limits=1, user_api="blas"):
            for parts in self._in_order(deal):
                loss += parts[0]
                residual += parts[1]
                product += parts[2]
        return Sum(loss, residual, product)

    def _in_order(self, deal: Callable[[slice, Matrix], tuple[Matrix, ...]]) -> Iterator[tuple[Matrix, ...]]:
        """What `deal` makes of every block, in the order of blocks; only a few are ahead, since memory may be short."""
        ahead: deque[Future[tuple[Matrix, ...]]] = deque()
        for place, x in self.rows.blocks():
            ahead.append(self.pool.submit(deal, place, x))
            if len(ahead) > self.threads:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def _standardised(x: Matrix, mean: Matrix, scale: Matrix, root: Matrix) -> npt.NDArray[np.float32]:
    out = np.empty((len(x), x.shape[1] + 1), dtype=np.float32)
    np.subtract(x, mean, out=out[:, :-1])
    out[:, :-1] /= scale
    out[:, -1] = 1.0
    out *= root[:, None]
    return out


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()  # looking for the libraries takes as long as a small sweep
