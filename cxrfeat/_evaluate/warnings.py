"""What a reviewer would notice in the numbers, noticed first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from cxrfeat._evaluate import delong
from cxrfeat._evaluate.scored import FEW, Scored

Array = npt.NDArray[np.float64]

NEAR_PERFECT = 0.99
SHIFT = 1.5
"""Factor between two prevalences from which on they are called far apart."""
APART = 0.01
"""How far a pooled macro AUROC may stand above every group's own."""


@dataclass(frozen=True)
class Warning:
    """One thing to look at before the numbers are used.

    `kind` is a fixed word for programs; `labels` are those concerned, empty if it is all of them or none in particular.
    """

    kind: str
    message: str
    labels: tuple[str, ...] = ()


def of_scores(scored: Scored, training_y: Array | None = None) -> list[Warning]:
    """Every warning that one set of predictions gives by itself; prevalences are compared with those in training."""
    aurocs, errors = _against_chance(scored)
    found = [Warning("not_fair", message) for message in scored.provenance.get("not_fair", [])]
    found += missing(scored)
    found += one_class(scored)
    found += chance(scored, aurocs, errors)
    found += inverted(scored, aurocs, errors)
    found += near_perfect(scored, aurocs)
    found += constant(scored)
    found += few(scored)
    if training_y is not None:
        found += prevalence(scored, training_y)
    return found


def missing(scored: Scored) -> list[Warning]:
    """Images of the split without a prediction, mostly since they could not be read."""
    count = scored.provenance.get("without_prediction", 0)
    if not count:
        return []
    return [Warning("missing", f"{count:,} images of the split have no prediction and are left out of every number.")]


def one_class(scored: Scored) -> list[Warning]:
    """Labels without an AUROC, named with the reason."""
    found = []
    unpredicted = np.isnan(scored.p).all(axis=0)
    absent, always = ~(scored.y == 1).any(axis=0), ~(scored.y == 0).any(axis=0)
    for kind, mask, why in (
        ("no_prediction", unpredicted, "the head makes no prediction for"),
        ("one_class", absent & ~unpredicted, "no image is positive for"),
        ("one_class", always & ~absent & ~unpredicted, "no image is negative for"),
    ):
        labels = _named(scored, mask)
        if labels:
            found.append(Warning(kind, f"{why} {_list(labels)}: AUROC is not defined and macro leaves it out.", labels))
    return found


def chance(scored: Scored, aurocs: Array, errors: Array) -> list[Warning]:
    """Every label within noise of 0.5, at a familywise level of 5 %."""
    defined = ~np.isnan(aurocs) & (errors > 0)
    if defined.sum() < 2:
        return []
    z = np.abs(aurocs[defined] - 0.5) / errors[defined]
    if (z >= norm.isf(0.025 / defined.sum())).any():
        return []
    return [
        Warning(
            "chance",
            f"no label's AUROC differs significantly from 0.5 on these {len(scored):,} images, after Bonferroni's "
            f"correction over {defined.sum()} labels. Misaligned rows look like this; so does a head that learned "
            "nothing, and a test set that is too small.",
        )
    ]


def inverted(scored: Scored, aurocs: Array, errors: Array) -> list[Warning]:
    """Labels significantly below 0.5, after Holm's correction."""
    z = np.divide(aurocs - 0.5, errors, out=np.full(len(aurocs), np.nan), where=errors > 0)
    adjusted = delong.holm(2 * norm.sf(np.abs(z)))
    labels = _named(scored, (adjusted < 0.05) & (z < 0))
    if not labels:
        return []
    values = ", ".join(f"{label} {aurocs[scored.labels.index(label)]:.3f}" for label in labels)
    return [
        Warning(
            "inverted",
            f"AUROC is significantly below 0.5, after Holm's correction: {values}. Is the label inverted?",
            labels,
        )
    ]


def near_perfect(scored: Scored, aurocs: Array) -> list[Warning]:
    """Labels that are too good, with enough positives for it not to be luck."""
    labels = _named(scored, (aurocs >= NEAR_PERFECT) & (scored.positives >= 5))
    if not labels:
        return []
    return [
        Warning(
            "near_perfect",
            f"AUROC of {_list(labels)} is {NEAR_PERFECT} or more: look for a leak (the label written into the image, "
            "the same images in training, a column that gives it away).",
            labels,
        )
    ]


