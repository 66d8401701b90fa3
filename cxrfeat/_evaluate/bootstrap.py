"""Every metric of every label, with intervals from resampling patients.

Images of one patient are alike, so patients and not images are drawn with replacement, as often as there are patients
(a cluster bootstrap: Field and Welsh, J. R. Statist. Soc. B 2007, 69:369-390). A replicate is a whole-number weight per
patient: what is summed over images is one matrix product with per-patient sums, and what depends on ranks comes from
`cxrfeat._evaluate.ranked`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, t

from cxrfeat._evaluate.arrays import known, ratio
from cxrfeat._evaluate.delong import LEVEL
from cxrfeat._evaluate.metrics import AUROC, METRICS, Metric, Term
from cxrfeat._evaluate.ranked import Ranked
from cxrfeat._progress import Progress, silent

Array = npt.NDArray[np.float64]

REPLICATES = 2000
BLOCK = 64
"""Replicates drawn together, from one stream of random numbers: part of what a seed means, so never a setting."""


class Sample:
    """Truth and probabilities (n, labels), patients (n,) and thresholds (labels,), ready to be weighted.

    `y` (1, 0, NaN unknown) and `p` have shape (n, labels), `thresholds` (labels,) with NaN where there is none; `dtype`
    is that of the running sums over ranks.
    """

    def __init__(
        self,
        y: npt.ArrayLike,
        p: npt.ArrayLike,
        patients: npt.ArrayLike,
        thresholds: npt.ArrayLike,
        metrics: Iterable[Metric] | None = None,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        truth, score = np.asarray(y, dtype=np.float64), np.asarray(p, dtype=np.float64)
        names, cluster = np.unique(np.asarray(patients), return_inverse=True)
        self.metrics = tuple(METRICS if metrics is None else metrics)
        self.clusters, self.labels = len(names), truth.shape[1]
        self._ranked = [Ranked(truth[:, j], score[:, j], cluster, self.clusters, dtype) for j in range(self.labels)]
        if self.labels > 1:
            everyone = np.repeat(cluster, self.labels)
            # Counts of all labels together must stay exact, too.
            wide = np.float64 if truth.size > 2**22 else dtype
            self._ranked.append(Ranked(truth.ravel(), score.ravel(), everyone, self.clusters, wide))
        self._cuts = np.asarray(thresholds, dtype=np.float64)
        # Metrics share most of their sums. A label without a threshold adds nothing to those that need one.
        terms = dict.fromkeys((t, m.needs_threshold) for m in self.metrics if not m.ranked for t in m.sums)
        self._columns: dict[tuple[Term, bool], slice] = {}
        sums = [self._summed(terms, truth[:, j], score[:, j], cut, cluster) for j, cut in enumerate(self._cuts)]
        self._sums = np.concatenate(sums, axis=1)

    def _summed(
        self, terms: Iterable[tuple[Term, bool]], y: Array, p: Array, cut: float, cluster: npt.NDArray
    ) -> Array:
        """Per-patient sums of every term of one label, (patients, sums); notes which columns are whose."""
        positive, score = known(y, p)
        who, columns, start = cluster[~(np.isnan(y) | np.isnan(p))], [], 0
        for term, needs_threshold in terms:
            each = np.atleast_2d(np.asarray(term(positive, score, cut), dtype=np.float64).T).T
            if needs_threshold and np.isnan(cut):
                each = np.zeros_like(each)
            columns += [np.bincount(who, weights=column, minlength=self.clusters) for column in each.T]
            self._columns[term, needs_threshold] = slice(start, len(columns))
            start = len(columns)
        return np.stack(columns, axis=1) if columns else np.empty((self.clusters, 0))

    def weigh(self, counts: npt.NDArray) -> dict[str, Array]:
        """Every metric by name, float64 (replicates, labels + 2): each label, their mean (macro), all pooled (micro).

        `counts` (patients, replicates) says how often each patient, in sorted order, was drawn. Macro runs over the
        labels that have an AUROC (both classes).
        """
        weighed = [ranked.weigh(counts) for ranked in self._ranked]
        if self.labels == 1:
            weighed.append(weighed[0])
        ranks = [np.stack(sums, axis=1) for sums in zip(*weighed, strict=True)]
        linear = (counts.T.astype(np.float64) @ self._sums).reshape(counts.shape[1], self.labels, -1)
        pooled = np.concatenate([linear, linear.sum(axis=1, keepdims=True)], axis=1)
        comparable = ~np.isnan(AUROC.value(*ranks)[:, :-1])
        return {m.name: _with_macro(self._value(m, ranks, pooled), comparable) for m in self.metrics}

    def _value(self, metric: Metric, ranks: list[Array], pooled: Array) -> Array:
        if metric.ranked:
            return metric.value(*ranks)
        columns = [pooled[..., self._columns[term, metric.needs_threshold]] for term in metric.sums]
        value = metric.value(*(c[..., 0] if c.shape[-1] == 1 else c for c in columns))
        if metric.needs_threshold:
            value[:, :-1][:, np.isnan(self._cuts)] = np.nan
        return value


@dataclass(frozen=True)
class Replicates:
    """Bootstrap replicates: `draws` by metric, float64 (replicates, labels + 2), macro and micro last."""

    draws: Mapping[str, Array]
    seed: int

    def __len__(self) -> int:
        return len(next(iter(self.draws.values())))

    def interval(self, metric: Metric, level: float | npt.NDArray[np.float64] = LEVEL) -> Array:
        """Percentile interval, float64 (labels + 2, 2), over the replicates where the metric is defined.

        `level` is the share of the draws that is kept; `widened` gives the share for 95 % coverage, and NaN leaves the
        interval out.
        """
        return percentiles(self.draws[metric.name], level)

    def undefined(self, metric: Metric) -> npt.NDArray[np.int64]:
        """Number of replicates (labels + 2,) without a value, since a draw held one class only."""
        return np.isnan(self.draws[metric.name]).sum(axis=0)


def percentiles(values: Array, level: float | npt.NDArray[np.float64] = LEVEL) -> Array:
    """Percentile interval of each column, float64 (columns, 2), leaving out NaN; NaN where a column has nothing."""
    ends = np.full((values.shape[1], 2), np.nan)
    levels = np.broadcast_to(level, len(ends))
    for column in np.flatnonzero(~np.isnan(values).all(axis=0) & ~np.isnan(levels)):
        middle = levels[column] / 2
        ends[column] = np.nanquantile(values[:, column], [0.5 - middle, 0.5 + middle])
    return ends


def widened(fewest: npt.NDArray[np.int64], level: float = LEVEL) -> Array:
    """Share of draws that an interval of this level holds: more than the level, since few patients vary too little.

    The variance of the draws of k patients is (k - 1) / k of what it estimates, and with k - 1 degrees of freedom
    normal quantiles are too near (Hesterberg, The American Statistician 2015, 69:371-386, section 3.5). A macro average
    adds up what its labels have (Welch and Satterthwaite). `fewest` has the patients of each label's smaller class; the
    result, float64 (labels + 1,), ends with the macro average, and is NaN below two patients.
    """
    each = [_share(k / (k - 1), k - 1, level) if k > 1 else np.nan for k in fewest.astype(float)]
    k = np.maximum(fewest[fewest > 0].astype(float), 2.0)
    if not len(k):
        return np.array([*each, np.nan])
    variance = 1 / k
    freedom = variance.sum() ** 2 / (variance**2 / (k - 1)).sum()
    return np.array([*each, _share(variance.sum() / (variance * (k - 1) / k).sum(), freedom, level)])


def _share(inflation: float, freedom: float, level: float) -> float:
    return float(2 * norm.cdf(np.sqrt(inflation) * t.ppf(0.5 + level / 2, freedom)) - 1)


def point(
    y: npt.ArrayLike, p: npt.ArrayLike, thresholds: npt.ArrayLike, metrics: Iterable[Metric] | None = None
) -> dict[str, Array]:
    """Every metric on the images as they are: float64 (labels + 2,) by name, macro and micro last."""
    one = np.zeros(len(np.asarray(y)), dtype=int)
    values = Sample(y, p, one, thresholds, metrics, np.float64).weigh(np.ones((1, 1)))
    return {name: value[0] for name, value in values.items()}


def bootstrap(
    y: npt.ArrayLike,
    p: npt.ArrayLike,
    patients: npt.ArrayLike,
    thresholds: npt.ArrayLike,
    replicates: int = REPLICATES,
    seed: int = 0,
    metrics: Iterable[Metric] | None = None,
    threads: int | None = None,
    progress: Progress = silent,
) -> Replicates:
    """Resample patients with replacement and take every metric of every draw; arguments as of `Sample`.

    Equal `patients`, `replicates` and `seed` give equal draws, whatever the scores and the number of threads: the
    replicates of two heads on the same images are paired.
    """
    sample = Sample(y, p, patients, thresholds, metrics)

    def block(start: int) -> dict[str, Array]:
        return sample.weigh(draw(sample.clusters, seed, start // BLOCK)[:, : replicates - start])

    parts = []
    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
        for part in pool.map(block, range(0, replicates, BLOCK)):
            parts.append(part)
            progress(min(len(parts) * BLOCK, replicates), replicates)
    empty = np.empty((0, sample.labels + 2))
    names = [metric.name for metric in sample.metrics]
    return Replicates({name: np.concatenate([empty, *(part[name] for part in parts)]) for name in names}, seed)


def draw(clusters: int, seed: int, block: int) -> npt.NDArray[np.float32]:
    """How often each cluster is drawn in the replicates of one block, float32 (clusters, BLOCK)."""
    rng = np.random.default_rng([seed, block])
    drawn = rng.integers(0, clusters, (BLOCK, clusters)) + clusters * np.arange(BLOCK)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=BLOCK * clusters)
    return np.ascontiguousarray(counts.reshape(BLOCK, clusters).T, dtype=np.float32)


def _with_macro(values: Array, comparable: npt.NDArray[np.bool_]) -> Array:
    """(replicates, labels + pooled) -> (replicates, labels + macro + pooled); macro of the comparable labels only."""
    labels = values[:, :-1]
    counted = comparable & ~np.isnan(labels)
    macro = ratio(np.where(counted, labels, 0.0).sum(axis=1), counted.sum(axis=1))
    return np.column_stack([labels, macro, values[:, -1]])
