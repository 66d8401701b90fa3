"""From raw logits to decisions: calibrated probabilities and a threshold a label, learnt on validation, never on test.

Platt scaling, sigmoid(a z + b), is the default. A class-weighted head is off by a shift of its logits, which a
temperature cannot correct, and a validation split of a few dozen positives is too little for isotonic regression. A
label with fewer than `FEWEST` validation rows of a class is not fitted: its logits are shifted by
-log(w_positive / w_negative), which undoes the class weights exactly where the model is right (Saerens et al., Neural
Computation 2002, 14(1):21-41), and that is said in `head.json`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cxrfeat._heads.solver.rows import Bools, Floats, sigmoid
from cxrfeat._run import Decision, Options
from cxrfeat.errors import HeadError

if TYPE_CHECKING:
    from cxrfeat._heads.base import Head

_log = logging.getLogger(__name__)

FEWEST = 10
"""Positives and negatives in validation from which a calibration is learnt, or a threshold chosen."""

# A forest says 0 and 1; beyond these bounds a probability says no more than that, and its logit would be infinite.
CLIP = 1e-7


@dataclass(frozen=True)
class Step:
    """Calibration of one label: sigmoid(slope z + shift), or a rising curve through knots of logit and probability.

    With an operating point, probabilities below it and above it are stretched so that it becomes 0.5, as
    TorchXRayVision's `op_norm` does.
    """

    method: str = "none"
    slope: float = 1.0
    shift: float = 0.0
    knots: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    point: float | None = None

    def apply(self, z: Floats) -> Floats:
        """Probabilities, float64 (n,), of raw logits (n,)."""
        if self.point is not None:
            p = sigmoid(z)
            return np.where(p < self.point, p / (2 * self.point), 1 - (1 - p) / (2 * (1 - self.point)))
        if self.knots is None:
            return sigmoid(self.slope * z + self.shift)
        curve = np.interp(z, self.knots[0], self.knots[1])
        return np.where(np.isnan(z), np.nan, curve)


@dataclass(frozen=True)
class Calibration:
    """Calibration of every label, in the head's order; `split` says what it was learnt on, empty for nothing."""

    method: str
    steps: tuple[Step, ...]
    split: str = ""

    @classmethod
    def none(cls, labels: int) -> Calibration:
        """Leave every label as it is."""
        return cls("none", (Step(),) * labels)

    def apply(self, logits: Floats) -> Floats:
        """Probabilities, float64 (n, labels), of raw logits (n, labels); NaN stays NaN."""
        return np.stack([step.apply(logits[:, k]) for k, step in enumerate(self.steps)], axis=1)

    def to_dict(self) -> dict[str, Any]:
        return {"method": self.method, "split": self.split, "labels": [_step_to_dict(step) for step in self.steps]}

    @classmethod
    def from_dict(cls, found: Mapping[str, Any], labels: int) -> Calibration:
        """Read what `to_dict` wrote; a HeadError if it is not a calibration of that many labels."""
        if not found:
            return cls.none(labels)
        try:
            steps = tuple(_step_from_dict(step) for step in found["labels"])
            calibration = cls(str(found["method"]), steps, str(found["split"]))
        except (KeyError, TypeError, ValueError) as error:
            raise HeadError(f"head.json holds no readable calibration ({error!r}); fit the head again.") from error
        if len(steps) != labels:
            raise HeadError(f"head.json calibrates {len(steps)} labels and the head has {labels}; fit the head again.")
        return calibration


def _step_to_dict(step: Step) -> dict[str, Any]:
    if step.point is not None:
        return {"method": step.method, "point": step.point}
    if step.knots is not None:
        return {"method": step.method, "logit": list(step.knots[0]), "probability": list(step.knots[1])}
    return {"method": step.method, "slope": step.slope, "shift": step.shift}


def _step_from_dict(found: Mapping[str, Any]) -> Step:
    if "point" in found:
        return Step(found["method"], point=float(found["point"]))
    if "logit" in found:
        return Step(found["method"], knots=(tuple(map(float, found["logit"])), tuple(map(float, found["probability"]))))
    return Step(found["method"], float(found["slope"]), float(found["shift"]))


