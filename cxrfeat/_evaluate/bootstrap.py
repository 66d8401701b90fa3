"""Every metric of every label, with intervals from resampling patients.

Images of one patient are alike, so patients and not images are drawn with replacement, as often as there are patients
(a cluster bootstrap: Field and Welsh, J. R. Statist. Soc. B 2007, 69:369-390). A replicate is a whole-number weight per
patient: what is summed over images is one matrix product with per-patient sums, and what depends on ranks comes from
`cxrfeat._evaluate.ranked`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, t
from threadpoolctl import threadpool_limits

from cxrfeat._evaluate.arrays import Array, numbered, ratio, unknown
from cxrfeat._evaluate.delong import LEVEL
from cxrfeat._evaluate.metrics import AUROC, METRICS, Metric, Term
from cxrfeat._evaluate.ranked import Column, Ranked
from cxrfeat._progress import Progress, silent

REPLICATES = 2000
BLOCK = 64
"""Replicates drawn from one stream of random numbers: part of what a seed means, so never a setting."""
COUNTS = 2**29
"""Bytes that the counts of all threads may take together: with millions of patients a block is drawn in parts."""
LEAST = 16
"""Replicates drawn together at least; their counts of a patient are a line of the processor's cache."""
IMAGES, PATIENTS = 2**20, 2**16
"""Images and patients that are summed at a time, so that memory does not depend on how many there are."""


