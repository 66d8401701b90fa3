"""Class weights: what a positive and a negative of each label weigh in the loss, from the training labels alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cxrfeat._heads.registry import WEIGHTINGS
from cxrfeat._heads.solver.rows import Bools, Floats, Ints
from cxrfeat.errors import HeadError

EFFECTIVE_BETA = 0.9999


@dataclass(frozen=True)
class Weighting:
    """Class weights of every label: known training rows of each class, and the weight of one row of it, (labels,)."""

    scheme: str
    labels: tuple[str, ...]
    positives: Ints
    negatives: Ints
    positive: Floats
    negative: Floats

    @property
    def fittable(self) -> Bools:
        """Labels with both classes in training, bool (labels,); nothing can be learnt about the others."""
        return (self.positives > 0) & (self.negatives > 0)

    @property
    def log_ratio(self) -> Floats:
        """log(w_positive / w_negative) of every label, float64 (labels,); 0 if it was not fitted."""
        ratio, there = np.zeros(len(self.labels)), self.fittable
        ratio[there] = np.log(self.positive[there] / self.negative[there])
        return ratio

    def of(self, y: Floats) -> Floats:
        """Weight of every entry of `y`, float64 (n, labels); 0 where the label is unknown (NaN).

        A probability weighs as its share of a positive and of a negative.
        """
        return np.where(np.isnan(y), 0.0, y * self.positive + (1 - y) * self.negative)

    def targets(self, y: Floats) -> Floats:
        """What to fit with the weights of `of`, so that the loss is that of weighted positives and negatives.

        w (t log p + (1 - t) log(1 - p)) equals w_p y log p + w_n (1 - y) log(1 - p); 1, 0 and NaN stay what they are.
        """
        soft = (y > 0) & (y < 1)
        return np.where(soft, y * self.positive / np.where(soft, self.of(y), 1.0), y) if soft.any() else y

    def rows(self) -> list[dict[str, Any]]:
        """The table, one row per label."""
        names = ("label", "positives", "negatives", "weight_positive", "weight_negative")
        counts, weights = (self.positives, self.negatives), (self.positive, self.negative)
        columns = [self.labels, *(column.tolist() for column in (*counts, *weights))]
        return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def weigh(y: Floats, labels: Sequence[str], scheme: str = "none") -> Weighting:
    """Compute the class weights of a scheme from training labels, float64 (n, labels): 1, 0 or NaN for unknown.

    `paper` weighs each class by the share of the other (Fan and Bu, Entropy 2022, 24(3):313, after Wang et al., CVPR
    2017); `paper-literal` by its own share, as the paper's formula reads; `balanced` by n / (2 n_class), as
    scikit-learn's `class_weight="balanced"`; `effective-number` in proportion to (1 - beta) / (1 - beta^n_class), to a
    sum of 2 over the classes (Cui et al., CVPR 2019).
    """
    if scheme not in WEIGHTINGS:
        raise HeadError(f"unknown weighting {scheme!r}; choose one of {', '.join(WEIGHTINGS)}.")
    positives, negatives = (y == 1).sum(axis=0), (y == 0).sum(axis=0)
    counts = np.stack([positives, negatives]).astype(np.float64)
    total = np.maximum(counts.sum(axis=0), 1.0)
    if scheme == "none":
        weights = np.ones_like(counts)
    elif scheme == "paper":
        weights = counts[::-1] / total
    elif scheme == "paper-literal":
        weights = counts / total
    elif scheme == "balanced":
        weights = total / (2 * np.maximum(counts, 1.0))
    else:
        # 1 - beta^n, without the cancellation where n is small.
        effective = -np.expm1(np.maximum(counts, 1.0) * np.log(EFFECTIVE_BETA))
        weights = 1 / effective
        weights *= 2 / weights.sum(axis=0)
    return Weighting(scheme, tuple(labels), positives, negatives, weights[0], weights[1])
