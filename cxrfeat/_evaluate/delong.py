"""Variance of AUROCs, intervals and the paired test, without resampling.

DeLong, DeLong and Clarke-Pearson, Biometrics 1988, 44:837-845, with midranks as in Sun and Xu, IEEE Signal Processing
Letters 2014, 21(11):1389-1393, in O(n log n). With `patients`, the components are summed by patient first (Obuchowski,
Biometrics 1997, 53:567-578): images of one patient are not independent, and the plain variance is then too small.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.stats import norm, t

from cxrfeat._evaluate.arrays import Array, numbered

LEVEL = 0.95
"""Of every interval."""
MANY = 16
"""Patients of either class from which on a variance can be estimated from them."""


class Interval(NamedTuple):
    """An estimate with the ends of its interval."""

    value: float
    low: float
    high: float


class Difference(NamedTuple):
    """The difference of two paired AUROCs, its interval, the test statistic and the two-sided p-value."""

    value: float
    low: float
    high: float
    z: float
    p: float


def _components(positives: Array, negatives: Array) -> tuple[Array, Array]:
    """For each image the share of the other class that it ranks rightly, ties half: float64 (n+, k) and (n-, k).

    The mean of either over its rows is the AUROC of each of the k scores.
    """
    v10, v01 = np.empty(positives.shape), np.empty(negatives.shape)
    for k, (x, z) in enumerate(zip(positives.T.copy(), negatives.T.copy(), strict=True)):
        up, down = np.argsort(x), np.argsort(z)
        v10[up, k] = _beaten(z[down], x[up])
        v01[down, k] = 1.0 - _beaten(x[up], z[down])
    return v10, v01


def _cross(a: Array, b: Array) -> Array:
    """Sums of products of columns; einsum, since waking BLAS's threads takes longer than this."""
    return np.einsum("ik,il->kl", a, b)


def _beaten(others: Array, scores: Array) -> Array:
    """Share of the others that each score is above, ties half: its midrank among them; both in ascending order."""
    below, not_above = (np.searchsorted(others, scores, side=side) for side in ("left", "right"))
    return (below + not_above) / (2 * len(others))


def covariance(y: npt.ArrayLike, scores: npt.ArrayLike, patients: npt.ArrayLike | None = None) -> tuple[Array, Array]:
    """AUROC (k,) of each score of shape (n,) or (n, k), and their covariance matrix (k, k).

    NaN if a class is absent, and for the covariance if a class (with `patients`: the patients with one) has one member.
    """
    truth = np.asarray(y, dtype=np.float64)
    table = np.asarray(scores, dtype=np.float64).reshape(len(truth), -1)
    keep = ~(np.isnan(truth) | np.isnan(table).any(axis=1))
    truth, table = truth[keep], table[keep]
    k, positive = table.shape[1], truth == 1
    m, n = int(positive.sum()), int((~positive).sum())
    if not m or not n:
        return np.full(k, np.nan), np.full((k, k), np.nan)
    v10, v01 = _components(table[positive], table[~positive])
    aurocs = v10.mean(axis=0)
    v10, v01 = v10 - aurocs, v01 - aurocs
    if patients is not None:
        return aurocs, _clustered(v10, v01, positive, np.asarray(patients)[keep])
    if m < 2 or n < 2:
        return aurocs, np.full((k, k), np.nan)
    return aurocs, _cross(v10, v10) / (m * (m - 1)) + _cross(v01, v01) / (n * (n - 1))


def interval(y: npt.ArrayLike, score: npt.ArrayLike) -> Interval:
    """AUROC with DeLong's normal interval, which takes images for independent, cut to [0, 1]."""
    aurocs, matrix = covariance(y, score)
    half = norm.ppf(0.5 + LEVEL / 2) * np.sqrt(matrix[0, 0])
    return Interval(float(aurocs[0]), *(float(x) for x in np.clip([aurocs[0] - half, aurocs[0] + half], 0, 1)))


