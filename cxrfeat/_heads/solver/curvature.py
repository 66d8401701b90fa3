"""An approximate Hessian for each label, from the rows that make up most of it.

The Hessian of one label is X' diag(h) X + I with h = C s p (1 - p); the first part is estimated from some rows
(`Sums.grams`). Its Cholesky factor is a preconditioner: what the draw misses costs iterations, never accuracy.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cxrfeat._heads.solver.sums import Sums

Floats = npt.NDArray[np.float64]

ROWS_PER_FEATURE = 4


class Factors:
    """Cholesky factors of the labels' sampled Hessians, float32 (features + 1, features + 1) each."""

    def __init__(self, intercept: bool, rows_per_feature: int = ROWS_PER_FEATURE) -> None:
        self.intercept, self.rows_per_feature = intercept, rows_per_feature
        self.factors: dict[int, npt.NDArray[np.float32]] = {}
        self.stretch: dict[int, float] = {}

    def renew(self, sums: Sums, labels: list[int], columns: list[int]) -> None:
        """Make the factors of some labels anew where a search stands, in one sweep; they are `columns` of it."""
        for k in labels:  # the old factors make room for the new
            self.factors.pop(k, None)
        rows = np.full(len(labels), float(self.rows_per_feature * sums.shape[1]))
        for k, gram in zip(labels, sums.grams(np.array(columns, dtype=np.int64), rows), strict=True):
            self.factors[k], self.stretch[k] = _cholesky(gram, self.intercept), 1.0

    def transport(self, ratio: Floats) -> None:
        """Carry the factors over to C so many times as large, (labels,): exact but where the penalty rules."""
        for label in self.stretch:
            self.stretch[label] *= float(ratio[label])

    def solve(self, label: int, gradient: Floats) -> Floats:
        """The factor's system solved for one gradient, (features + 1,)."""
        from scipy.linalg import lapack

        answer, _ = lapack.spotrs(self.factors[label], gradient.astype(np.float32), lower=True)
        if not self.intercept:
            answer[-1] = 0.0
        return answer.ravel().astype(np.float64) / self.stretch[label]


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