def constant(scored: Scored) -> list[Warning]:
    """Labels with one and the same prediction for every image."""
    low, high = np.full(len(scored.labels), np.nan), np.full(len(scored.labels), np.nan)
    some = ~np.isnan(scored.p).all(axis=0)
    low[some], high[some] = np.nanmin(scored.p[:, some], axis=0), np.nanmax(scored.p[:, some], axis=0)
    labels = _named(scored, some & (low == high) & (len(scored) > 1))
    return [Warning("constant", f"every image has the same prediction for {_list(labels)}.", labels)] if labels else []


def few(scored: Scored) -> list[Warning]:
    """Labels with fewer than `FEW` positive or negative patients."""
    labels = _named(scored, scored.defined & (scored.fewest_patients < FEW))
    if not labels:
        return []
    message = f"fewer than {FEW} positive or negative patients: {_list(labels)}. Only AUROC has an interval there."
    return [Warning("few", message, labels)]


def prevalence(scored: Scored, training_y: Array) -> list[Warning]:
    """Labels whose prevalence is far from that in training: by a factor of `SHIFT`, and beyond chance."""
    labels, parts = [], []
    for j, label in enumerate(scored.labels):
        here, there = scored.y[:, j], training_y[:, j]
        here, there = here[~np.isnan(here)], there[~np.isnan(there)]
        if not len(here) or not len(there):
            continue
        a, b = here.mean(), there.mean()
        pooled = (here.sum() + there.sum()) / (len(here) + len(there))
        error = np.sqrt(pooled * (1 - pooled) * (1 / len(here) + 1 / len(there)))
        # 3.3 standard errors: p = 0.001 for independent images, and images of one patient are not.
        if error and abs(a - b) > 3.3 * error and max(a, b) > SHIFT * min(a, b):
            labels.append(label)
            parts.append(f"{label} {a:.1%} against {b:.1%}")
    if not labels:
        return []
    return [
        Warning(
            "prevalence",
            f"prevalence is far from that in training: {'; '.join(parts)}. Probabilities, thresholds, PPV and NPV do "
            "not carry over.",
            tuple(labels),
        )
    ]


def of_groups(
    column: str, pooled: float, macros: Mapping[str, float], over: int, small: Mapping[str, Sequence[str]]
) -> list[Warning]:
    """What the groups of one column give away: groups too small, and a pooled AUROC above every group's own."""
    found = []
    counts = {name: labels for name, labels in small.items() if labels}
    if counts:
        parts = "; ".join(f"{name} for {_list(labels, 2)}" for name, labels in counts.items())
        found.append(
            Warning(
                "small_group",
                f"{column}: fewer than {FEW} positive or negative patients in {parts}. Too few for a conclusion there.",
                tuple(dict.fromkeys(label for labels in counts.values() for label in labels)),
            )
        )
    values = [value for value in macros.values() if not np.isnan(value)]
    if len(values) > 1 and pooled > max(values) + APART:
        apart = ", ".join(f"{name} {value:.3f}" for name, value in macros.items())
        found.append(
            Warning(
                "between_groups",
                f"over the {over} labels that have both classes in every group of {column}, the macro AUROC is "
                f"{pooled:.3f} on all images and lower within each group ({apart}): part of it may come from telling "
                "the groups apart.",
            )
        )
    return found


def small_labels(scored: Scored) -> tuple[str, ...]:
    """Labels with fewer than `FEW` positive or negative patients, those with none included."""
    return _named(scored, scored.fewest_patients < FEW)


def _against_chance(scored: Scored) -> tuple[Array, Array]:
    """AUROC of each label and its standard error: the larger of the null's and the patient-clustered one."""
    aurocs, errors = np.full(len(scored.labels), np.nan), np.full(len(scored.labels), np.nan)
    for j in range(len(scored.labels)):
        value, matrix = delong.covariance(scored.y[:, j], scored.p[:, j], scored.patients)
        m, n = float((scored.y[:, j] == 1).sum()), float((scored.y[:, j] == 0).sum())
        aurocs[j] = value[0]
        if m and n:
            # Variance of the Mann-Whitney statistic where both classes have one distribution.
            null = np.sqrt((m + n + 1) / (12 * m * n))
            errors[j] = np.fmax(null, np.sqrt(matrix[0, 0]))
    return aurocs, errors


def _named(scored: Scored, mask: npt.ArrayLike) -> tuple[str, ...]:
    return tuple(label for label, chosen in zip(scored.labels, np.asarray(mask), strict=True) if chosen)


def _list(labels: Sequence[str], most: int = 5) -> str:
    if len(labels) <= most:
        return ", ".join(labels)
    return f"{len(labels)} labels" + (f" ({', '.join(labels[:3])}, ...)" if most > 2 else "")