def over_patients(y: npt.ArrayLike, score: npt.ArrayLike, patients: npt.ArrayLike) -> Interval:
    """AUROC with an interval that holds with few patients, too.

    From `MANY` patients of each class on: Obuchowski's variance on the scale of the logit, and Student's t with as many
    degrees of freedom as the smaller class has patients, less one. Below, where a variance cannot be estimated: the
    AUROCs that the estimate does not refute if all images of a patient are one (Newcombe, Statist. Med. 2006,
    25:559-573, method 5), which needs the numbers of patients alone. NaN with fewer than two patients of a class.
    """
    truth, patient = np.asarray(y, dtype=np.float64), np.asarray(patients)
    aurocs, matrix = covariance(truth, score, patient)
    value, variance = float(aurocs[0]), float(matrix[0, 0])
    known = ~(np.isnan(truth) | np.isnan(np.asarray(score, dtype=np.float64)))
    number, _ = numbered(patient)
    sizes = [images[images > 0] for images in (np.bincount(number[known & (truth == side)]) for side in (1, 0))]
    fewest = min(map(len, sizes))
    if np.isnan(value) or fewest < 2:
        return Interval(value, np.nan, np.nan)
    if fewest >= MANY and variance > 0 and 0 < value < 1:
        half = t.ppf(0.5 + LEVEL / 2, fewest - 1) * np.sqrt(variance) / (value * (1 - value))
        middle = np.log(value / (1 - value))
        return Interval(value, *(float(1 / (1 + np.exp(-(middle + side * half)))) for side in (-1, 1)))
    # As many patients as would give this precision if all had equally many images.
    m, n = (float(size.sum() ** 2 / (size**2).sum()) for size in sizes)
    return Interval(value, *_newcombe(value, m, n, norm.ppf(0.5 + LEVEL / 2)))


def _newcombe(value: float, m: float, n: float, z: float) -> tuple[float, float]:
    """Ends of the AUROCs whose distance to the estimate is within z standard errors, as they would have them."""
    pairs = (m + n) / 2 - 1

    def apart(at: float) -> float:
        variance = at * (1 - at) * (1 + pairs * (1 - at) / (2 - at) + pairs * at / (1 + at)) / (m * n)
        return (value - at) ** 2 - z**2 * variance

    near = 1e-9
    low = float(brentq(apart, 0.0, value - near)) if value > 2 * near else 0.0
    high = float(brentq(apart, value + near, 1.0)) if value < 1 - 2 * near else 1.0
    return low, high


def paired(y: npt.ArrayLike, a: npt.ArrayLike, b: npt.ArrayLike, patients: npt.ArrayLike | None = None) -> Difference:
    """AUROC of `b` minus AUROC of `a`, on the same images, with its 95 % interval and test.

    With `patients` the test is Student's t, with as many degrees of freedom as the smaller class has patients, less
    one; without, normal. The p-value is 1 and z is 0 where the two rank every pair alike; NaN where a class is absent.
    """
    truth = np.asarray(y, dtype=np.float64)
    aurocs, matrix = covariance(truth, np.column_stack([np.asarray(a), np.asarray(b)]), patients)
    value = float(aurocs[1] - aurocs[0])
    variance = float(matrix[0, 0] + matrix[1, 1] - 2 * matrix[0, 1])
    if np.isnan(variance):
        return Difference(value, *[float("nan")] * 4)
    # Equal rankings leave rounding noise of 1e-18 where the variance is exactly zero.
    error = np.sqrt(variance) if variance > 1e-16 else 0.0
    if not error:
        same = abs(value) < 1e-12
        return Difference(value, value, value, 0.0 if same else np.copysign(np.inf, value), 1.0 if same else 0.0)
    law = norm
    if patients is not None:
        fewest = min(len(numbered(np.asarray(patients)[truth == side])[1]) for side in (1, 0))
        law = t(fewest - 1)
    half, z = law.ppf(0.5 + LEVEL / 2) * error, value / error
    return Difference(value, float(value - half), float(value + half), float(z), float(2 * law.sf(abs(z))))


def holm(p_values: Sequence[float] | Array) -> Array:
    """Adjusted p-values that keep the chance of any false finding (Holm, Scand. J. Statist. 1979); NaN stays NaN."""
    p = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(p.shape, np.nan)
    order = np.argsort(p)[: int((~np.isnan(p)).sum())]
    steps = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def _clustered(v10: Array, v01: Array, positive: npt.NDArray[np.bool_], patients: npt.NDArray) -> Array:
    """Obuchowski's covariance from centred components (equations 3 to 5)."""
    m, n = len(v10), len(v01)
    of, names = numbered(patients)
    size, k = len(names), v10.shape[1]
    with_positive, with_negative = (np.count_nonzero(np.bincount(of[side])) for side in (positive, ~positive))
    if with_positive < 2 or with_negative < 2:
        return np.full((k, k), np.nan)
    sum10, sum01 = (
        np.stack([np.bincount(of[side], column, size).astype(np.float64, copy=False) for column in v.T], axis=1)
        for side, v in ((positive, v10), (~positive, v01))
    )
    s10 = _cross(sum10, sum10) * with_positive / ((with_positive - 1) * m)
    s01 = _cross(sum01, sum01) * with_negative / ((with_negative - 1) * n)
    s11 = _cross(sum10, sum01) * size / (size - 1)
    return s10 / m + s01 / n + (s11 + s11.T) / (m * n)
