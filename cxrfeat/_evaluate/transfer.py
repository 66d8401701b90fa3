"""The numbers of a run on another study beside those on its own test split: the drop, its interval, its reasons.

The two are independent samples, so that patients of both are resampled, each by themselves. What prevalence explains is
what changes when the other study's images are weighted to the run's own prevalence, label by label: a positive counts
pi_own / pi_other, a negative (1 - pi_own) / (1 - pi_other). These are the importance weights of label shift (Saerens,
Latinne and Decaestecker, Neural Computation 2002, 14(1):21-41; Lipton, Wang and Smola, ICML 2018, section 3). What is
computed within the positives and the negatives, as AUROC, sensitivity and specificity are, does not move by it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from cxrfeat._evaluate.arrays import Array, numbered, ratio
from cxrfeat._evaluate.bootstrap import BLOCK, COUNTS, Replicates, Sample, draws, percentiles, point
from cxrfeat._evaluate.metrics import ALL_NEGATIVE_ACCURACY, AUROC, BRIER, ECE, METRICS, Metric
from cxrfeat._evaluate.rows import Row, levels, resampled, rows_of
from cxrfeat._evaluate.scored import Scored
from cxrfeat._heads.decision import calibrate, logit
from cxrfeat._progress import Progress, part, silent
from cxrfeat._split import stratified

ROUNDING = 1e-9
"""Less than this is no part of a drop but the last digits."""
FOLDS = 5
"""Of the recalibration on the other study; whole patients in a fold."""


@dataclass(frozen=True)
class Transfer:
    """One run on one other study: `own` and `other` have the same labels, `rows` one per label, then macro.

    `External` says what a row has. `draws` are the replicates of both samples, `left_out` says which labels are not
    compared, and why.
    """

    own: Scored
    other: Scored
    rows: list[Row]
    draws: tuple[Replicates, ...] = ()
    left_out: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def run(self) -> str:
        """The run's name."""
        return self.other.name

    @property
    def study(self) -> str:
        """The other study's name, and its split where it is one."""
        name, split = self.other.provenance["study"], self.other.provenance["split"]
        return f"{name}:{split}" if split else str(name)

    def macro(self, labels: Sequence[str], metric: Metric = AUROC) -> list[tuple[float, list[float]]]:
        """Mean over some labels with its interval: on the own test split, then on the other study."""
        at = [self.other.labels.index(label) for label in labels]
        found = []
        for k, (scored, suffix) in enumerate(((self.own, "_own"), (self.other, ""))):
            value = float(np.mean([self.rows[j][f"{metric.name}{suffix}"] for j in at])) if at else np.nan
            ends = [np.nan, np.nan]
            if self.draws and at:
                mean = self.draws[k].draws[metric.name][:, at].mean(axis=1, keepdims=True)
                ends = percentiles(mean, levels(scored.with_labels(labels), metric)[-2]).tolist()[0]
            found.append((value, ends))
        return found


def compared(own: Scored, other: Scored, replicates: int, seed: int, progress: Progress = silent) -> Transfer:
    """Compare two samples that have the same labels, each with both classes in either."""
    draws = [
        resampled(one, replicates, seed + k, part(progress, k * replicates, 3 * replicates))
        for k, one in enumerate((own, other))
    ]
    before, after = (rows_of(one, mine)[:-1] for one, mine in zip((own, other), draws, strict=True))
    moved, moved_draws = _at_prevalence(other, _prevalence(own, draws[0]), _prevalence(other, draws[1]), seed + 1)
    progress(3 * replicates, 3 * replicates)
    again = _recalibrated(other, seed)
    for j, (row, first) in enumerate(zip(after, before, strict=True)):
        row |= {f"{key}_own": first[key] for key in ("n", "positives", "prevalence")}
        row["auroc_own_interval"] = first.get("auroc_interval", [np.nan, np.nan])
        mine = slice(None) if j == len(other.labels) else j
        row["mean_probability"] = float(np.nanmean(other.p[:, mine][other.truth[:, mine] >= 0], dtype=np.float64))
        row |= {f"{name}_recalibrated": float(values[j]) for name, values in again.items()}
        for m in METRICS:
            sign = -1 if m.higher_is_better is False else 1
            row[f"{m.name}_own"] = first[m.name]
            row[f"{m.name}_drop"] = sign * (first[m.name] - row[m.name])
            row[f"{m.name}_at_own_prevalence"] = float(moved[m.name][j])
            gone = sign * (float(moved[m.name][j]) - row[m.name])
            row[f"{m.name}_drop_prevalence"] = 0.0 if abs(gone) < ROUNDING else gone
    if replicates:
        for m in METRICS:
            sign = -1 if m.higher_is_better is False else 1
            level = np.maximum(levels(own, m), levels(other, m))[:-1]
            none = np.full((1, len(after)), np.nan)  # a metric without intervals has no draws
            a, b = (mine.draws[m.name][:, :-1] if m.interval else none for mine in draws)
            gone = moved_draws[m.name] - b if m.interval else none
            for name, values in (("drop", a - b), ("drop_prevalence", np.where(np.abs(gone) < ROUNDING, 0.0, gone))):
                for row, ends in zip(after, percentiles(sign * values, level).tolist(), strict=True):
                    row[f"{m.name}_{name}_bootstrap"] = ends
    return Transfer(own, other, after, tuple(draws) if replicates else ())


