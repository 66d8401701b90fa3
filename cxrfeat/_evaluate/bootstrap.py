"""Every metric of every label, with intervals from resampling patients.

Images of one patient are alike, so that patients and not images are drawn with replacement, as often as there are
(a cluster bootstrap). A replicate is then a whole-number weight per patient: what depends on a threshold or on bins is
one matrix product with per-patient sums, and what depends on ranks comes from `cxrfeat._evaluate.ranked`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cxrfeat._evaluate import metrics
from cxrfeat._evaluate.delong import LEVEL
from cxrfeat._evaluate.ranked import Ranked
from cxrfeat._progress import Progress, silent

Array = npt.NDArray[np.float64]

REPLICATES = 2000
BLOCK = 64
"""Replicates drawn together, from one stream of random numbers: part of what a seed means, so never a setting."""

METRICS = (
    "auroc",
    "average_precision",
    "sensitivity",
    "specificity",
    "ppv",
    "npv",
    "f1",
    "accuracy",
    "accuracy_at_half",
    "all_negative_accuracy",
    "brier",
    "ece",
)
"""In the order of tables. `accuracy` is at the stored thresholds, `accuracy_at_half` at 0.5."""

_LINEAR = 8  # tp, fp, fn, tn, right at 0.5, squared error, images, positives; then one signed error per bin


class Sample:
    """Labels, scores and patients, arranged so that every metric can be had under many weightings at once.

    Parameters
    ----------
    y, p : array (n, labels)
        Truth (1, 0, NaN unknown) and probability.
    patients : array (n,)
    thresholds : array (labels,)
        NaN where there is none.
    dtype : numpy dtype
        Of the running sums over ranks.
    """

    def __init__(
        self,
        y: npt.ArrayLike,
        p: npt.ArrayLike,
        patients: npt.ArrayLike,
        thresholds: npt.ArrayLike,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        truth, score = np.asarray(y, dtype=np.float64), np.asarray(p, dtype=np.float64)
        names, cluster = np.unique(np.asarray(patients), return_inverse=True)
        cut = np.asarray(thresholds, dtype=np.float64)
        self.clusters, self.labels = len(names), truth.shape[1]
        self._ranked = [Ranked(truth[:, j], score[:, j], cluster, self.clusters, dtype) for j in range(self.labels)]
        if self.labels > 1:
            everyone = np.repeat(cluster, self.labels)
            # Counts of all labels together must stay exact, too.
            wide = np.float64 if truth.size > 2**22 else dtype
            self._ranked.append(Ranked(truth.ravel(), score.ravel(), everyone, self.clusters, wide))
        sums = [_sums(truth[:, j], score[:, j], cut[j], cluster, self.clusters) for j in range(self.labels)]
        self._sums = np.concatenate(sums, axis=1)

    def weigh(self, counts: npt.NDArray) -> dict[str, Array]:
        """Every metric of `METRICS`, for each label, their mean (macro) and all labels pooled (micro).

        Parameters
        ----------
        counts : array (patients, replicates)
            How often each patient, in sorted order, was drawn.

        Returns
        -------
        dict of float64 (replicates, labels + 2)
            NaN where a metric is not defined. Macro runs over the labels that have an AUROC (both classes).
        """
        ranks = [ranked.weigh(counts) for ranked in self._ranked]
        if self.labels == 1:
            ranks.append(ranks[0])
        linear = (counts.T.astype(np.float64) @ self._sums).reshape(counts.shape[1], self.labels, -1)
        pooled = np.concatenate([linear, linear.sum(axis=1, keepdims=True)], axis=1)
        tp, fp, fn, tn, right, squared, images, positives = np.moveaxis(pooled[..., :_LINEAR], -1, 0)
        found = {
            "auroc": np.stack([auroc for auroc, _ in ranks], axis=1),
            "average_precision": np.stack([precise for _, precise in ranks], axis=1),
            **metrics.rates(tp, fp, fn, tn),
            "accuracy_at_half": metrics.ratio(right, images),
            "all_negative_accuracy": metrics.ratio(images - positives, images),
            "brier": metrics.ratio(squared, images),
            "ece": metrics.ratio(np.abs(pooled[..., _LINEAR:]).sum(axis=-1), images),
        }
        comparable = ~np.isnan(found["auroc"][:, :-1])
        return {name: _with_macro(found[name], comparable) for name in METRICS}


@dataclass(frozen=True)
class Replicates:
    """Bootstrap replicates of every metric.

    Attributes
    ----------
    draws : mapping of float64 (replicates, labels + 2)
        By metric; the last two columns are macro and micro.
    seed : int
    """

    draws: Mapping[str, Array]
    seed: int

    def __len__(self) -> int:
        return len(next(iter(self.draws.values())))

    def interval(self, metric: str, level: float = LEVEL) -> Array:
        """Percentile interval, float64 (labels + 2, 2), over the replicates where the metric is defined.

        Parameters
        ----------
        metric : str
            One of `METRICS`.
        level : float
            Coverage, 0.95 for 95 %.
        """
        return percentiles(self.draws[metric], level)

    def undefined(self, metric: str) -> npt.NDArray[np.int64]:
        """Number of replicates (labels + 2,) without a value, since a draw held one class only.

        Parameters
        ----------
        metric : str
            One of `METRICS`.
        """
        return np.isnan(self.draws[metric]).sum(axis=0)


def percentiles(values: Array, level: float = LEVEL) -> Array:
    """Percentile interval of each column, float64 (columns, 2), leaving out NaN; NaN where a column has nothing."""
    ends = np.full((values.shape[1], 2), np.nan)
    some = ~np.isnan(values).all(axis=0)
    if some.any():
        ends[some] = np.nanquantile(values[:, some], [0.5 - level / 2, 0.5 + level / 2], axis=0).T
    return ends


def point(y: npt.ArrayLike, p: npt.ArrayLike, thresholds: npt.ArrayLike) -> dict[str, Array]:
    """Every metric on the images as they are: float64 (labels + 2,) by name, macro and micro last."""
    n = len(np.asarray(y))
    values = Sample(y, p, np.zeros(n, dtype=int), thresholds, np.float64).weigh(np.ones((1, 1)))
    return {name: value[0] for name, value in values.items()}


def bootstrap(
    y: npt.ArrayLike,
    p: npt.ArrayLike,
    patients: npt.ArrayLike,
    thresholds: npt.ArrayLike,
    replicates: int = REPLICATES,
    seed: int = 0,
    threads: int | None = None,
    progress: Progress = silent,
) -> Replicates:
    """Resample patients with replacement and take every metric of every draw.

    Equal `patients`, `replicates` and `seed` give equal draws, whatever the scores and the number of threads: the
    replicates of two heads on the same images are paired.

    Parameters
    ----------
    y, p : array (n, labels)
        Truth (1, 0, NaN unknown) and probability.
    patients : array (n,)
        Patient of each image.
    thresholds : array (labels,)
        A probability >= threshold calls the label present; NaN where there is none.
    replicates : int
        How many draws.
    seed : int
        Equal seeds and patients give equal draws.
    threads : int, optional
        By default one per processor.
    progress : Progress
        Told of each block of draws.

    References
    ----------
    Field and Welsh, "Bootstrapping clustered data", J. R. Statist. Soc. B 2007, 69:369-390.
    """
    sample = Sample(y, p, patients, thresholds)
    starts = range(0, replicates, BLOCK)

    def block(start: int) -> dict[str, Array]:
        counts = draw(sample.clusters, seed, start // BLOCK)
        return sample.weigh(counts[:, : replicates - start])

    parts = []
    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
        for part in pool.map(block, starts):
            parts.append(part)
            progress(min(len(parts) * BLOCK, replicates), replicates)
    empty = np.empty((0, sample.labels + 2))
    return Replicates({name: np.concatenate([empty, *(part[name] for part in parts)]) for name in METRICS}, seed)


def means(
    values: npt.ArrayLike, patients: npt.ArrayLike, replicates: int = REPLICATES, seed: int = 0, level: float = LEVEL
) -> Array:
    """Column means of values (rows, columns) without NaN, and their percentile intervals, resampling patients.

    Returns
    -------
    float64 (columns, 3)
        Mean, low, high. With fewer than 2 patients there is nothing to resample, and the interval is NaN.
    """
    table = np.asarray(values, dtype=np.float64)
    names, cluster = np.unique(np.asarray(patients), return_inverse=True)
    known = ~np.isnan(table)
    sums = np.zeros((len(names), 2, table.shape[1]))
    np.add.at(sums, cluster, np.stack([np.where(known, table, 0.0), known], axis=1))
    total, counted = sums.sum(axis=0)
    mean = metrics.ratio(total, counted)[:, None]
    if len(names) < 2:
        return np.concatenate([mean, np.full((len(mean), 2), np.nan)], axis=1)
    blocks = range(-(-replicates // BLOCK))
    counts = np.concatenate([draw(len(names), seed, block) for block in blocks], axis=1)[:, :replicates]
    drawn = np.tensordot(counts.T.astype(np.float64), sums, axes=1)
    return np.concatenate([mean, percentiles(metrics.ratio(drawn[:, 0], drawn[:, 1]), level)], axis=1)


def draw(clusters: int, seed: int, block: int) -> npt.NDArray[np.float32]:
    """How often each cluster is drawn in the replicates of one block, float32 (clusters, BLOCK)."""
    rng = np.random.default_rng([seed, block])
    drawn = rng.integers(0, clusters, (BLOCK, clusters)) + clusters * np.arange(BLOCK)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=BLOCK * clusters)
    return np.ascontiguousarray(counts.reshape(BLOCK, clusters).T, dtype=np.float32)


def _sums(y: Array, p: Array, threshold: float, cluster: npt.NDArray[np.int64], clusters: int) -> Array:
    """Per-patient sums of what threshold, squared-error and calibration metrics are made of."""
    here = ~(np.isnan(y) | np.isnan(p))
    positive, score = metrics.known(y, p)
    who, cut = cluster[here], not np.isnan(threshold)
    called = score >= threshold
    columns = [
        cut & called & positive,
        cut & called & ~positive,
        cut & ~called & positive,
        cut & ~called & ~positive,
        (score >= 0.5) == positive,
        (score - positive) ** 2,
        np.ones(len(score)),
        positive,
    ]
    sums = np.stack([np.bincount(who, weights=c.astype(np.float64), minlength=clusters) for c in columns], axis=1)
    # In a bin, |mean probability - share of positives| times its images is |sum of (probability - truth)|.
    at = who * metrics.ECE_BINS + metrics.bin_index(score)
    error = np.bincount(at, weights=score - positive, minlength=clusters * metrics.ECE_BINS)
    return np.concatenate([sums, error.reshape(clusters, metrics.ECE_BINS)], axis=1)


def _with_macro(values: Array, comparable: npt.NDArray[np.bool_]) -> Array:
    """(replicates, labels + pooled) -> (replicates, labels + macro + pooled); macro of the comparable labels only."""
    labels = values[:, :-1]
    counted = comparable & ~np.isnan(labels)
    macro = metrics.ratio(np.where(counted, labels, 0.0).sum(axis=1), counted.sum(axis=1))
    return np.column_stack([labels, macro, values[:, -1]])
