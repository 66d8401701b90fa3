"""Kinds of head by scikit-learn: those with settings that suit embeddings, and `module:Class` for any other.

One estimator learns all labels if that is correct and cheapest (nearest neighbours, whose search is shared; a forest
or network without class weights, which shares its trees or layers), and one learns each label otherwise: only so can
every label have its own class weights and its own unknown rows.

Of a linear classifier the coefficients are kept. Any other is kept as it is, by skops, and loaded only if it holds
nothing but trusted types.
"""

from __future__ import annotations

import importlib
import inspect
import logging
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from cxrfeat._files import atomic_path
from cxrfeat._heads.base import Fitted, Floats, Head, Task
from cxrfeat._heads.decision import logit
from cxrfeat._heads.linear import LinearHead, check_archive, read_arrays
from cxrfeat._heads.solver.path import ConvergenceWarning
from cxrfeat._heads.solver.rows import Ints, moments
from cxrfeat._progress import Progress, silent
from cxrfeat.errors import HeadError

_log = logging.getLogger(__name__)

# Below this many bytes of features, starting processes takes longer than they save.
PARALLEL_BYTES = 8 << 20

FILE, SCALER = "head.skops", "scaler.npz"
ROWS = 8192

# What scikit-learn's own estimators are made of beyond what skops trusts by itself; data and numerics, no code.
TRUSTED = (
    "sklearn.tree._tree.Tree",
    "sklearn._loss.link.LogitLink",
    "sklearn._loss.link.Interval",
    "sklearn._loss.loss.HalfBinomialLoss",
    "sklearn._loss._loss.CyHalfBinomialLoss",
    "sklearn.ensemble._hist_gradient_boosting.binning._BinMapper",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    "sklearn.metrics._dist_metrics.EuclideanDistance",
    "sklearn.metrics._dist_metrics.EuclideanDistance32",
    "sklearn.metrics._dist_metrics.EuclideanDistance64",
    "sklearn.neighbors._kd_tree.KDTree",
    "sklearn.neighbors._kd_tree.KDTree64",
    "sklearn.neighbors._kd_tree.newObj",
    "sklearn.neighbors._ball_tree.BallTree64",
    "sklearn.neighbors._ball_tree.newObj",
    "numpy.dtype",
)


