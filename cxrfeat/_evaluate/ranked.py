"""The sums behind metrics of ranks, under many weightings at once: what makes the bootstrap fast.

A bootstrap replicate is a whole-number weight per patient: how often the patient was drawn. Scores are sorted once.
Between two neighbouring positive scores all negatives count alike, so that a weighting's false positives at every
positive score are one sparse matrix product and a running sum, for a block of replicates together; equal scores share
a row, and so ties are exact.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import sparse

from cxrfeat._evaluate.arrays import known

Array = npt.NDArray[np.float64]

ROWS = 1024
"""Rows of a running sum that are worked on together, so that they stay in the processor's cache."""


class Ranked:
    """One label's scores (n,), sorted, ready to be weighted by cluster; `cluster` (n,) counts from 0.

    `dtype` is that of the running sums: float32 counts exactly up to 2**24 images.
    """

    def __init__(
        self,
        y: npt.ArrayLike,
        p: npt.ArrayLike,
        cluster: npt.NDArray[np.int64],
        clusters: int,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        positive, score = known(y, p)
        cluster = cluster[~(np.isnan(np.asarray(y, dtype=float)) | np.isnan(np.asarray(p, dtype=float)))]
        values = np.unique(score[positive])  # ascending; row k of every matrix is the k-th value from the top
        rows, x, z = len(values), score[positive], score[~positive]
        below = rows - np.searchsorted(values, z, side="right")  # the first row whose value is <= z; `rows` if none
        tied = below < rows
        tied[tied] = values[rows - 1 - below[tied]] == z[tied]

        def matrix(at: npt.NDArray[np.int64], who: npt.NDArray[np.int64], height: int) -> sparse.csr_matrix:
            return sparse.csr_matrix((np.ones(len(at), dtype), (at, who)), shape=(height, clusters), dtype=dtype)

        whose, others = cluster[positive], cluster[~positive]
        gained = matrix(rows - 1 - np.searchsorted(values, x), whose, rows)
        passed = matrix(below, others, rows + 1)
        # Few scores of a network are equal: only the rows where a positive meets a negative are kept for the halves.
        meeting = np.unique(below[tied])
        self._ties = matrix(np.searchsorted(meeting, below[tied]), others[tied], len(meeting))
        self._met = gained[meeting]
        self._chunks = [(gained[a : a + ROWS], passed[a : min(a + ROWS, rows)]) for a in range(0, rows, ROWS)]
        self._positives = np.bincount(whose, minlength=clusters).astype(np.float64)
        self._negatives = np.bincount(others, minlength=clusters).astype(np.float64)
        self._dtype = dtype

    def weigh(self, counts: npt.NDArray) -> tuple[Array, Array, Array, Array]:
        """Return the sums that `Metric.RANKS` names, float64 (replicates,) each, for counts (clusters, replicates)."""
        counts = np.ascontiguousarray(counts, dtype=self._dtype)
        width = counts.shape[1]
        positives, negatives = self._positives @ counts, self._negatives @ counts
        wrong, precise = np.zeros(width), np.zeros(width)
        tp_so_far, fp_so_far = np.zeros(width, self._dtype), np.zeros(width, self._dtype)
        for gained, passed in self._chunks:
            new = gained @ counts
            tp, fp = new.copy(), passed @ counts
            tp[0] += tp_so_far
            fp[0] += fp_so_far
            np.cumsum(tp, axis=0, out=tp)
            np.cumsum(fp, axis=0, out=fp)
            tp_so_far, fp_so_far = tp[-1].copy(), fp[-1].copy()
            wrong += np.einsum("kb,kb->b", new, fp, dtype=np.float64)
            # tp / (tp + fp); where nothing was drawn yet the row gains nothing either, and the divisor may be anything.
            fp += tp
            np.maximum(fp, 1, out=fp)
            np.divide(tp, fp, out=tp)
            precise += np.einsum("kb,kb->b", new, tp, dtype=np.float64)
        if self._ties.shape[0]:
            wrong -= 0.5 * np.einsum("kb,kb->b", self._met @ counts, self._ties @ counts, dtype=np.float64)
        right = positives * negatives - wrong
        return right, precise, positives.astype(np.float64), negatives.astype(np.float64)
