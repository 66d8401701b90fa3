"""What users choose by name when they fit a head; nothing heavy is imported, since help texts list these."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from cxrfeat._registry import Registry
from cxrfeat.errors import HeadError

if TYPE_CHECKING:
    from cxrfeat._heads.base import Head

WEIGHTINGS = ("none", "paper", "paper-literal", "balanced", "effective-number")
CALIBRATIONS = ("platt", "isotonic", "temperature", "none")
ENSEMBLES = ("mean", "stacked")
PASSES = ("all", "0")
IMPORTED = "imported"
"""The kind of a head that came with imported weights; it is not among the kinds that can be fitted."""

PRESETS: dict[str, dict[str, Any]] = {
    # Fan and Bu, Entropy 2022, 24(3):313: one softmax over the labels, class-weighted, its outputs left as they are,
    # and training until its accuracy has not risen for 10 epochs.
    "paper": {
        "heads": ("keras",), "settings": {"activation": "softmax", "monitor": "accuracy"}, "weighting": "paper",
        "calibration": "none",
    },
}  # fmt: skip

_ESTIMATORS = {
    "svm": "Svm", "lda": "Lda", "mlp": "Mlp", "random-forest": "RandomForest",
    "hist-gradient-boosting": "HistGradientBoosting", "knn": "NearestNeighbours",
}  # fmt: skip
HEADS: Registry[type[Head]] = Registry(
    "head",
    "cxrfeat.heads",
    {
        "logistic": "cxrfeat._heads.linear:LogisticHead",
        "keras": "cxrfeat._heads.keras_head:KerasHead",
        **{kind: f"cxrfeat._heads.estimators:{name}" for kind, name in _ESTIMATORS.items()},
    },
    HeadError,
)
_CLASS = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def head_class(kind: str) -> type[Head]:
    """Return the class of a kind: one declared, or that of a scikit-learn classifier named `module:Class`."""
    if _CLASS.fullmatch(kind):
        from cxrfeat._heads.estimators import of_class

        return of_class(kind)
    if kind == IMPORTED:
        from cxrfeat._heads.imported import ImportedHead

        return ImportedHead
    if kind not in HEADS:
        raise HeadError(
            f"unknown head {kind!r}; choose one of {', '.join(HEADS.names)}, or `module:Class` of a scikit-learn "
            "classifier."
        )
    return HEADS[kind]
