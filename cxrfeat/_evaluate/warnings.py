"""What a reviewer would notice in the numbers, noticed first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from cxrfeat._evaluate import delong
from cxrfeat._evaluate.arrays import unknown
from cxrfeat._evaluate.scored import FEW, Scored

Array = npt.NDArray[np.float64]

NEAR_PERFECT = 0.99
SHIFT = 1.5
"""Factor between two prevalences from which on they are called far apart."""
APART = 0.01
"""How far the macro AUROC of all images may be above every group's own."""


@dataclass(frozen=True)
class Warning:
    """One thing to look at before the numbers are used; `kind` is a fixed word for programs."""

    kind: str
    message: str
    labels: tuple[str, ...] = ()


def of_scores(scored: Scored, training_y: npt.NDArray | None = None) -> list[Warning]:
    """Every warning that predictions give by themselves, and beside the labels (n, labels) of training."""
    aurocs, errors = _against_chance(scored)
    found = [Warning("not_fair", message) for message in scored.provenance.get("not_fair", [])]
    found += [Warning("pretraining", message) for message in scored.provenance.get("pretraining", [])]
    if count := scored.provenance.get("without_prediction", 0):
        text = f"{count:,} images of the split have no prediction and are left out of every number."
        found.append(Warning("missing", text))
    found += _one_class(scored)
    found += _chance(scored, aurocs, errors)
    found += _about(
        scored, "near_perfect", (aurocs >= NEAR_PERFECT) & (scored.positives >= 5),
        f"AUROC of {{}} is {NEAR_PERFECT} or more: look for a leak (the label written into the image, the same images "
        "in training, a column that gives it away).",
    )  # fmt: skip
    found += _about(scored, "constant", _constant(scored), "every image has the same prediction for {}.")
    few = f"fewer than {FEW} positive or negative patients: {{}}. Only AUROC has an interval there."
    found += _about(scored, "few", scored.defined & (scored.fewest_patients < FEW), few)
    return found + (_prevalence(scored, training_y) if training_y is not None else [])


def of_groups(
    column: str, pooled: float, macros: Mapping[str, float], over: int, small: Mapping[str, Sequence[str]]
) -> list[Warning]:
    """What the groups of one column show: groups too small, and an AUROC of all images above every group's own."""
    found = []
    counts = {name: labels for name, labels in small.items() if labels}
    if counts:
        parts = "; ".join(f"{name} for {_list(labels, 2)}" for name, labels in counts.items())
        text = f"{column}: fewer than {FEW} positive or negative patients in {parts}. Too few for a conclusion there."
        found.append(
            Warning("small_group", text, tuple(dict.fromkeys(x for labels in counts.values() for x in labels)))
        )
    values = [value for value in macros.values() if not np.isnan(value)]
    if len(values) > 1 and pooled > max(values) + APART:
        apart = ", ".join(f"{name} {value:.3f}" for name, value in macros.items())
        text = (
            f"over the {over} labels that have both classes in every group of {column}, the macro AUROC is "
            f"{pooled:.3f} on all images and lower within each group ({apart}): part of it may come from telling the "
            "groups apart."
        )
        found.append(Warning("between_groups", text))
    return found


def small_labels(scored: Scored) -> tuple[str, ...]:
    """Labels with fewer than `FEW` positive or negative patients, those with none included."""
    return _named(scored, scored.fewest_patients < FEW)


def _one_class(scored: Scored) -> list[Warning]:
    """Labels without an AUROC, with the reason."""
    unpredicted = np.array([np.isnan(p).all() for p in scored.p.T])
    absent, always = (np.array([not (truth == side).any() for truth in scored.truth.T]) for side in (1, 0))
    end = "{}: AUROC is not defined and macro leaves it out."
    return [
        *_about(scored, "no_prediction", unpredicted, f"the head makes no prediction for {end}"),
        *_about(scored, "one_class", absent & ~unpredicted, f"no image is positive for {end}"),
        *_about(scored, "one_class", always & ~absent & ~unpredicted, f"no image is negative for {end}"),
    ]