class Sample:
    """Truth and probabilities (n, labels), patients (n,) and thresholds (labels,), ready to be weighted.

    `y` (1, 0, NaN unknown; or whole numbers, below 0 unknown) and `p` have shape (n, labels) and are not copied,
    `thresholds` (labels,) have NaN where there is none; `dtype` is that of the running sums over ranks.
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
        self._y, self._p = np.asarray(y), np.asarray(p)
        self._cluster, names = numbered(patients)
        self.metrics = tuple(METRICS if metrics is None else metrics)
        self.clusters, self.labels = len(names), self._y.shape[1]
        together = range(self.labels)
        self._ranked = [
            Ranked(partial(map, self._column, which), self.clusters, dtype)
            for which in [*([j] for j in together), *[together] * (self.labels > 1)]
        ]
        self._cuts = np.asarray(thresholds, dtype=np.float64)
        # Metrics share most of their sums. A label without a threshold adds nothing to those that need one.
        terms = dict.fromkeys((t, m.needs_threshold) for m in self.metrics if not m.ranked for t in m.sums)
        self._columns: dict[tuple[Term, bool], slice] = {}
        sums = [column for j, cut in enumerate(self._cuts) for column in self._summed(terms, j, cut)]
        self._sums = _Sums(sums)
        del self._y, self._p, self._cluster

    def _column(self, j: int) -> Column:
        """Column `j`, of the images whose truth is known and score is a number."""
        y, p = self._y[:, j], self._p[:, j]
        keep = ~(unknown(y) | np.isnan(p))
        return Column(y[keep] == 1, p[keep], self._cluster[keep])

    def _summed(self, terms: Iterable[tuple[Term, bool]], j: int, cut: float) -> list[npt.NDArray]:
        """Sums (patients,) of every term of one label; notes which columns are whose."""
        positive, p, who = self._column(j)
        found: list[npt.NDArray] = []
        for term, needs_threshold in terms:
            columns: list[npt.NDArray] = []
            for start in range(0, max(len(p), 1), IMAGES):
                part = slice(start, start + IMAGES)
                each = np.atleast_2d(np.asarray(term(positive[part], p[part].astype(np.float64), cut), np.float64).T)
                if needs_threshold and np.isnan(cut):
                    each = np.zeros_like(each)
                sums: list[npt.NDArray] = [np.bincount(who[part], column, self.clusters) for column in each]
                columns = [a + b for a, b in zip(columns, sums, strict=True)] if columns else sums
            self._columns[term, needs_threshold] = slice(len(found), len(found) + len(columns))
            found += map(_packed, columns) if self.clusters > PATIENTS else columns
        return found

    def weigh(self, counts: npt.NDArray) -> dict[str, Array]:
        """Every metric by name, float64 (replicates, labels + 2): each label, their mean (macro), all pooled (micro).

        `counts` (patients, replicates) says how often each patient, in sorted order, was drawn. Macro runs over the
        labels that have an AUROC (both classes).
        """
        weighed = [ranked.weigh(counts) for ranked in self._ranked]
        if self.labels == 1:
            weighed.append(weighed[0])
        ranks = [np.stack(sums, axis=1) for sums in zip(*weighed, strict=True)]
        linear = self._sums.weigh(counts).reshape(counts.shape[1], self.labels, -1)
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


class _Sums:
    """Sums over patients, from columns (patients,)."""

    def __init__(self, columns: Sequence[npt.NDArray]) -> None:
        self._columns = len(columns)
        whole = np.array([np.issubdtype(column.dtype, np.integer) for column in columns], bool)
        # Whole numbers apart, since they are kept in few bits.
        apart = [which.tolist() for which in (np.flatnonzero(~whole), np.flatnonzero(whole)) if len(which)]
        self._tables = [(which, np.stack([columns[k] for k in which], axis=1)) for which in apart]

    def weigh(self, counts: npt.NDArray) -> Array:
        """Weighted sums, float64 (replicates, columns), for counts (patients, replicates)."""
        found = np.zeros((counts.shape[1], self._columns))
        for start in range(0, len(counts), PATIENTS):
            part = slice(start, start + PATIENTS)
            drawn = counts[part].T.astype(np.float64)
            for which, table in self._tables:
                found[:, which] += drawn @ table[part].astype(np.float64, copy=False)
        return found


def _packed(column: Array) -> npt.NDArray:
    """Whole numbers in as few bits as they take; other numbers as they are."""
    least = np.min_scalar_type(int(column.max(initial=0)))
    packed = column.astype(least)
    return packed if (packed == column).all() else column


@dataclass(frozen=True)
class Replicates:
    """Bootstrap replicates: `draws` by metric, float64 (replicates, labels + 2), macro and micro last."""

    draws: Mapping[str, Array]

    def __len__(self) -> int:
        return len(next(iter(self.draws.values())))

    def interval(self, metric: Metric, level: float | npt.NDArray[np.float64] = LEVEL) -> Array:
        """Percentile interval, float64 (labels + 2, 2), over the replicates where the metric is defined.

        `level` is the share of the draws that is kept; `widened` gives the share for 95 % coverage, and NaN leaves the
        interval out.
        """
        if metric.name not in self.draws:  # it has no intervals
            return np.full((next(iter(self.draws.values())).shape[1], 2), np.nan)
        return percentiles(self.draws[metric.name], level)

    def less(self, other: Replicates) -> Replicates:
        """The paired differences from other replicates."""
        return Replicates({name: mine - other.draws[name] for name, mine in self.draws.items()})

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


def widened(fewest: npt.NDArray[np.int64]) -> Array:
    """Share of draws that a 95 % interval holds: more than 95 %, since few patients vary too little.

    The variance of the draws of k patients is (k - 1) / k of what it estimates, and with k - 1 degrees of freedom
    normal quantiles are too near (Hesterberg, The American Statistician 2015, 69:371-386, section 3.5). A macro average
    adds up what its labels have (Welch and Satterthwaite). `fewest` has the patients of each label's smaller class; the
    result, float64 (labels + 1,), ends with the macro average, and is NaN below two patients.
    """
    each = [_share(k / (k - 1), k - 1) if k > 1 else np.nan for k in fewest.astype(float)]
    k = np.maximum(fewest[fewest > 0].astype(float), 2.0)
    if not len(k):
        return np.array([*each, np.nan])
    variance = 1 / k
    freedom = variance.sum() ** 2 / (variance**2 / (k - 1)).sum()
    return np.array([*each, _share(variance.sum() / (variance * (k - 1) / k).sum(), freedom)])


def _share(inflation: float, freedom: float) -> float:
    return float(2 * norm.cdf(np.sqrt(inflation) * t.ppf(0.5 + LEVEL / 2, freedom)) - 1)


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
    # As many threads as the counts of all of them fit, of at least so many replicates that a draw is worth its while.
    threads = max(1, min(threads or os.cpu_count() or 1, COUNTS // (4 * LEAST * sample.clusters)))
    width = min(BLOCK, max(LEAST, COUNTS // (4 * threads * sample.clusters) // LEAST * LEAST))

    def block(start: int) -> list[dict[str, Array]]:
        drawn = draws(sample.clusters, seed, start // BLOCK, min(BLOCK, replicates - start), width)
        return [sample.weigh(counts) for counts in drawn]

    parts: list[dict[str, Array]] = []
    # BLAS has one thread in each: its own would wait for each other.
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(threads) as pool:
        for done, some in enumerate(pool.map(block, range(0, replicates, BLOCK)), start=1):
            parts += some
            progress(min(done * BLOCK, replicates), replicates)
    empty = np.empty((0, sample.labels + 2))
    names = [metric.name for metric in sample.metrics]
    return Replicates({name: np.concatenate([empty, *(part[name] for part in parts)]) for name in names})


def draw(clusters: int, seed: int, block: int) -> npt.NDArray[np.float32]:
    """How often each cluster is drawn in the replicates of one block, float32 (clusters, BLOCK)."""
    return next(draws(clusters, seed, block))


def draws(
    clusters: int, seed: int, block: int, replicates: int = BLOCK, width: int = BLOCK
) -> Iterator[npt.NDArray[np.float32]]:
    """The first `replicates` of one block, `width` at a time: float32 (clusters, <= width)."""
    rng = np.random.default_rng([seed, block])
    for start in range(0, replicates, width):
        counts = np.empty((clusters, min(width, replicates - start)), np.float32)
        for b in range(counts.shape[1]):
            counts[:, b] = np.bincount(rng.integers(0, clusters, clusters), minlength=clusters)
        yield counts


def _with_macro(values: Array, comparable: npt.NDArray[np.bool_]) -> Array:
    """(replicates, labels + pooled) -> (replicates, labels + macro + pooled); macro of the comparable labels only."""
    labels = values[:, :-1]
    counted = comparable & ~np.isnan(labels)
    macro = ratio(np.where(counted, labels, 0.0).sum(axis=1), counted.sum(axis=1))
    return np.column_stack([labels, macro, values[:, -1]])
