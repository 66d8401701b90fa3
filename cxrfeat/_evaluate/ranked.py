"""The sums behind metrics of ranks, under many weightings at once: what makes the bootstrap fast.

A bootstrap replicate is a whole-number weight per patient: how often the patient was drawn. Scores are sorted once.
Between two neighbouring positive scores all negatives count alike, so that a weighting's false positives at every
positive score are one sparse matrix product and a running sum, for a block of replicates together; equal scores share
a row, and so ties are exact. A matrix holds one number of 32 bits for each image, the patient's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse

from cxrfeat._evaluate.arrays import Array

Ints = npt.NDArray[np.int64]
Codes = npt.NDArray[np.int32]


class Column(NamedTuple):
    """Images of one label whose truth and score are known: present or not, score, and cluster from 0, each (n,)."""

    positive: npt.NDArray[np.bool_]
    score: npt.NDArray[np.floating]
    cluster: Codes


ROWS = 1024
"""Rows of a running sum that are worked on together, so that they stay in the processor's cache."""
EXACT = 2**22
"""Images up to which float32 counts exactly, whatever draws make of them: four times as many are below 2**24."""


class Ranked:
    """Scores of one label, or of several pooled, sorted, ready to be weighted by cluster.

    `columns` gives the labels' columns, every time that it is called, so that several need not be in memory together.
    `dtype` is that of the running sums; above `EXACT` images it is float64.
    """

    def __init__(
        self, columns: Callable[[], Iterable[Column]], clusters: int, dtype: npt.DTypeLike = np.float32
    ) -> None:
        values = np.unique(np.concatenate([np.unique(score[positive]) for positive, score, _ in columns()]))
        rows = len(values)  # row k of every matrix is the k-th value from the top
        gained = np.zeros(rows, np.int64)
        met = np.zeros(2 * rows + 1, np.int64)  # of each row the negatives above its score, and those equal to it
        for column in columns():
            gained += _within(np.sort(column.score[column.positive]), values)[1::2]
            met += _within(np.sort(column.score[~column.positive]), values)
        images = int(gained.sum() + met.sum())
        self._dtype = np.dtype(dtype) if images <= EXACT else np.dtype(np.float64)
        who = _members(columns, values, met) if clusters > 1 else None
        start, at = np.append(0, np.cumsum(gained)), np.append(0, np.cumsum(met))
        ones = np.ones(min(EXACT, images), np.float32)

        def matrix(members: Codes | None, sizes: Ints) -> list:
            """The matrices of rows of so many members each, which are added up."""
            if members is None:  # of one cluster a row is one number
                return [sizes.astype(np.float64)[:, None]]
            return list(_ones(members, np.append(0, np.cumsum(sizes)), clusters, ones))

        self._chunks = []
        for a in range(0, max(rows, 1), ROWS):
            b = min(a + ROWS, rows)
            end = 2 * b + (b == rows)  # the last has the negatives below every positive, too
            above, equal = met[2 * a : end : 2], met[2 * a + 1 : end : 2]
            meeting = np.flatnonzero(equal)
            here = passed = tied = None
            if who is not None:
                here, mine = who[0][start[a] : start[b]], who[1][at[2 * a] : at[end]]
                if len(meeting):  # in place: those above every score, then those that are equal to one
                    ties = np.repeat(np.arange(end - 2 * a) % 2 == 1, met[2 * a : end])
                    mine[:] = np.concatenate([mine[~ties], mine[ties]])
                passed, tied = np.split(mine, [int(above.sum())])
            self._chunks.append(
                (matrix(here, gained[a:b]), matrix(passed, above), matrix(tied, equal[meeting]), meeting)
            )

    def weigh(self, counts: npt.NDArray) -> tuple[Array, Array, Array, Array]:
        """Return the sums that `Metric.RANKS` names, float64 (replicates,) each, for counts (clusters, replicates)."""
        width = counts.shape[1]
        wrong, precise = np.zeros(width), np.zeros(width)
        positives, negatives = np.zeros(width), np.zeros(width)
        for gained, passed, tied, meeting in self._chunks:
            new = _product(gained, counts, self._dtype)
            tp, fp = new.copy(), _product(passed, counts, self._dtype)
            if len(meeting):
                halves = _product(tied, counts, self._dtype)
                fp[meeting] += halves
                wrong -= 0.5 * np.einsum("kb,kb->b", new[meeting], halves, dtype=np.float64)
            if len(fp) > len(tp):  # what is below every positive is not ranked wrongly, and ends the sum
                last, fp = fp[-1].astype(np.float64), fp[:-1]
            else:
                last = np.zeros(width)
            if len(tp):
                tp[0] += positives
                fp[0] += negatives
                np.cumsum(tp, axis=0, out=tp)
                np.cumsum(fp, axis=0, out=fp)
                positives, negatives = tp[-1].astype(np.float64), fp[-1].astype(np.float64)
                wrong += np.einsum("kb,kb->b", new, fp, dtype=np.float64)
                # tp / (tp + fp); where nothing was drawn yet the row gains nothing either: any divisor will do.
                fp += tp
                np.maximum(fp, 1, out=fp)
                np.divide(tp, fp, out=tp)
                precise += np.einsum("kb,kb->b", new, tp, dtype=np.float64)
            negatives = negatives + last
        return positives * negatives - wrong, precise, positives, negatives