def share(row: Row, metric: Metric) -> float:
    """Part of the drop that is prevalence; NaN where there may be no drop, or the rest goes the other way."""
    low, high = row.get(f"{metric.name}_drop_bootstrap", (np.nan, np.nan))
    part = row[f"{metric.name}_drop_prevalence"] / row[f"{metric.name}_drop"] if low > 0 or high < 0 else np.nan
    return part if 0 <= part <= 1 else float("nan")


def _prevalence(scored: Scored, draws: Replicates) -> Array:
    """Share of positives of each label, (1 + replicates, labels): of the images as they are, then of every draw."""
    now = point(scored.truth, scored.p, scored.thresholds, [ALL_NEGATIVE_ACCURACY])[ALL_NEGATIVE_ACCURACY.name]
    return 1 - np.vstack([now, draws.draws[ALL_NEGATIVE_ACCURACY.name]])[:, : len(scored.labels)]


def _at_prevalence(scored: Scored, wanted: Array, here: Array, seed: int) -> tuple[dict[str, Array], dict[str, Array]]:
    """Every metric with each label at another prevalence: (labels + 1,), macro last, and (replicates, labels + 1).

    `wanted` and `here` are as `_prevalence` returns them; the draws are those of `bootstrap` with this seed.
    """
    patients, names = numbered(scored.patients)
    clusters = len(names)
    width = max(1, min(BLOCK, COUNTS // (32 * clusters)))

    def counts() -> Iterator[tuple[slice, npt.NDArray]]:
        yield slice(0, 1), np.ones((clusters, 1))
        for start in range(1, len(here), BLOCK):
            for drawn in draws(clusters, seed, start // BLOCK, min(BLOCK, len(here) - start), width):
                yield slice(start, start := start + drawn.shape[1]), drawn

    def label(j: int) -> dict[str, Array]:
        # A patient's positives and negatives are two clusters, so that each can have a weight of its own.
        code = 2 * patients + (scored.truth[:, j] == 1)
        present = numbered(code)[1]
        cut = scored.thresholds[[j]]
        sample = Sample(scored.truth[:, [j]], scored.p[:, [j]], code, cut, dtype=np.float64)
        weight = np.stack([ratio(1 - wanted[:, j], 1 - here[:, j]), ratio(wanted[:, j], here[:, j])])
        # Metrics are ratios of sums, so that only the ratio of the weights counts; sums of ranks want no small ones.
        weight = np.nan_to_num(weight / np.fmin(*weight).clip(1e-12), nan=1.0)
        parts = [sample.weigh(drawn[present // 2] * weight[present % 2, at]) for at, drawn in counts()]
        return {m.name: np.concatenate([part[m.name][:, 0] for part in parts]) for m in sample.metrics}

    with ThreadPoolExecutor(1 if width < BLOCK else None) as pool:
        each = list(pool.map(label, range(len(scored.labels))))
    found = {}
    for m in METRICS:
        values = np.stack([one[m.name] for one in each], axis=1)
        found[m.name] = np.column_stack([values, np.ma.masked_invalid(values).mean(axis=1).filled(np.nan)])
    return {name: v[0] for name, v in found.items()}, {name: v[1:] for name, v in found.items()}


def _recalibrated(scored: Scored, seed: int) -> dict[str, Array]:
    """Brier score and ECE (labels + 1,), macro last, after Platt scaling on this study, cross-fitted by patient.

    NaN where there are fewer patients than folds. A label with too few positives for a slope is shifted to its
    prevalence.
    """
    p = np.full(scored.p.shape, np.nan)
    truth = scored.y
    if scored.patients_of() >= FOLDS:
        fold = stratified(truth, scored.patients, {str(k): 1.0 for k in range(FOLDS)}, seed)
        z = np.where(np.isnan(scored.p), np.nan, logit(scored.p))
        for held in (fold == str(k) for k in range(FOLDS)):
            y, known = truth[~held], ~np.isnan(truth[~held])
            means = (ratio(np.where(known, x, 0).sum(axis=0), known.sum(axis=0)) for x in (scored.p[~held], y))
            p[held] = calibrate(y, z[~held], "platt", "", np.subtract(*map(logit, means))).apply(z[held])
    found = {}
    for m in (BRIER, ECE):
        values = [m(truth[:, j], p[:, j]) for j in range(len(scored.labels))]
        found[m.name] = np.array([*values, np.nanmean(values) if not np.isnan(values).all() else np.nan])
    return found
