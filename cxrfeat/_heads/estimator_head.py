"""A head of fitted scikit-learn estimators, kept by skops and loaded only if it holds nothing but trusted types."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from cxrfeat._files import atomic_path
from cxrfeat._heads.base import Floats, Head
from cxrfeat._heads.decision import logit
from cxrfeat._heads.linear import check_archive, read_arrays
from cxrfeat.errors import HeadError

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


class EstimatorHead(Head):
    """One estimator for all labels, or one a label.

    `models` are fitted classifiers: as many as `places`, the labels that were fitted, or one for all of them. Features
    are standardised by `mean` and `scale`, (dim,); 0 and 1 if they are not.
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
        """Write `head.skops` and `scaler.npz`."""
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