def decide(
    head: Head, y: Floats, logits: Floats, held: Bools, options: Options, log_weight_ratio: Floats
) -> tuple[Decision, Floats]:
    """Calibrate a head on the rows `held`, and choose its thresholds there; of all rows, the probabilities."""
    split, method = "val" if held.any() else "", "none" if head.softmax else options.calibration
    head.calibration = calibrate(y[held], logits[held], method, split, log_weight_ratio)
    p, rule = head.from_logits(logits), Rule.parse(options.threshold)
    chosen = dict(zip(head.labels, choose(y[held], p[held], rule), strict=True))
    reasons = {label: found for label, found in chosen.items() if isinstance(found, str)}
    if reasons:
        labels: dict[str, list[str]] = {}
        for label, reason in reasons.items():
            labels.setdefault(reason, []).append(label)
        named = "; ".join(f"{', '.join(names)} ({reason})" for reason, names in labels.items())
        _log.warning("no threshold for %d of %d labels: %s.", len(reasons), len(chosen), named)
    values = {label: None if isinstance(found, str) else found for label, found in chosen.items()}
    return Decision(str(rule), split, values, reasons), p


def logit(p: npt.NDArray[Any]) -> Floats:
    """log(p / (1 - p)), float64, with `p` kept within [1e-7, 1 - 1e-7]."""
    p = np.clip(np.asarray(p, dtype=np.float64), CLIP, 1 - CLIP)
    return np.log(p) - np.log1p(-p)


def calibrate(
    y: Floats, logits: Floats, method: str, split: str, log_weight_ratio: Floats | None = None
) -> Calibration:
    """Learn a calibration from labels (n, labels) and raw logits of held-out rows; NaN labels are left out.

    `log_weight_ratio`, (labels,), is log(w_positive / w_negative) of the weights that the head was fitted with: a label
    with too few held-out rows is shifted back by it.
    """
    labels = y.shape[1]
    if method == "none":
        return Calibration.none(labels)
    ratio = np.zeros(labels) if log_weight_ratio is None else log_weight_ratio
    steps = []
    for k in range(labels):
        known = ~np.isnan(y[:, k]) & ~np.isnan(logits[:, k])
        positive, z = y[known, k] > 0, logits[known, k]
        fewest = min(positive.sum(), (~positive).sum())
        step = _FIT[method](positive, z) if fewest >= FEWEST else None
        steps.append(step or Step("weights", shift=-float(ratio[k])))
    return Calibration(method, tuple(steps), split)


def _platt(positive: Bools, z: Floats) -> Step | None:
    n, total = positive.sum(), len(positive)
    target = np.where(positive, (n + 1) / (n + 2), 1 / (total - n + 2))
    # Logits of some heads lie far from unit scale; the fit is done on that scale so that Newton steps behave.
    scale = max(float(np.std(z)), 1e-12)
    slope, shift = _newton(np.stack([z / scale, np.ones_like(z)], axis=1), target)
    # A falling curve would turn the ranking round on the word of a few rows: the head has learnt nothing here.
    return Step("platt", slope / scale, shift) if slope > 0 else None


def _temperature(positive: Bools, z: Floats) -> Step | None:
    scale = max(float(np.std(z)), 1e-12)
    (slope,) = _newton((z / scale)[:, None], positive.astype(float))
    return Step("temperature", slope / scale) if slope > 0 else None


def _isotonic(positive: Bools, z: Floats) -> Step:
    from scipy.optimize import isotonic_regression

    x, place, count = np.unique(z, return_inverse=True, return_counts=True)
    mean = np.bincount(place, weights=positive) / count
    curve = np.clip(isotonic_regression(mean, weights=count).x, CLIP, 1 - CLIP)
    # Only the ends of each flat step are needed to draw the curve.
    keep = np.ones(len(x), dtype=bool)
    keep[1:-1] = (curve[1:-1] != curve[:-2]) | (curve[1:-1] != curve[2:])
    return Step("isotonic", knots=(tuple(x[keep].tolist()), tuple(curve[keep].tolist())))


_FIT = {"platt": _platt, "temperature": _temperature, "isotonic": _isotonic}


def _newton(design: Floats, target: Floats) -> Floats:
    """Logistic regression of one or two coefficients on soft targets, by Newton steps that never go uphill."""

    def loss(w: Floats) -> float:
        z = design @ w
        return float((np.logaddexp(0, z) - target * z).sum())

    w = np.zeros(design.shape[1])
    for _ in range(100):
        p = sigmoid(design @ w)
        gradient = design.T @ (p - target)
        hessian = (design * (p * (1 - p))[:, None]).T @ design + 1e-9 * np.eye(len(w))
        step = np.linalg.solve(hessian, gradient)
        size, before = 1.0, loss(w)
        while loss(w - size * step) > before and size > 1e-6:
            size /= 2
        w = w - size * step
        if gradient @ step < 1e-12 * (1 + before):
            break
    return w


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
