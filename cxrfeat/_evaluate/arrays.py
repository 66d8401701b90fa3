"""Curves, ranks and bins of one label, as plain functions over a truth and a score.

Every function takes the truth `y` (1 present, 0 absent, NaN unknown, shape (n,)) and a score or probability `p`
(shape (n,), higher means more likely present), and leaves out the images whose truth or score is unknown.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

Array = npt.NDArray[np.float64]

Z95 = 1.959964
"""Standard normal quantile of a 95 % interval."""


def unknown(y: npt.NDArray) -> npt.NDArray[np.bool_]:
    """Where the truth is not known: NaN, or below 0 in whole numbers."""
    return np.isnan(y) if y.dtype.kind == "f" else y < 0


def known(y: npt.ArrayLike, p: npt.ArrayLike) -> tuple[npt.NDArray[np.bool_], Array]:
    """Return the truth as booleans and the scores, of the images whose truth is known and score is a number."""
    truth, score = np.asarray(y), np.asarray(p, dtype=np.float64)
    keep = ~(unknown(truth) | np.isnan(score))
    return truth[keep] == 1, score[keep]


def as_codes(y: npt.NDArray) -> npt.NDArray[np.int8]:
    """The truth as int8: 1, 0, and -1 for what is not known, as everything else is."""
    return y if y.dtype == np.int8 else ((y == 1) - (~((y == 0) | (y == 1))).astype(np.int8)).astype(np.int8)


def numbered(names: npt.ArrayLike | pd.Series) -> tuple[npt.NDArray[np.int32], npt.NDArray]:
    """Number of each name (n,), from 0 and in the order of sorted names, and the sorted names."""
    if isinstance(names, pd.Series):  # hashed, since there are fewer names than rows to sort
        code, each = pd.factorize(names, sort=True)
        return code.astype(np.int32), np.asarray(each, dtype=str)
    names = np.asarray(names)
    if names.dtype.kind not in "iu" or not names.size or names.min() < 0 or names.max() > 4 * names.size:
        found, number = np.unique(names, return_inverse=True)
        return number.astype(np.int32), found
    there = np.bincount(names) > 0  # numbers already: nothing to sort
    return (np.cumsum(there, dtype=np.int32) - 1)[names], np.flatnonzero(there)


def ratio(a: npt.ArrayLike, b: npt.ArrayLike) -> Array:
    """Return a / b, NaN where b is 0."""
    over, under = np.broadcast_arrays(np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64))
    return np.divide(over, under, out=np.full(over.shape, np.nan), where=under != 0)


def roc_curve(y: npt.ArrayLike, p: npt.ArrayLike) -> tuple[Array, Array, Array]:
    """Rates of false and true positives, and thresholds (the first infinite), one per distinct score, highest first.

    All are empty if a class is absent.
    """
    tp, fp, thresholds = _cumulated(y, p)
    if not tp.size or not tp[-1] or not fp[-1]:
        return np.empty(0), np.empty(0), np.empty(0)
    return np.r_[0.0, fp / fp[-1]], np.r_[0.0, tp / tp[-1]], np.r_[np.inf, thresholds]


def precision_recall_curve(y: npt.ArrayLike, p: npt.ArrayLike) -> tuple[Array, Array, Array]:
    """Precision, recall and thresholds, one per distinct score, highest first; all empty without a positive."""
    tp, fp, thresholds = _cumulated(y, p)
    if not tp.size or not tp[-1]:
        return np.empty(0), np.empty(0), np.empty(0)
    return tp / (tp + fp), tp / tp[-1], thresholds


def bin_index(p: Array, bins: int) -> npt.NDArray[np.int64]:
    """Return the equal-width bin of each probability; 1.0 belongs to the last."""
    return np.clip((p * bins).astype(np.int64), 0, bins - 1)


def calibration_bins(
    y: npt.ArrayLike, p: npt.ArrayLike, patients: npt.ArrayLike, bins: int
) -> tuple[Array, Array, npt.NDArray[np.int64], Array]:
    """Mean probability, share of positives, images and patients in at most `bins` bins of about equally many images.

    Equal probabilities are never divided, so that there may be fewer bins. Patients are the number that would be as
    sure if all had equally many images.
    """
    positive, score = known(y, p)
    whose, _ = numbered(np.asarray(patients)[~(unknown(np.asarray(y)) | np.isnan(p))])
    if not score.size:
        return np.empty(0), np.empty(0), np.empty(0, dtype=np.int64), np.empty(0)
    inner = np.unique(np.quantile(score, np.arange(1, bins) / bins, method="inverted_cdf"))
    index = np.unique(np.searchsorted(inner, score), return_inverse=True)[1]
    count = np.bincount(index)
    pair, images = np.unique(index * len(whose) + whose, return_counts=True)
    effective = count**2 / np.bincount(pair // len(whose), weights=images.astype(float) ** 2)
    return np.bincount(index, weights=score) / count, np.bincount(index, weights=positive) / count, count, effective


def wilson(share: Array, n: Array) -> tuple[Array, Array]:
    """95 % interval of shares of n independent members (Wilson, JASA 1927, 22:209-212)."""
    middle = (share + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 * np.sqrt(share * (1 - share) / n + Z95**2 / (4 * n**2)) / (1 + Z95**2 / n)
    return middle - half, middle + half


def _cumulated(y: npt.ArrayLike, p: npt.ArrayLike) -> tuple[Array, Array, Array]:
    """True and false positives at each distinct score, highest first, and the scores."""
    positive, score = known(y, p)
    order = np.argsort(-score, kind="stable")
    positive, score = positive[order], score[order]
    last = np.r_[np.flatnonzero(np.diff(score)), score.size - 1] if score.size else np.empty(0, dtype=np.int64)
    tp = np.cumsum(positive, dtype=np.float64)[last]
    return tp, last + 1 - tp, score[last]
