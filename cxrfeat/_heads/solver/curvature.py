"""An approximate Hessian for each label, from the rows that make up most of it.

The Hessian of one label is X' diag(h) X + I with h = C s p (1 - p). Rows are drawn with a probability proportional to
their h, at most 1, and weighted by its inverse: the expectation is the Hessian itself, and rows that carry much of it,
such as the few positives of a rare label, are all in. Its Cholesky factor is a preconditioner: what the draw misses
costs iterations, never accuracy.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from cxrfeat._heads.solver.rows import Rows, sigmoid

Floats = npt.NDArray[np.float64]

ROWS_PER_FEATURE = 4
FLUSH = 512


class Factors:
    """Cholesky factors of the labels' sampled Hessians, float32 (features + 1, features + 1) each.

    `weight` is (rows, labels), including C; `mean` and `scale` are (features,).
    """

    def __init__(self, rows: Rows, weight: npt.NDArray[Any], mean: Floats, scale: Floats, intercept: bool) -> None:
        self.rows, self.weight, self.intercept = rows, weight, intercept
        self.mean, self.scale = mean.astype(np.float32), scale.astype(np.float32)
        self.factors: dict[int, npt.NDArray[np.float32]] = {}
        self.stretch: dict[int, float] = {}
        self.made = 0

    def renew(self, labels: list[int], z: npt.NDArray[Any]) -> None:
        """Make the factors of some labels anew at logits `z`, (rows, len(labels)); one sweep for all of them."""
        from scipy.linalg import blas

        features = self.rows.shape[1]
        drawn = [self._draw(k, z[:, i]) for i, k in enumerate(labels)]
        for k in labels:  # the old factors make room for the new
            self.factors.pop(k, None)
        grams = [np.zeros((features + 1, features + 1), dtype=np.float32, order="F") for _ in labels]
        buffers: list[list[npt.NDArray[np.float32]]] = [[] for _ in labels]

        def flush(i: int) -> None:
            part = np.concatenate(buffers[i])
            grams[i] = blas.ssyrk(1.0, part.T, beta=1.0, c=grams[i], lower=True, overwrite_c=True)
            buffers[i].clear()

        for place, x in self.rows.blocks():
            for i, (chosen, root) in enumerate(drawn):
                first, last = np.searchsorted(chosen, (place.start, place.stop))
                if first == last:
                    continue
                buffers[i].append(self._standardised(x[chosen[first:last] - place.start], root[first:last]))
                if sum(map(len, buffers[i])) >= FLUSH:
                    flush(i)
        for i, k in enumerate(labels):
            if buffers[i]:
                flush(i)
            # One turns into the other: there are never two sets of them.
            self.factors[k], self.stretch[k] = _cholesky(grams[i], self.intercept), 1.0
            grams[i] = np.empty((0, 0), dtype=np.float32)
        self.made += len(labels)

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

    def _draw(self, label: int, z: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Rows drawn for a label, and the root of what each represents."""
        p = sigmoid(z.astype(np.float64))
        h = self.weight[:, label] * p * (1 - p)
        wanted = ROWS_PER_FEATURE * len(self.scale)
        if wanted >= len(h) or h.sum() <= 0:
            chosen = (h > 0).nonzero()[0]
            return chosen, np.sqrt(h[chosen]).astype(np.float32)
        chance = h * (wanted / h.sum())
        for _ in range(4):  # what is cut off at 1 is handed to the rest
            np.minimum(chance, 1, out=chance)
            chance *= wanted / chance.sum()
        np.minimum(chance, 1, out=chance)
        # Drawn by label and not by how often or where: the same problem always takes the same course.
        chosen = (np.random.default_rng(label).random(len(h)) < chance).nonzero()[0]
        return chosen, np.sqrt(h[chosen] / chance[chosen]).astype(np.float32)

    def _standardised(self, x: npt.NDArray[Any], root: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        out = np.empty((len(x), x.shape[1] + 1), dtype=np.float32)
        np.subtract(x, self.mean, out=out[:, :-1])
        out[:, :-1] /= self.scale
        out[:, -1] = 1.0
        out *= root[:, None]
        return out


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