def _within(ordered: npt.NDArray, values: npt.NDArray) -> Ints:
    """How many of some rising scores are above each value and below the one before, and how many equal it.

    Both by turns, from the greatest value down, int64 (2 values + 1,); the last are below all values.
    """
    edges = np.empty(2 * len(values) + 2, np.int64)
    edges[0], edges[-1] = len(ordered), 0
    edges[1:-1:2] = np.searchsorted(ordered, values, side="right")[::-1]
    edges[2:-1:2] = np.searchsorted(ordered, values, side="left")[::-1]
    return edges[:-1] - edges[1:]


def _members(columns: Callable[[], Iterable[Column]], values: npt.NDArray, met: Ints) -> tuple[Codes, Codes]:
    """Clusters of the positives and of the negatives, by falling scores."""
    parts, found = [], np.empty(int(met.sum()), np.int32)
    free = np.append(0, np.cumsum(met)[:-1])
    for positive, score, cluster in columns():
        parts.append((score[positive], cluster[positive]))
        order = np.argsort(score[~positive])[::-1]
        who, falling = cluster[~positive][order], score[~positive][order]
        here = _within(falling[::-1], values)
        # They go, in their order, to the first free places of where they belong.
        found[np.arange(len(who)) + np.repeat(free - np.cumsum(here) + here, here)] = who
        free += here
    scores, clusters = (np.concatenate(some) for some in zip(*parts, strict=True))
    return clusters[np.argsort(scores)[::-1]], found


def _ones(members: Codes, start: Ints, clusters: int, ones: npt.NDArray) -> Iterator[sparse.csr_array]:
    """Rows of members as compressed sparse rows of ones: several matrices where one had more than `EXACT` of them."""
    for a in range(0, max(len(members), 1), EXACT):
        b = min(a + EXACT, len(members))
        matrix = sparse.csr_array((len(start) - 1, clusters), dtype=np.float32)
        # Set one by one: the constructor copies views.
        matrix.indptr = (start.clip(a, b) - a).astype(np.int32)
        matrix.indices, matrix.data = members[a:b], ones[: b - a]
        yield matrix


def _product(matrices: list, counts: npt.NDArray, dtype: np.dtype) -> npt.NDArray:
    """Sums of counts over the members of each row, (rows, replicates), each matrix by itself exact."""
    first, *others = matrices
    found = (first @ counts).astype(dtype, copy=False)
    for one in others:
        found += one @ counts
    return found
