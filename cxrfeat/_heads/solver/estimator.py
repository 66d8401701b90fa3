"""The multi-label logistic regression as a scikit-learn estimator, for use in pipelines and searches of one's own."""

from __future__ import annotations

import warnings
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import Tags, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    _check_sample_weight,
    check_is_fitted,
    validate_data,
)

from cxrfeat._heads.solver.labels import Labels
from cxrfeat._heads.solver.path import Solution, path
from cxrfeat._heads.solver.rows import MatrixRows, sigmoid
from cxrfeat._heads.solver.sums import LocalSums
from cxrfeat._heads.weighting import weigh


class MultiLabelLogistic(ClassifierMixin, BaseEstimator):
    """Weighted L2-penalised logistic regression of many labels at once, to its optimum.

    For every label the objective is scikit-learn's, ``C sum_i s_i logloss_i + |w|^2 / 2`` on standardised features,
    with a free intercept. All labels share each sweep over the features, which are neither copied nor standardised in
    memory; float32 features are multiplied in float32, and what is summed over rows is float64.

    Parameters
    ----------
    C : float or array-like of shape (n_labels,), default=1.0
        Inverse strength of the penalty, for all labels or for each.
    weighting : {"none", "paper", "balanced", "effective-number"}, default="none"
        Class weights of every label, from its known rows.
    fit_intercept : bool, default=True
        Whether there is an intercept; it is never penalised.
    tol : float, default=1e-7
        Relative tolerance on the objective: half the squared Newton decrement over the objective.
    max_iter : int, default=200
        At most so many iterations; a `ConvergenceWarning` says if they were not enough.

    Attributes
    ----------
    coef_, intercept_ : ndarray of shape (n_labels, n_features) and (n_labels,)
        On features as given. NaN for labels that had one class only, where others could be fitted.
    classes_ : ndarray of shape (2,)
        The two classes; 0 and 1 where y is two-dimensional.
    objective_, gap_ : ndarray of shape (n_labels,)
        The objective, and its estimated relative distance to the optimum.
    n_iter_ : int
        Sweeps over the features.
    n_features_in_ : int
        Number of features.

    Notes
    -----
    y of shape (n,) holds two classes of any kind. y of shape (n, n_labels) holds 1, 0, NaN where a label is
    unknown, or a probability between as a soft target; `predict_proba` is then the probability of 1, (n, n_labels), as
    for scikit-learn's other multi-label classifiers. With `sample_weight` the mean and scale are weighted too, so that
    a weight of 2 is the row twice.

    Examples
    --------
    >>> import numpy as np
    >>> import cxrfeat as cxr
    >>> x = np.random.default_rng(0).random((200, 8), dtype=np.float32)
    >>> y = (x[:, :2] > 0.7).astype(float)
    >>> y[::5, 1] = np.nan  # unknown
    >>> model = cxr.MultiLabelLogistic(C=10.0, weighting="balanced").fit(x, y)
    >>> model.coef_.shape, model.predict_proba(x).shape
    ((2, 8), (200, 2))
    """

    def __init__(
        self,
        C: Any = 1.0,
        *,
        weighting: str = "none",
        fit_intercept: bool = True,
        tol: float = 1e-7,
        max_iter: int = 200,
    ) -> None:
        self.C = C
        self.weighting = weighting
        self.fit_intercept = fit_intercept
        self.tol = tol
        self.max_iter = max_iter

    def __sklearn_tags__(self) -> Tags:
        """Two classes a label, many labels."""
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        tags.classifier_tags.multi_label = True
        tags.target_tags.single_output = True
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit all labels.

        Parameters
        ----------
        X : array-like of shape (n, n_features)
            Features.
        y : array-like of shape (n,) or (n, n_labels)
            Classes.
        sample_weight : array-like of shape (n,), optional
            Weights of the rows.

        Returns
        -------
        MultiLabelLogistic
            Itself.
        """
        self._fit_path(X, y, [self.C], sample_weight)
        return self

    def fit_path(self, X: Any, y: Any, Cs: Any, sample_weight: Any = None) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Fit at several strengths, each from where the last ones point to; keeps the fit at the last.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`.
        Cs : array-like of shape (n_strengths,)
            Strengths, for all labels; rising is fastest.

        Returns
        -------
        coef, intercept : ndarray of shape (n_strengths, n_labels, n_features) and (n_strengths, n_labels)
            On features as given.
        """
        found = self._fit_path(X, y, Cs, sample_weight)
        return np.stack([one.coef for one in found]), np.stack([one.intercept for one in found])

    def decision_function(self, X: Any) -> npt.NDArray[np.float64]:
        """Logits, float64 of shape (n,) or (n, n_labels).

        Parameters
        ----------
        X : array-like, shape (n, n_features)
            Embeddings.
        """
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=[np.float64, np.float32])
        logits = X @ self.coef_.T + self.intercept_
        return logits if self._multi else logits[:, 0]

    def predict_proba(self, X: Any) -> npt.NDArray[np.float64]:
        """Probabilities: (n, 2) of the two classes, or (n, n_labels) of 1; NaN for labels that were not fitted.

        Parameters
        ----------
        X : array-like, shape (n, n_features)
            Embeddings.
        """
        p = sigmoid(self.decision_function(X))
        return p if self._multi else np.stack([1 - p, p], axis=1)

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """The more probable class; for labels that were not fitted NaN, which makes the array float64.

        Parameters
        ----------
        X : array-like, shape (n, n_features)
            Embeddings.
        """
        logits = self.decision_function(X)
        if not self._multi:
            return self.classes_[(logits > 0).astype(int)]
        if np.isnan(self.intercept_).any():
            return np.where(np.isnan(logits), np.nan, logits > 0)
        return (logits > 0).astype(np.int64)

    def _fit_path(self, X: Any, y: Any, Cs: Any, sample_weight: Any) -> list[Solution]:
        """Solutions at strengths for all labels or for each; the last is kept."""
        X = validate_data(self, X, dtype=[np.float64, np.float32], order="C")
        truth = self._truth(y, len(X))
        row_weight = None if sample_weight is None else _check_sample_weight(sample_weight, X, ensure_non_negative=True)
        weighting = weigh(truth, tuple(map(str, range(truth.shape[1]))), self.weighting)
        sums = LocalSums(MatrixRows(X), Labels.of(truth, weighting.positive, weighting.negative, row_weight))
        if not sums.counts().both.any():
            raise ValueError(
                "This solver needs samples of at least 2 classes in the data, but the data contains only one class."
            )
        strengths = np.stack([np.broadcast_to(np.asarray(C, dtype=np.float64), truth.shape[1]) for C in Cs])
        found = list(path(sums, strengths, intercept=self.fit_intercept, tol=self.tol, steps=self.max_iter))
        for solution in found:
            if not solution.converged.all():
                late = int((~solution.converged).sum())
                warnings.warn(
                    f"{late} of {int(solution.fittable.sum())} labels did not reach a relative tolerance of "
                    f"{self.tol:g} (furthest {np.nanmax(solution.gap):.1e}); raise max_iter, or lower C.",
                    ConvergenceWarning,
                    stacklevel=3,
                )
        last = found[-1]
        self.coef_, self.intercept_, self.n_iter_ = last.coef, last.intercept, last.sweeps
        self.objective_, self.gap_ = last.objective, last.gap
        return found

    def _truth(self, y: Any, rows: int) -> npt.NDArray[np.float64]:
        """Labels as 1, 0, NaN, (n, labels)."""
        if y is None:
            raise ValueError("requires y to be passed, but the target y is None.")
        y = np.asarray(y)
        self._multi = y.ndim == 2 and y.shape[1] > 1
        if len(y) != rows:
            raise ValueError(f"Found input variables with inconsistent numbers of samples: {[rows, len(y)]}.")
        if not self._multi:
            y = column_or_1d(y, warn=True)
            check_classification_targets(y)
            self.classes_ = np.unique(y)
            if len(self.classes_) > 2:
                raise ValueError("Only binary classification is supported. The type of the target is multiclass.")
            return (
                (y == self.classes_[-1]).astype(np.float64)[:, None] if len(self.classes_) == 2 else np.ones((rows, 1))
            )
        truth = y.astype(np.float64)
        known = truth[~np.isnan(truth)]
        if not ((known >= 0) & (known <= 1)).all():
            raise ValueError("Unknown label type: labels of a two-dimensional y are 0 to 1, or NaN where unknown.")
        self.classes_ = np.array([0, 1])
        return truth
