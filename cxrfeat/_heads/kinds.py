"""The kinds of head there are, and the one door to fitting any of them."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cxrfeat._heads.head import Head
from cxrfeat._heads.task import Fitted, Task
from cxrfeat._progress import Progress, silent
from cxrfeat.errors import HeadError

# Kind -> module with `fit`. Modules are imported when they are needed: logistic must wait neither for scikit-learn
# nor for TensorFlow.
FITTERS = {
    "logistic": "logistic_fit",
    "keras": "keras_training",
    **dict.fromkeys(("svm", "mlp", "random-forest", "hist-gradient-boosting", "knn", "lda"), "estimators"),
}
# Kind -> module and class that read it back.
LOADERS = {
    "logistic": ("linear", "LinearHead"),
    "keras": ("keras_head", "KerasHead"),
    "ensemble": ("ensemble", "EnsembleHead"),
    "svm": ("linear", "LinearHead"),
    "lda": ("linear", "LinearHead"),
    **dict.fromkeys(("mlp", "random-forest", "hist-gradient-boosting", "knn"), ("estimator_head", "EstimatorHead")),
}


def fit(
    kind: str, task: Task, settings: Mapping[str, Any], resume: bool = False, progress: Progress = silent
) -> Fitted:
    """Fit a head of a kind.

    Raises
    ------
    HeadError
        If there is no such kind, or it cannot be fitted as asked.
    """
    module = importlib.import_module(f"cxrfeat._heads.{_module(kind)}")
    if resume and kind != "keras":
        raise HeadError(f"a {kind} head has no checkpoints to go on from; only the keras head is resumed.")
    fitted: Fitted = (
        module.fit(task, settings, resume=resume, progress=progress)
        if kind == "keras"
        else module.fit(task, settings, kind=kind, progress=progress)
    )
    return fitted


def load(kind: str, folder: Path, info: Mapping[str, Any]) -> Head:
    """Read a head of a kind from a run folder."""
    if ":" in kind:
        from cxrfeat._heads.estimator_head import EstimatorHead

        return EstimatorHead.load(folder, info)
    if kind not in LOADERS:
        raise HeadError(f"{folder / 'head.json'} is of a kind {kind!r} that this cxrfeat does not know; upgrade it.")
    module, name = LOADERS[kind]
    reader: type[Head] = getattr(importlib.import_module(f"cxrfeat._heads.{module}"), name)
    return reader.load(folder, info)


def _module(kind: str) -> str:
    if kind in FITTERS:
        return FITTERS[kind]
    if ":" in kind:
        return "estimators"
    raise HeadError(
        f"unknown head {kind!r}; choose one of {', '.join(FITTERS)}, or module:Class of scikit-learn's kind."
    )
