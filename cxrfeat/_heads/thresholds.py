"""Decision thresholds: one probability per label, chosen on validation, above or at which a finding is called."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cxrfeat.errors import HeadError

Floats = npt.NDArray[np.float64]

FEWEST = 10
"""Positives and negatives in validation that a threshold is chosen from, as many as a calibration needs."""


@dataclass(frozen=True)
class Rule:
    """How thresholds are chosen.

    `youden`: most sensitivity + specificity. `f1`: most F1. `sensitivity`: the highest threshold that reaches `value`.
    `precision`: the most sensitive threshold that reaches `value`. `fixed`: `value` for every label.
    """

    method: str
    value: float = float("nan")

    @classmethod
    def parse(cls, text: str) -> Rule:
        """Read `youden`, `f1`, `sensitivity=0.9`, `precision=0.5` or a plain probability."""
        method, _, value = text.partition("=")
        with suppress(ValueError):  # not a number: told below, with everything else that is not a rule
            if method in ("youden", "f1") and not value:
                return cls(method)
            if method in ("sensitivity", "precision") and 0 < float(value) <= 1:
                return cls(method, float(value))
            if not value and 0 <= float(method) <= 1:
                return cls("fixed", float(method))
        raise HeadError(
            f"{text!r} is not a threshold rule; give youden, f1, sensitivity=0.9, precision=0.5 or a probability."
        )

    def __str__(self) -> str:
        if self.method in ("youden", "f1"):
            return self.method
        return f"{self.value:g}" if self.method == "fixed" else f"{self.method}={self.value:g}"


def choose(y: Floats, p: Floats, rule: Rule, fewest: int = FEWEST) -> list[float | str]:
    """Choose the threshold of every label; a text instead of a number is the reason why there is none.

    A threshold lies halfway between two neighbouring probabilities, so that the last digit of a printed one never
    decides. Of equally good thresholds the highest is taken: it calls the fewest findings. A label with fewer than
    `fewest` positives or negatives has none.
    """
    return [_of_label(y[:, k], p[:, k], rule, fewest) for k in range(y.shape[1])]


def _of_label(y: Floats, p: Floats, rule: Rule, fewest: int) -> float | str:
    if rule.method == "fixed":
        return rule.value
    if len(p) and np.isnan(p).all():
        return "not fitted: one class only in train"
    known = ~np.isnan(y) & ~np.isnan(p)
    y, p = y[known], p[known]
    positives = int((y == 1).sum())
    for name, count in (("positives", positives), ("negatives", len(y) - positives)):
        if count < fewest:
            return f"{count} {name} in validation, {fewest} are needed"
    # Candidate i calls everything with p >= values[i]; values fall.
    order = np.argsort(-p, kind="stable")
    last = np.append(np.diff(p[order]) != 0, True).nonzero()[0]
    values = p[order][last]
    true = np.cumsum(y[order] == 1)[last]
    called = last + 1.0
    sensitivity, precision = true / positives, true / called
    if rule.method == "youden":
        best = int(np.argmax(sensitivity - (called - true) / (len(y) - positives)))
    elif rule.method == "f1":
        best = int(np.argmax(2 * true / (called + positives)))
    elif rule.method == "sensitivity":
        best = int(np.argmax(sensitivity >= rule.value))
    else:
        enough = (precision >= rule.value).nonzero()[0]
        if not len(enough):
            return f"no threshold reaches {rule}"
        best = int(enough[-1])
    below = values[best + 1] if best + 1 < len(values) else 0.0
    return float((values[best] + below) / 2)
