"""Heads by scikit-learn: the named ones with settings that suit embeddings, and `module:Class` for any other.

One estimator for all labels where that is correct and cheapest (nearest neighbours, whose search is shared; a forest
or network without class weights, which shares its trees or layers), and one a label otherwise: only so can every label
have its own class weights and its own unknown rows.
"""

from __future__ import annotations

import importlib
import inspect
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from cxrfeat._heads.estimator_head import EstimatorHead
from cxrfeat._heads.head import Floats, Head
from cxrfeat._heads.linear import LinearHead
from cxrfeat._heads.scaling import moments
from cxrfeat._heads.task import Fitted, Task
from cxrfeat._progress import Progress, silent
from cxrfeat.errors import HeadError

# Below this many bytes of features, starting processes takes longer than they save.
PARALLEL_BYTES = 8 << 20


@dataclass(frozen=True)
class Spec:
    """A named head.

    Attributes
    ----------
    target : str
        `module:Class`.
    settings : mapping
        Settings that suit embeddings; `--set` goes over them.
    scaled : bool
        Whether features are standardised for it.
    shared : bool
        Whether one estimator may learn all labels, if there are no class weights and no unknown labels.
    linear : bool
        Whether it ends as coefficients.
    parallel : bool
        Whether labels are fitted side by side; not where the estimator has threads of its own.
    """

    target: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    scaled: bool = False
    shared: bool = False
    linear: bool = False
    parallel: bool = True


SPECS = {
    "svm": Spec("sklearn.svm:LinearSVC", {"C": 0.01, "dual": "auto", "max_iter": 5000}, scaled=True, linear=True),
    "lda": Spec(
        "sklearn.discriminant_analysis:LinearDiscriminantAnalysis",
        {"solver": "lsqr", "shrinkage": "auto"}, scaled=True, linear=True,
    ),
    "mlp": Spec(
        "sklearn.neural_network:MLPClassifier",
        {"hidden_layer_sizes": (128,), "alpha": 1e-3, "max_iter": 60}, scaled=True, shared=True,
    ),
    "random-forest": Spec(
        "sklearn.ensemble:RandomForestClassifier",
        {"n_estimators": 100, "min_samples_leaf": 3, "max_features": "sqrt", "n_jobs": -1}, shared=True, parallel=False,
    ),
    "hist-gradient-boosting": Spec(
        "sklearn.ensemble:HistGradientBoostingClassifier",
        {"max_iter": 100, "learning_rate": 0.1, "max_leaf_nodes": 15, "l2_regularization": 1.0}, parallel=False,
    ),
    "knn": Spec("sklearn.neighbors:KNeighborsClassifier", {"n_neighbors": 25, "n_jobs": -1}, scaled=True, shared=True),
}  # fmt: skip


def fit(task: Task, settings: Mapping[str, Any], kind: str, progress: Progress = silent) -> Fitted:
    """Fit a head of a named kind or of `module:Class`.

    Raises
    ------
    HeadError
        If the class cannot be imported or is no classifier, a setting is wrong, or it takes no sample weights and
        class weights were asked for.
    """
    spec = SPECS.get(kind) or Spec(kind)
    make = _maker(kind, spec, settings, task.seed)
    weighted = task.weighting.scheme != "none"
    if weighted and "sample_weight" not in inspect.signature(make().fit).parameters:
        able = ", ".join(["logistic", "keras", *(k for k, s in SPECS.items() if _takes_weights(s))])
        raise HeadError(f"head {kind!r} takes no sample weights, so it cannot be class-weighted; use one of {able}.")
    x = task.x
    mean, scale = moments(task.rows) if spec.scaled else (np.zeros(x.shape[1]), np.ones(x.shape[1]))
    if spec.scaled:
        x = ((x - mean) / scale).astype(np.float32)
    there = task.weighting.fittable.nonzero()[0]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        if spec.shared and not weighted and not np.isnan(task.y[:, there]).any():
            models = [_call(kind, make, x, task.y[:, there], None)]
            progress(len(task.labels), len(task.labels))
        else:
            models = _each(kind, spec, make, x, task, there, weighted, progress)
    late = _repeat(said)
    notes = {"estimator": spec.target, "settings": {k: repr(v) for k, v in make().get_params(deep=False).items()}}
    return Fitted(_head(kind, spec, task, models, there, mean, scale), not late, None, notes)


