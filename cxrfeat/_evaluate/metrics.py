"""Metrics: one entry each, from which value, interval, column, comparison, figures and documentation follow.

A metric is a formula over sums. The sums run over images, over the images of a patient, or over the patients of a
bootstrap draw, and the formula is the same; so 2,000 replicates are one matrix product. What depends on the order of
scores has sums of its own (`RANKS`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from cxrfeat._evaluate.arrays import Array, bin_index
from cxrfeat._registry import Registry
from cxrfeat.errors import EvaluationError

Bools = npt.NDArray[np.bool_]
Term = Callable[[Bools, Array, float], npt.ArrayLike]


def _ranks(positive: Bools, p: Array, threshold: float) -> npt.ArrayLike:
    raise TypeError("RANKS are sums over pairs of images, not over images")


RANKS: tuple[Term, ...] = (_ranks,)
"""As `sums`: the formula takes the number of pairs (a positive, a negative) that are ranked correctly, ties half; the
sum of precision over the positives, from the highest score down; and the numbers of positives and of negatives."""

ECE_BINS = 15


@dataclass(frozen=True)
class Metric:
    """A metric of one label: how it is computed, and how it is shown.

    Everything else follows from the entry: its column in the tables of `cxrfeat evaluate`, CSV, LaTeX and Markdown,
    its bootstrap interval over patients, groups, macro and micro values, comparisons of runs, and figures. Another
    package adds a metric by an entry point in the group `cxrfeat.metrics`.

    Parameters
    ----------
    name : str
        The key in JSON and CSV, and the entry point's name.
    heading : str
        Its column in tables; with an empty heading only JSON and CSV have it.
    about : str
        One sentence for the documentation.
    sums : sequence of callable, or `Metric.RANKS`
        Each takes ``positive`` (bool, (n,)), ``p`` (float64, (n,)) and ``threshold`` (float) of the images whose truth
        is known, and returns what is summed: shape (n,), or (n, k) for k sums.
    formula : callable
        Takes one array for each of `sums`, of any shape (for k sums the last axis has length k), and returns the value
        in the same shape. It must be written with NumPy operations. NaN and infinity mean that the metric is not
        defined there; a division by zero needs no care.
    undefined : str
        When there is no value, for the documentation.
    higher_is_better : bool or None
        None for what is no quality of a model, such as a baseline.
    bounds : (float, float)
        Least and greatest value possible. Intervals and axes end there.
    digits : int
        Decimals in tables.
    needs_threshold : bool
        Whether it is undefined for a label without a decision threshold.
    show_interval : bool
        Whether tables that people read have its interval in a column of its own; JSON and CSV always have it.
    interval : bool
        Whether it has intervals. A metric whose mean depends on the number of images, as the calibration error's does,
        should have none: resampling does not give one that holds the truth as often as it says.
    chance : callable, optional
        Takes the numbers of images and of positives, and returns the mean value of a random score.

    Examples
    --------
    >>> import cxrfeat as cxr
    >>> youden = cxr.Metric(
    ...     name="youden",
    ...     heading="J",
    ...     about="sensitivity + specificity - 1",
    ...     sums=(
    ...         lambda positive, p, threshold: positive & (p >= threshold),
    ...         lambda positive, p, threshold: ~positive & (p < threshold),
    ...         lambda positive, p, threshold: positive,
    ...         lambda positive, p, threshold: ~positive,
    ...     ),
    ...     formula=lambda tp, tn, positives, negatives: tp / positives + tn / negatives - 1,
    ...     bounds=(-1.0, 1.0),
    ...     needs_threshold=True,
    ... )
    >>> youden([1, 1, 0, 0], [0.9, 0.4, 0.2, 0.1], threshold=0.5)
    0.5
    """

    name: str
    heading: str
    about: str
    sums: tuple[Term, ...]
    formula: Callable[..., npt.ArrayLike]
    undefined: str = ""
    higher_is_better: bool | None = True
    bounds: tuple[float, float] = (0.0, 1.0)
    digits: int = 3
    needs_threshold: bool = False
    show_interval: bool = True
    interval: bool = True
    chance: Callable[[int, int], float] | None = None

    RANKS = RANKS

    @property
    def ranked(self) -> bool:
        """Whether it depends on the order of scores alone."""
        return self.sums is RANKS

    def value(self, *sums: Array) -> Array:
        """Apply the formula.

        Parameters
        ----------
        *sums : float64 (...)
            One array for each of `sums`.

        Returns
        -------
        float64 (...)
            NaN where it is not defined.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            found = np.asarray(self.formula(*sums), dtype=np.float64)
        return np.where(np.isfinite(found), found, np.nan)

    def __call__(self, y: npt.ArrayLike, p: npt.ArrayLike, threshold: float = 0.5) -> float:
        """Return the value for one label.

        Parameters
        ----------
        y : array-like, shape (n,)
            1, 0 or NaN (unknown: left out).
        p : array-like, shape (n,)
            Probabilities, or any scores for a metric of ranks.
        threshold : float
            A probability >= threshold calls the label present.
        """
        from cxrfeat._evaluate.bootstrap import point  # not above: it knows metrics

        truth, scores = np.asarray(y)[:, None], np.asarray(p, dtype=np.float64)[:, None]
        return float(point(truth, scores, [threshold], [self])[self.name][0])

    def text(self, value: float) -> str:
        """Return a value as tables print it.

        Parameters
        ----------
        value : float
            A dash if it is NaN.
        """
        return "-" if np.isnan(value) else f"{value:.{self.digits}f}"


