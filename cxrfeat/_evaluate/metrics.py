"""Metrics of one finding, as plain functions over a truth and a score.

Every function takes the truth `y` (1 present, 0 absent, NaN unknown, shape (n,)) and a score or probability `p`
(shape (n,), higher means more likely present), leaves out the images whose truth is unknown, and answers NaN where the
metric is not defined: an AUROC without a positive, a precision without a predicted positive.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

Array = npt.NDArray[np.float64]

ECE_BINS = 15
"""Equal-width bins of the expected calibration error (Guo et al., ICML 2017)."""


def known(y: npt.ArrayLike, p: npt.ArrayLike) -> tuple[npt.NDArray[np.bool_], Array]:
    """Return the truth as booleans and the scores, of the images whose truth is known and score is a number."""
    truth, score = np.asarray(y, dtype=np.float64), np.asarray(p, dtype=np.float64)
    keep = ~(np.isnan(truth) | np.isnan(score))
    return truth[keep] == 1, score[keep]


def auroc(y: npt.ArrayLike, p: npt.ArrayLike) -> float:
    """Area under the ROC curve, as the Mann-Whitney statistic: P(score of a positive > of a negative), ties half.

    Parameters
    ----------
    y : array-like, shape (n,)
        1, 0 or NaN (unknown).
    p : array-like, shape (n,)
        Probabilities or any other scores.

    Returns
    -------
    float
        In [0, 1]; NaN if a class is absent.
    """
    positive, score = known(y, p)
    m, n = int(positive.sum()), int((~positive).sum())
    if not m or not n:
        return float("nan")
    ranks = rankdata(score)
    return float((ranks[positive].sum() - m * (m + 1) / 2) / (m * n))


def roc_curve(y: npt.ArrayLike, p: npt.ArrayLike) -> tuple[Array, Array, Array]:
    """Points of the ROC curve, one per distinct score, highest first, from (0, 0) to (1, 1).

    Parameters
    ----------
    y : array-like, shape (n,)
        1, 0 or NaN (unknown).
    p : array-like, shape (n,)
        Probabilities or any other scores.

    Returns
    -------
    false_positive_rate, true_positive_rate, thresholds : float64 (k,)
        A score >= `thresholds[i]` counts as positive; the first threshold is infinite. All empty if a class is absent.
    """
    tp, fp, thresholds = _cumulated(y, p)
    if not tp.size or not tp[-1] or not fp[-1]:
        return np.empty(0), np.empty(0), np.empty(0)
    return np.r_[0.0, fp / fp[-1]], np.r_[0.0, tp / tp[-1]], np.r_[np.inf, thresholds]


def auroc_trapezoid(y: npt.ArrayLike, p: npt.ArrayLike) -> float:
    """Area under the ROC curve by the trapezoidal rule; equal to `auroc`, since ties make slanted segments."""
    fpr, tpr, _ = roc_curve(y, p)
    return float(np.trapezoid(tpr, fpr)) if fpr.size else float("nan")


def precision_recall_curve(y: npt.ArrayLike, p: npt.ArrayLike) -> tuple[Array, Array, Array]:
    """Points of the precision-recall curve, one per distinct score, highest first.

    Parameters
    ----------
    y : array-like, shape (n,)
        1, 0 or NaN (unknown).
    p : array-like, shape (n,)
        Probabilities or any other scores.

    Returns
    -------
    precision, recall, thresholds : float64 (k,)
        All empty if there is no positive.
    """
    tp, fp, thresholds = _cumulated(y, p)
    if not tp.size or not tp[-1]:
        return np.empty(0), np.empty(0), np.empty(0)
    return tp / (tp + fp), tp / tp[-1], thresholds


def average_precision(y: npt.ArrayLike, p: npt.ArrayLike) -> float:
    """Average precision: the sum of precision over the steps of recall, without interpolation.

    A score that knows nothing has the prevalence as its expected value. NaN if there is no positive.

    Parameters
    ----------
    y : array-like, shape (n,)
        1, 0 or NaN (unknown).
    p : array-like, shape (n,)
        Probabilities or any other scores.
    """
    precision, recall, _ = precision_recall_curve(y, p)
    return float(np.sum(precision * np.diff(recall, prepend=0.0))) if precision.size else float("nan")


def confusion(y: npt.ArrayLike, p: npt.ArrayLike, threshold: float) -> tuple[int, int, int, int]:
    """Count true positives, false positives, false negatives and true negatives; p >= threshold is positive.

    Parameters
    ----------
    y : array-like, shape (n,)
        1, 0 or NaN (unknown).
    p : array-like, shape (n,)
        Probabilities.
    threshold : float
        The probability from which on an image is called positive.
    """
    positive, score = known(y, p)
    called = score >= threshold
    return (
        int((called & positive).sum()),
        int((called & ~positive).sum()),
        int((~called & positive).sum()),
        int((~called & ~positive).sum()),
    )


def rates(tp: npt.ArrayLike, fp: npt.ArrayLike, fn: npt.ArrayLike, tn: npt.ArrayLike) -> dict[str, Array]:
    """Sensitivity, specificity, PPV, NPV, F1 and accuracy from counts of any shape; NaN where a denominator is 0.

    Parameters
    ----------
    tp, fp, fn, tn : array-like
        Counts of one shape.
    """
    a, b, c, d = (np.asarray(x, dtype=np.float64) for x in (tp, fp, fn, tn))
    return {
        "sensitivity": ratio(a, a + c),
        "specificity": ratio(d, d + b),
        "ppv": ratio(a, a + b),
        "npv": ratio(d, d + c),
        # Without a positive, recall has no value, and so its mean with precision has none.
        "f1": np.where(a + c > 0, ratio(2 * a, 2 * a + b + c), np.nan),
        "accuracy": ratio(a + d, a + b + c + d),
    }


def ratio(a: npt.ArrayLike, b: npt.ArrayLike) -> Array:
    """Return a / b, NaN where b is 0."""
    over, under = np.broadcast_arrays(np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64))
    return np.divide(over, under, out=np.full(over.shape, np.nan), where=under != 0)


def brier(y: npt.ArrayLike, p: npt.ArrayLike) -> float:
    """Mean squared difference of probability and truth; 0 is best. NaN without images.

    Parameters
    ----------
    y : array-like, shape (n,)
        1, 0 or NaN (unknown).
    p : array-like, shape (n,)
        Probabilities.
    """
    positive, score = known(y, p)
    return float(np.mean((score - positive) ** 2)) if score.size else float("nan")


def calibration_bins(
    y: npt.ArrayLike, p: npt.ArrayLike, bins: int = ECE_BINS
) -> tuple[Array, Array, npt.NDArray[np.int64]]:
    """Mean probability, observed share of positives and number of images in equal-width bins of [0, 1].

    Parameters
    ----------
    y : array-like, shape (n,)
        1, 0 or NaN (unknown).
    p : array-like, shape (n,)
        Probabilities.
    bins : int
        Number of equal-width bins of [0, 1].

    Returns
    -------
    predicted, observed : float64 (bins,)
        NaN in an empty bin.
    count : int64 (bins,)
    """
    positive, score = known(y, p)
    index = bin_index(score, bins)
    count = np.bincount(index, minlength=bins)
    predicted = ratio(np.bincount(index, weights=score, minlength=bins), count)
    observed = ratio(np.bincount(index, weights=positive.astype(np.float64), minlength=bins), count)
    return predicted, observed, count


def bin_index(p: Array, bins: int = ECE_BINS) -> npt.NDArray[np.int64]:
    """Return the equal-width bin of each probability; 1.0 belongs to the last."""
    return np.clip((p * bins).astype(np.int64), 0, bins - 1)


def expected_calibration_error(y: npt.ArrayLike, p: npt.ArrayLike, bins: int = ECE_BINS) -> float:
    """Mean over images of |mean probability - share of positives| of their bin (Guo et al., ICML 2017).

    It is biased upwards on few images: even a calibrated head has an ECE above 0.

    Parameters
    ----------
    y : array-like, shape (n,)
        1, 0 or NaN (unknown).
    p : array-like, shape (n,)
        Probabilities.
    bins : int
        Number of equal-width bins of [0, 1].
    """
    predicted, observed, count = calibration_bins(y, p, bins)
    full = count > 0
    if not full.any():
        return float("nan")
    return float(np.sum(count[full] * np.abs(predicted - observed)[full]) / count.sum())


def label_accuracy(y: npt.ArrayLike, p: npt.ArrayLike, thresholds: npt.ArrayLike = 0.5) -> float:
    """Share of correct labels over all images and labels (Fan and Bu, Entropy 2022, 24(3):313, equation 1).

    Parameters
    ----------
    y, p : array (n, labels)
        Unknown labels, and labels without a threshold, do not count.
    thresholds : float or array (labels,)
        One for all labels, or one each.

    Notes
    -----
    Most labels of most X-rays are absent, so that saying "nothing" everywhere scores high: compare with
    `all_negative_accuracy`.
    """
    truth, score = np.asarray(y, dtype=np.float64), np.asarray(p, dtype=np.float64)
    cut = np.broadcast_to(np.asarray(thresholds, dtype=np.float64), truth.shape)
    counts = ~(np.isnan(truth) | np.isnan(score) | np.isnan(cut))
    correct = (score >= cut) == (truth == 1)
    return float(correct[counts].mean()) if counts.any() else float("nan")


def all_negative_accuracy(y: npt.ArrayLike) -> float:
    """`label_accuracy` of a head that calls every label absent: 0.948 on the full table of ChestX-ray14.

    Parameters
    ----------
    y : array-like, shape (n, labels)
        1, 0 or NaN (unknown).
    """
    truth = np.asarray(y, dtype=np.float64)
    truth = truth[~np.isnan(truth)]
    return float((truth == 0).mean()) if truth.size else float("nan")


def _cumulated(y: npt.ArrayLike, p: npt.ArrayLike) -> tuple[Array, Array, Array]:
    """True and false positives at each distinct score, highest first, and the scores."""
    positive, score = known(y, p)
    order = np.argsort(-score, kind="stable")
    positive, score = positive[order], score[order]
    last = np.r_[np.flatnonzero(np.diff(score)), score.size - 1] if score.size else np.empty(0, dtype=np.int64)
    tp = np.cumsum(positive, dtype=np.float64)[last]
    return tp, last + 1 - tp, score[last]
