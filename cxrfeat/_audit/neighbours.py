"""Exact cosines of all pairs, block by block: the alike ones are kept, the n x n others are never stored."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

BLOCK = 4096
"""Rows multiplied at once: a block of cosines takes 64 MiB."""
DIMENSIONS = 256
"""Of whitened vectors at most: beyond them is what differs between two copies of a film."""
QUERIES, NEAR, FAR = 512, 5, 40
"""Images that the distribution of cosines is read from, and the ranks of their neighbours it is read at. A film with
fewer than `NEAR` copies does not move it."""


class Pairs(NamedTuple):
    """Rows `a` < `b` (int64) and their `cosine` (float32)."""

    a: Ints
    b: Ints
    cosine: Vectors


def whitened(x: Vectors, dimensions: int = DIMENSIONS) -> Vectors:
    """Unit vectors of decorrelated features of equal variance, float32 (n, <= dimensions); `x` is centred in place.

    The average film is taken out, and the few directions in which all films differ count no more than the others
    (Jegou and Chum, ECCV 2012, LNCS 7573, pp. 774-787).
    """
    x -= x.mean(axis=0)
    values, vectors = np.linalg.eigh((x.T @ x).astype(np.float64) / len(x))
    kept = max(1, min(dimensions, len(x) // 2, int((values > 1e-9 * values[-1]).sum())))
    scale = vectors[:, -kept:] / np.sqrt(np.maximum(values[-kept:], np.finfo(float).tiny))
    return unit(x @ scale.astype(np.float32))


def unit(x: Vectors) -> Vectors:
    """Rows of length 1, in place; a row of zeros stays."""
    x /= np.maximum(np.linalg.norm(x, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return x


def alike(x: Vectors, threshold: float, most: int | None = None, block: int = BLOCK) -> Pairs:
    """Every pair of rows of unit vectors, float32 (n, d), whose cosine is at least `threshold`, highest first.

    Of more than `most` pairs the highest are kept. Each product of two blocks is computed once.
    """
    parts = [Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))]
    cosines = np.empty((block, block), np.float32)
    for first in range(0, len(x), block):
        for second in range(first, len(x), block):
            left, right = x[first : first + block], x[second : second + block]
            here = np.matmul(left, right.T, out=cosines[: len(left), : len(right)])
            at = np.flatnonzero(here >= threshold)
            a, b = first + at // len(right), second + at % len(right)
            once = a < b
            parts.append(Pairs(a[once], b[once], here.ravel()[at[once]]))
            if most is not None and sum(len(part.a) for part in parts) > 2 * most:
                parts = [_highest(parts, most)]
                threshold = max(threshold, float(parts[0].cosine[-1]))
    return _highest(parts, most)


def neighbours(x: Vectors, groups: Ints, queries: Ints, most: int) -> tuple[Ints, Vectors]:
    """The nearest rows of other groups of some rows, int64 (queries, most), and their cosines, nearest first."""
    places, cosines = [], []
    for start in range(0, len(queries), 64):
        mine = queries[start : start + 64]
        here = x[mine] @ x.T
        here[groups[mine][:, None] == groups[None]] = -2.0
        top = np.argpartition(-here, most - 1, axis=1)[:, :most]
        values = np.take_along_axis(here, top, axis=1)
        order = np.argsort(-values, axis=1)
        places.append(np.take_along_axis(top, order, axis=1))
        cosines.append(np.take_along_axis(values, order, axis=1))
    return np.concatenate(places), np.concatenate(cosines)


def level(cosines: Vectors, false: float) -> float:
    """The cosine at which an image has `false` neighbours on average that are no copies of it.

    Read from neighbours (queries, ranks) of other patients: between rank `NEAR` and the last the number of neighbours
    falls by e with every step of a fixed size, and that is continued. Tails of cosines are thinner: it is a bound, and
    may be above 1.
    """
    last = cosines.shape[1]
    near, far = np.median(cosines[:, NEAR - 1]), np.median(cosines[:, last - 1])
    return float(near + (near - far) / np.log(last / NEAR) * np.log(NEAR / false))


def _highest(parts: list[Pairs], most: int | None) -> Pairs:
    a, b, cosine = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    order = np.argsort(-cosine, kind="stable")[:most]
    return Pairs(a[order], b[order], cosine[order])
