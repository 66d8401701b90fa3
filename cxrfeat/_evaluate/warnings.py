"""What a reviewer would notice in the numbers, noticed first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from cxrfeat._evaluate import delong
from cxrfeat._evaluate.arrays import Array, as_codes, ratio
from cxrfeat._evaluate.rows import Group, Row
from cxrfeat._evaluate.scored import FEW, Scored

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
    constant = (scored.p == scored.p[0]).all(axis=0) & (len(scored) > 1)
    found += _about(scored, "constant", constant, "every image has the same prediction for {}.")
    few = f"fewer than {FEW} positive or negative patients: {{}}. Only AUROC has an interval there."
    found += _about(scored, "few", scored.defined & scored.few, few)
    return found + (_prevalence(scored, training_y) if training_y is not None else [])


def of_groups(column: str, rows: Sequence[Row], groups: Sequence[Group]) -> list[Warning]:
    """What the groups of one column show: groups too small, and an AUROC of all images above every group's own."""
    found = []
    if small := [group for group in groups if group.few]:
        parts = "; ".join(f"{group.name} for {_list(group.few, 2)}" for group in small)
        text = f"{column}: fewer than {FEW} positive or negative patients in {parts}. Too few for a conclusion there."
        found.append(Warning("small_group", text, tuple(dict.fromkeys(x for group in small for x in group.few))))
    values = np.array([[row["auroc"] for row in table[:-2]] for table in (rows, *(group.rows for group in groups))])
    common = ~np.isnan(values).any(axis=0)
    if not common.any():
        return found
    pooled, *macros = values[:, common].mean(axis=1)
    if len(macros) > 1 and pooled > max(macros) + APART:
        apart = ", ".join(f"{group.name} {value:.3f}" for group, value in zip(groups, macros, strict=True))
        text = (
            f"over the {common.sum()} labels that have both classes in every group of {column}, the macro AUROC is "
            f"{pooled:.3f} on all images and lower within each group ({apart}): part of it may come from telling the "
            "groups apart."
        )
        found.append(Warning("between_groups", text))
    return found


def _one_class(scored: Scored) -> list[Warning]:
    """Labels without an AUROC, with the reason."""
    absent, always = scored.positives == 0, scored.negatives == 0
    end = "{}: AUROC is not defined and macro leaves it out."
    return [
        *_about(scored, "no_prediction", ~scored.predicted, f"the head makes no prediction for {end}"),
        *_about(scored, "one_class", absent & scored.predicted, f"no image is positive for {end}"),
        *_about(scored, "one_class", always & ~absent & scored.predicted, f"no image is negative for {end}"),
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
    values = ", ".join(f"{scored.labels[j]} {aurocs[j]:.3f}" for j in np.flatnonzero(below))
    text = f"AUROC is significantly below 0.5, after Holm's correction: {values}. Is the label inverted?"
    return _about(scored, "inverted", below, text)


def _prevalence(scored: Scored, training_y: npt.NDArray) -> list[Warning]:
    """Labels whose prevalence is far from that in training: by a factor of `SHIFT`, and beyond chance."""
    training = as_codes(training_y)
    positives = scored.positives, np.count_nonzero(training == 1, axis=0)
    known = scored.positives + scored.negatives, np.count_nonzero(training >= 0, axis=0)
    (a, b), pooled = map(ratio, positives, known), ratio(sum(positives), sum(known))
    error = np.sqrt(pooled * (1 - pooled) * sum(ratio(1, n) for n in known))
    # 3.3 standard errors: p = 0.001 for independent images, and images of one patient are not.
    far = (error > 0) & (np.abs(a - b) > 3.3 * error) & (np.maximum(a, b) > SHIFT * np.minimum(a, b))
    parts = "; ".join(f"{scored.labels[j]} {a[j]:.1%} against {b[j]:.1%}" for j in np.flatnonzero(far))
    return _about(
        scored, "prevalence", far,
        f"prevalence is far from that in training: {parts}. Probabilities, thresholds, PPV and NPV do not carry over.",
    )  # fmt: skip


def _against_chance(scored: Scored) -> tuple[Array, Array]:
    """AUROC of each label and its standard error: the larger of the null's and the patient-clustered one."""
    found = [delong.covariance(*scored.label(j), scored.patients) for j in range(len(scored.labels))]
    aurocs, variances = np.array([(value[0], matrix[0, 0]) for value, matrix in found]).T
    # Variance of the Mann-Whitney statistic where both classes have one distribution.
    null = ratio(scored.positives + scored.negatives + 1, 12 * scored.positives * scored.negatives)
    return aurocs, np.sqrt(np.fmax(null, variances))


def _about(scored: Scored, kind: str, mask: npt.NDArray[np.bool_], text: str) -> list[Warning]:
    """A warning about the labels of a mask, named where the text has braces; none where there are none."""
    labels = scored.named(mask)
    return [Warning(kind, text.replace("{}", _list(labels)), labels)] if labels else []


def _list(labels: Sequence[str], most: int = 5) -> str:
    if len(labels) <= most:
        return ", ".join(labels)
    return f"{len(labels)} labels" + (f" ({', '.join(labels[:3])}, ...)" if most > 2 else "")