def _each(
    kind: str,
    spec: Spec,
    make: Callable[[], Any],
    x: npt.NDArray[np.float32],
    task: Task,
    there: npt.NDArray[np.int64],
    weighted: bool,
    progress: Progress,
) -> list[Any]:
    """One estimator a label, side by side in threads of processes that share the features."""
    weights = task.weights
    models = []
    if spec.parallel and len(there) > 1 and x.nbytes > PARALLEL_BYTES:
        from joblib import Parallel, delayed

        # Features go as an argument: joblib then maps them into every process once, instead of copying them.
        results = Parallel(n_jobs=-1, max_nbytes="1M", return_as="generator")(
            delayed(_one)(kind, make, x, task.y[:, k], weights[:, k] if weighted else None) for k in there
        )
    else:
        results = (_one(kind, make, x, task.y[:, k], weights[:, k] if weighted else None) for k in there)
    for done, (model, said) in enumerate(results, start=1):
        models.append(model)
        for message, category in said:
            warnings.warn(str(message), category, stacklevel=2)
        progress(done, len(there), task.labels[there[done - 1]])
    return models


def _one(
    kind: str, make: Callable[[], Any], x: npt.NDArray[np.float32], y: Floats, weight: Floats | None
) -> tuple[Any, list[Any]]:
    """Fit one label on its known rows; its warnings come back with it, since processes do not share them."""
    known = ~np.isnan(y)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        part = x if known.all() else x[known]
        model = _call(kind, make, part, y[known].astype(int), None if weight is None else weight[known])
    return model, [(w.message, w.category) for w in said]


def _head(
    kind: str, spec: Spec, task: Task, models: list[Any], there: npt.NDArray[np.int64], mean: Floats, scale: Floats
) -> Head:
    labels = task.labels
    if not spec.linear:
        return EstimatorHead(labels, models, tuple(int(k) for k in there), mean, scale, kind)
    coef, intercept = np.full((len(labels), len(mean)), np.nan), np.full(len(labels), np.nan)
    for k, model in zip(there, models, strict=True):
        coef[k] = model.coef_[0] / scale
        intercept[k] = model.intercept_[0] - coef[k] @ mean
    return LinearHead(labels, coef, intercept, kind)


def _maker(kind: str, spec: Spec, settings: Mapping[str, Any], seed: int) -> Callable[[], Any]:
    """A function that makes the estimator anew, checked once."""
    module, colon, name = spec.target.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise HeadError(f"head {kind!r} cannot be imported ({error}); give module:Class.") from error
    if not colon or not (inspect.isclass(found) and hasattr(found, "fit") and hasattr(found, "get_params")):
        raise HeadError(f"{kind!r} is no scikit-learn classifier: it has no fit and get_params.")
    known = inspect.signature(found).parameters
    for key in settings:
        if key not in known:
            raise HeadError(f"head {kind!r} has no setting {key!r}; it has {', '.join(known)}.")
    values = {**spec.settings, **settings}
    if "random_state" in known:
        values.setdefault("random_state", seed)
    return lambda: found(**values)


def _call(kind: str, make: Callable[[], Any], x: Any, y: Any, weight: Any) -> Any:
    try:
        return make().fit(x, y) if weight is None else make().fit(x, y, sample_weight=weight)
    except (ValueError, TypeError) as error:
        # scikit-learn names the setting or shape at fault in its first line.
        raise HeadError(f"head {kind!r} could not be fitted: {str(error).splitlines()[0]}") from error


def _takes_weights(spec: Spec) -> bool:
    module, _, name = spec.target.partition(":")
    return "sample_weight" in inspect.signature(getattr(importlib.import_module(module), name).fit).parameters


def _repeat(said: list[warnings.WarningMessage]) -> bool:
    """Give each different warning once, and tell whether one was that an optimiser did not converge."""
    from sklearn.exceptions import ConvergenceWarning

    seen = {(str(w.message), w.category) for w in said}
    for message, category in sorted(seen, key=str):
        warnings.warn(message, category, stacklevel=3)
    return any(issubclass(category, ConvergenceWarning) for _, category in seen)