def _chance(scored: Scored, aurocs: Array, errors: Array) -> list[Warning]:
    """Every label within noise of 0.5 at a familywise level of 5 %; else the labels significantly below it."""
    z = np.divide(aurocs - 0.5, errors, out=np.full(len(aurocs), np.nan), where=errors > 0)
    tested = int((~np.isnan(z)).sum())
    if tested > 1 and not (np.abs(z) >= norm.isf(0.025 / tested)).any():
        text = (
            f"no label's AUROC differs significantly from 0.5 on these {len(scored):,} images, after Bonferroni's "
            f"correction over {tested} labels. Misaligned rows look like this; so does a head that learned nothing, "
            "and a test set that is too small."
        )
        return [Warning("chance", text)]
    below = (delong.holm(2 * norm.sf(np.abs(z))) < 0.05) & (z < 0)
    values = ", ".join(f"{x} {aurocs[scored.labels.index(x)]:.3f}" for x in _named(scored, below))
    text = f"AUROC is significantly below 0.5, after Holm's correction: {values}. Is the label inverted?"
    return _about(scored, "inverted", below, text)


def _constant(scored: Scored) -> npt.NDArray[np.bool_]:
    some = [p[~np.isnan(p)] for p in scored.p.T]
    return np.array([len(scored) > 1 and len(p) > 0 and p.min() == p.max() for p in some], bool)


def _prevalence(scored: Scored, training_y: npt.NDArray) -> list[Warning]:
    """Labels whose prevalence is far from that in training: by a factor of `SHIFT`, and beyond chance."""
    labels, parts = [], []
    for label, here, there in zip(scored.labels, scored.truth.T, training_y.T, strict=True):
        here, there = here[here >= 0], there[~unknown(there)]
        if not len(here) or not len(there):
            continue
        a, b = here.mean(), there.mean()
        pooled = (here.sum() + there.sum()) / (len(here) + len(there))
        error = np.sqrt(pooled * (1 - pooled) * (1 / len(here) + 1 / len(there)))
        # 3.3 standard errors: p = 0.001 for independent images, and images of one patient are not.
        if error and abs(a - b) > 3.3 * error and max(a, b) > SHIFT * min(a, b):
            labels.append(label)
            parts.append(f"{label} {a:.1%} against {b:.1%}")
    text = (
        f"prevalence is far from that in training: {'; '.join(parts)}. Probabilities, thresholds, PPV and NPV do not "
    )
    return [Warning("prevalence", f"{text}carry over.", tuple(labels))] if labels else []


def _against_chance(scored: Scored) -> tuple[Array, Array]:
    """AUROC of each label and its standard error: the larger of the null's and the patient-clustered one."""
    aurocs, errors = np.full(len(scored.labels), np.nan), np.full(len(scored.labels), np.nan)
    for j in range(len(scored.labels)):
        y, p = scored.label(j)
        value, matrix = delong.covariance(y, p, scored.patients)
        m, n = float((y == 1).sum()), float((y == 0).sum())
        aurocs[j] = value[0]
        if m and n:
            # Variance of the Mann-Whitney statistic where both classes have one distribution.
            errors[j] = np.fmax(np.sqrt((m + n + 1) / (12 * m * n)), np.sqrt(matrix[0, 0]))
    return aurocs, errors


def _about(scored: Scored, kind: str, mask: npt.ArrayLike, text: str) -> list[Warning]:
    """A warning about the labels of a mask, named where the text has braces; none where there are none."""
    labels = _named(scored, mask)
    return [Warning(kind, text.replace("{}", _list(labels)), labels)] if labels else []


def _named(scored: Scored, mask: npt.ArrayLike) -> tuple[str, ...]:
    return tuple(label for label, chosen in zip(scored.labels, np.asarray(mask), strict=True) if chosen)


def _list(labels: Sequence[str], most: int = 5) -> str:
    if len(labels) <= most:
        return ", ".join(labels)
    return f"{len(labels)} labels" + (f" ({', '.join(labels[:3])}, ...)" if most > 2 else "")