class Estimator(Head):
    """Fits a scikit-learn classifier; its settings are the parameters of that class.

    `target` is `module:Class`, and `defaults` are settings that suit embeddings. Features are standardised if `scaled`.
    If `shared`, one estimator may learn all labels where there are no class weights and no unknown labels. Labels are
    fitted side by side if `parallel`: not if the estimator has threads of its own.
    """

    target: ClassVar[str]
    defaults: ClassVar[Mapping[str, Any]] = {}
    scaled: ClassVar[bool] = False
    shared: ClassVar[bool] = False
    parallel: ClassVar[bool] = True

    @classmethod
    def settings(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return all parameters of the estimator; a HeadError names one that it does not have."""
        known = inspect.signature(cls._estimator()).parameters
        for key in given:
            if key not in known:
                raise HeadError(f"head {cls.kind!r} has no setting {key!r}; it has {', '.join(known)}.")
        return {**cls.defaults, **given}

    @classmethod
    def fit(cls, task: Task, settings: Any, *, resume: bool = False, progress: Progress = silent) -> Fitted:
        """Fit one estimator for all labels, or one for each, side by side in processes that share the features."""
        from joblib import Parallel, delayed

        model, weighted = cls._model(settings, task.seed), task.weighting.scheme != "none"
        if weighted and "sample_weight" not in inspect.signature(model.fit).parameters:
            raise HeadError(f"head {cls.kind!r} takes no sample weights, so it cannot be class-weighted.")
        x = task.x
        mean, scale = moments(task.rows) if cls.scaled else (np.zeros(x.shape[1]), np.ones(x.shape[1]))
        if cls.scaled:
            x = ((x - mean) / scale).astype(np.float32)
        there = task.weighting.fittable.nonzero()[0]
        y, weights = task.y[:, there], task.weights[:, there]
        jobs: list[tuple[Any, ...]] = [(y[:, k], weights[:, k] if weighted else None) for k in range(len(there))]
        if cls.shared and not weighted and not np.isnan(y).any():
            jobs = [(y, None)]
        # Features go as an argument: joblib then maps them into every process once, instead of copying them.
        many = cls.parallel and len(jobs) > 1 and x.nbytes > PARALLEL_BYTES
        run = Parallel(n_jobs=-1 if many else 1, max_nbytes="1M", return_as="generator")
        models, said = [], list[warnings.WarningMessage]()
        for done, (fitted, warned) in enumerate(run(delayed(_one)(cls.kind, model, x, *job) for job in jobs), start=1):
            models.append(fitted)
            said += warned
            progress(done, len(jobs), task.labels[there[done - 1]] if len(jobs) > 1 else "")
        late = _unconverged(cls.kind, said)
        notes = {"estimator": cls.target, "settings": {k: repr(v) for k, v in model.get_params(deep=False).items()}}
        return Fitted(cls._of(task.labels, models, there, mean, scale), not late, None, notes)

    @classmethod
    def _of(cls, labels: tuple[str, ...], models: list[Any], there: Ints, mean: Floats, scale: Floats) -> Head:
        """Make the head of fitted estimators."""
        raise NotImplementedError

    @classmethod
    def _estimator(cls) -> Any:
        module, _, name = cls.target.partition(":")
        try:
            found = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, ValueError, TypeError) as error:
            raise HeadError(f"head {cls.kind!r} cannot be imported ({error}); give `module:Class`.") from error
        if not (inspect.isclass(found) and hasattr(found, "fit") and hasattr(found, "get_params")):
            raise HeadError(f"{cls.kind!r} is not a scikit-learn classifier: it has no fit and get_params.")
        return found

    @classmethod
    def _model(cls, settings: Mapping[str, Any], seed: int) -> Any:
        found = cls._estimator()
        drawn = {"random_state": seed} if "random_state" in inspect.signature(found).parameters else {}
        return found(**{**drawn, **settings})


class LinearEstimator(Estimator, LinearHead):
    """A classifier with coefficients, which are all that is kept of it."""

    scaled = True

    @classmethod
    def _of(cls, labels: tuple[str, ...], models: list[Any], there: Ints, mean: Floats, scale: Floats) -> Head:
        coef, intercept = np.full((len(labels), len(mean)), np.nan), np.full(len(labels), np.nan)
        for k, model in zip(there, models, strict=True):
            coef[k] = model.coef_[0] / scale
            intercept[k] = model.intercept_[0] - coef[k] @ mean
        return cls(labels, coef, intercept)


class KeptEstimator(Estimator):
    """One classifier for all labels, or one a label.

    `models` are fitted: as many as `places`, the labels that were fitted, or one for all of them. Features are
    standardised by `mean` and `scale`, (dim,); 0 and 1 if they are not.
    """

    def __init__(
        self, labels: tuple[str, ...], models: list[Any], places: tuple[int, ...], mean: Floats, scale: Floats
    ) -> None:
        super().__init__(labels, len(mean))
        self.models, self.places, self.mean, self.scale = models, places, mean, scale
        self.fitted = np.isin(np.arange(len(labels)), places)

    def _logits(self, x: npt.NDArray[np.float32]) -> Floats:
        out = np.full((len(x), len(self.labels)), np.nan)
        for at in range(0, len(x), ROWS):
            part = ((x[at : at + ROWS] - self.mean) / self.scale).astype(np.float32)
            if len(self.models) == 1 and len(self.places) > 1:
                out[at : at + ROWS, self.places] = _joint(self.models[0], part)
            else:
                for place, model in zip(self.places, self.models, strict=True):
                    out[at : at + ROWS, place] = _single(model, part)
        return out

    def save(self, folder: Path) -> list[str]:
        import skops.io

        with atomic_path(folder / FILE) as part:
            skops.io.dump(self.models, part, compression=zipfile.ZIP_DEFLATED, compresslevel=1)
            try:
                check_archive(part)
            except HeadError:  # many equal numbers deflate to what `load` refuses
                skops.io.dump(self.models, part)
            if strange := _strange(part):
                raise HeadError(
                    f"head {self.kind!r} has types that could not be loaded again ({', '.join(strange[:3])}); the run "
                    "was not written. Use another class."
                )
        with atomic_path(folder / SCALER) as part:
            np.savez(part, mean=self.mean, scale=self.scale, places=np.array(self.places))
        return [FILE, SCALER]

    @classmethod
    def load(cls, folder: Path, labels: tuple[str, ...], state: Mapping[str, Any]) -> Self:
        """Read `head.skops` after asking skops which types it holds.

        Only types that skops trusts by itself and those of `TRUSTED` are built.
        """
        path = folder / FILE
        check_archive(path)
        arrays = read_arrays(folder / SCALER, ("mean", "scale", "places"))
        import skops.io

        try:
            strange = _strange(path)
            models = None if strange else skops.io.load(path, trusted=list(TRUSTED))
        except Exception as error:  # skops raises anything for content that it does not expect
            raise HeadError(f"{path} is not a head saved by skops ({error}); it was not loaded.") from error
        if strange:
            raise HeadError(
                f"{path} has types that are not trusted ({', '.join(strange[:3])}); it was not loaded. Fit the head "
                "again with one of scikit-learn's own classes."
            )
        places = tuple(int(k) for k in arrays["places"])
        if not isinstance(models, list) or len(models) not in (1, len(places)):
            raise HeadError(f"{path} has no list of estimators for {len(places)} labels; fit the head again.")
        mean, scale = (arrays[name].astype(np.float64) for name in ("mean", "scale"))
        return cls(labels, models, places, mean, scale)

    @classmethod
    def _of(cls, labels: tuple[str, ...], models: list[Any], there: Ints, mean: Floats, scale: Floats) -> Head:
        return cls(labels, models, tuple(int(k) for k in there), mean, scale)


class Svm(LinearEstimator):
    kind, target = "svm", "sklearn.svm:LinearSVC"
    defaults = {"C": 0.01, "dual": "auto", "max_iter": 5000}
    grid = {"C": (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)}


class Lda(LinearEstimator):
    kind, target, takes_weights = "lda", "sklearn.discriminant_analysis:LinearDiscriminantAnalysis", False
    defaults = {"solver": "lsqr", "shrinkage": "auto"}
    grid = {"shrinkage": ("auto", 0.1, 0.5, 0.9)}


class Mlp(KeptEstimator):
    kind, target, scaled, shared = "mlp", "sklearn.neural_network:MLPClassifier", True, True
    defaults = {"hidden_layer_sizes": (128,), "alpha": 1e-3, "max_iter": 60}
    grid = {"alpha": (1e-4, 1e-2, 1.0)}


class RandomForest(KeptEstimator):
    kind, target, shared, parallel = "random-forest", "sklearn.ensemble:RandomForestClassifier", True, False
    defaults = {"n_estimators": 100, "min_samples_leaf": 3, "max_features": "sqrt", "n_jobs": -1}
    grid = {"min_samples_leaf": (1, 3, 10)}


class HistGradientBoosting(KeptEstimator):
    kind, target, parallel = "hist-gradient-boosting", "sklearn.ensemble:HistGradientBoostingClassifier", False
    defaults = {"max_iter": 100, "learning_rate": 0.1, "max_leaf_nodes": 15, "l2_regularization": 1.0}
    grid = {"max_leaf_nodes": (4, 15, 31)}


class NearestNeighbours(KeptEstimator):
    kind, target, takes_weights = "knn", "sklearn.neighbors:KNeighborsClassifier", False
    defaults = {"n_neighbors": 25, "n_jobs": -1}
    grid = {"n_neighbors": (5, 15, 45)}
    scaled, shared = True, True


def of_class(kind: str) -> type[Head]:
    """Return the kind of a classifier named `module:Class`; it is imported when it is fitted."""
    return type("ClassifierHead", (KeptEstimator,), {"kind": kind, "target": kind})


def _one(kind: str, model: Any, x: npt.NDArray[np.float32], y: Floats, weight: Floats | None) -> tuple[Any, list[Any]]:
    """Fit on the known rows; warnings come back with the estimator, since processes do not share them."""
    from sklearn.base import clone

    known = ~np.isnan(y)
    if not known.all():
        x, y, weight = x[known], y[known], None if weight is None else weight[known]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            fitted = clone(model).fit(x, y.astype(int), **({} if weight is None else {"sample_weight": weight}))
        except (ValueError, TypeError, OverflowError) as error:
            # scikit-learn names the setting or shape at fault in its first line.
            raise HeadError(f"head {kind!r} could not be fitted: {str(error).splitlines()[0]}") from error
    return fitted, said


def _unconverged(kind: str, said: list[warnings.WarningMessage]) -> bool:
    """Log each different warning once, and return whether one was that an optimiser did not converge.

    Of these one sentence is given, instead of a text of scikit-learn's for each label.
    """
    from sklearn.exceptions import ConvergenceWarning as Unconverged

    late = any(issubclass(w.category, Unconverged) for w in said)
    if late:
        warnings.warn(
            f"the {kind} head stopped before it converged; raise its iterations, such as max_iter.",
            ConvergenceWarning,
            stacklevel=4,
        )
    for message in sorted({str(w.message) for w in said if not issubclass(w.category, Unconverged)}):
        _log.warning("head %r: %s", kind, message.splitlines()[0])
    return late


def _strange(path: Path) -> list[str]:
    """Types in a file that neither skops nor this project trusts."""
    import skops.io

    return sorted(set(skops.io.get_untrusted_types(file=path)) - set(TRUSTED))


def _single(model: Any, x: npt.NDArray[np.float32]) -> Floats:
    """Logits of the positive class: those of the probability if there is one, else the decision function."""
    if hasattr(model, "predict_proba"):
        p = model.predict_proba(x)
        return logit(p[:, list(model.classes_).index(1)])
    if hasattr(model, "decision_function"):
        return np.asarray(model.decision_function(x), dtype=np.float64)
    raise HeadError(f"{type(model).__name__} has neither probabilities nor a decision function; choose another head.")


def _joint(model: Any, x: npt.NDArray[np.float32]) -> Floats:
    """The same for all labels at once."""
    p = model.predict_proba(x)
    if isinstance(p, list):  # forests and neighbours: (n, 2) for each label
        return np.stack([logit(part[:, 1]) for part in p], axis=1)
    return logit(p)