# Named, since metrics share them: shared sums are computed once.
_tp, _fp, _fn, _tn, _images, _negatives, _right_at_half, _squared_error = (
    lambda positive, p, threshold: positive & (p >= threshold),
    lambda positive, p, threshold: ~positive & (p >= threshold),
    lambda positive, p, threshold: positive & (p < threshold),
    lambda positive, p, threshold: ~positive & (p < threshold),
    lambda positive, p, threshold: np.ones(len(p)),
    lambda positive, p, threshold: ~positive,
    lambda positive, p, threshold: (p >= 0.5) == positive,
    lambda positive, p, threshold: (p - positive) ** 2,
)


def _errors_by_bin(positive: Bools, p: Array, threshold: float) -> npt.ArrayLike:
    # In a bin, |mean probability - share of positives| times its images is |sum of (probability - truth)|.
    errors = np.zeros((len(p), ECE_BINS))
    errors[np.arange(len(p)), bin_index(p, ECE_BINS)] = p - positive
    return errors


def _f1(tp: Array, fp: Array, fn: Array) -> npt.ArrayLike:
    # Without a positive, recall has no value, and so its mean with precision has none.
    return np.where(tp + fn > 0, 2 * tp / (2 * tp + fp + fn), np.nan)


def _random_average_precision(n: int, positives: int) -> float:
    """Mean over all orders of n images: above the prevalence, and far above it with few positives.

    A positive is at rank i with probability m / n, and then finds (i - 1)(m - 1) / (n - 1) positives above it.
    """
    if not positives:
        return np.nan
    if n == 1:
        return 1.0
    above = (positives - 1) / (n - 1)
    return float((np.sum(1 / np.arange(1, n + 1)) * (1 - above)) / n + above)


_plain = partial(Metric, show_interval=False)
_called = partial(Metric, show_interval=False, needs_threshold=True)

# fmt: off
AUROC = Metric(
    "auroc", "AUROC",
    "Mann-Whitney statistic: P(a positive ranks above a negative), ties half. The trapezoidal area is the same number",
    RANKS, lambda right, precise, positives, negatives: right / (positives * negatives), "a class is absent",
    chance=lambda n, positives: 0.5 if 0 < positives < n else np.nan,
)
AVERAGE_PRECISION = _plain(
    "average_precision", "AP", "sum of precision over the steps of recall, as scikit-learn's",
    RANKS, lambda right, precise, positives, negatives: precise / positives, "no positive",
    chance=_random_average_precision,
)
SENSITIVITY = _called(
    "sensitivity", "sens.",
    "share of positives that are called, at the run's stored threshold (p >= threshold is a call)",
    (_tp, _fn), lambda tp, fn: tp / (tp + fn), "no positive, or no threshold",
)
SPECIFICITY = _called(
    "specificity", "spec.", "share of negatives that are not called",
    (_tn, _fp), lambda tn, fp: tn / (tn + fp), "no negative, or no threshold",
)
PPV = _called(
    "ppv", "PPV", "share of calls that are positive (precision)",
    (_tp, _fp), lambda tp, fp: tp / (tp + fp), "nothing is called, or no threshold",
)
NPV = _called(
    "npv", "NPV", "share of what is not called that is negative",
    (_tn, _fn), lambda tn, fn: tn / (tn + fn), "everything is called, or no threshold",
)
F1 = _called("f1", "F1", "harmonic mean of PPV and sensitivity", (_tp, _fp, _fn), _f1, "no positive, or no threshold")
ACCURACY = _called(
    "accuracy", "", "share of correct calls",
    (_tp, _tn, _fp, _fn), lambda tp, tn, fp, fn: (tp + tn) / (tp + tn + fp + fn), "no threshold",
)
ACCURACY_AT_HALF = _plain(
    "accuracy_at_half", "",
    "the same at 0.5. The micro value is equation 1 of the reference paper (correct labels over 14 n)",
    (_right_at_half, _images), lambda right, images: right / images,
)
ALL_NEGATIVE_ACCURACY = _plain(
    "all_negative_accuracy", "", "the same of the always-negative baseline: 0.948 on the full table of ChestX-ray14",
    (_negatives, _images), lambda negatives, images: negatives / images, higher_is_better=None,
)
BRIER = _plain(
    "brier", "Brier", "mean squared difference of probability and truth",
    (_squared_error, _images), lambda squared, images: squared / images, higher_is_better=False,
)
ECE = _plain(
    "ece", "ECE",
    "expected calibration error, 15 equal-width bins (Guo et al. 2017). On few images it is above 0 by chance alone",
    (_errors_by_bin, _images), lambda errors, images: np.abs(errors).sum(axis=-1) / images,
    higher_is_better=False, interval=False,
)

OURS = (AUROC, AVERAGE_PRECISION, SENSITIVITY, SPECIFICITY, PPV, NPV, F1, ACCURACY, ACCURACY_AT_HALF,
        ALL_NEGATIVE_ACCURACY, BRIER, ECE)
# fmt: on
METRICS: Registry[Metric] = Registry(
    "metric", "cxrfeat.metrics", {m.name: f"{__name__}:{m.name.upper()}" for m in OURS}, EvaluationError
)
"""In the order of tables."""
