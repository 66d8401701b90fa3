"""Linear heads: two arrays, whatever fitted them. The logistic one is fitted here, without importing scikit-learn."""

from __future__ import annotations

import math
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from cxrfeat._files import atomic_path
from cxrfeat._heads.base import Fitted, Floats, Head, Task
from cxrfeat._heads.settings import require
from cxrfeat._heads.solver.path import ConvergenceWarning, path, solve
from cxrfeat._progress import Progress, silent
from cxrfeat.errors import HeadError, NotFoundError

FILE = "head.npz"
SEARCH_TOL = 1e-5
FREE, RATIO = 64 << 20, 50
"""An archive may inflate to so many bytes, or to so many times its size."""


class LinearHead(Head):
    """Logits are `x @ coef.T + intercept` on raw embeddings.

    `coef` is float64 (labels, dim), with NaN rows for labels that were not fitted; `intercept` float64 (labels,).
    """

    def __init__(self, labels: tuple[str, ...], coef: Floats, intercept: Floats) -> None:
        super().__init__(labels, coef.shape[1])
        self.coef, self.intercept = coef, intercept
        self.fitted = ~np.isnan(intercept)

    @property
    def linear(self) -> tuple[Floats, Floats]:
        return self.coef, self.intercept

    def _logits(self, x: npt.NDArray[np.float32]) -> Floats:
        return x.astype(np.float64) @ self.coef.T + self.intercept

    def save(self, folder: Path) -> list[str]:
        with atomic_path(folder / FILE) as part:
            np.savez(part, coef=self.coef, intercept=self.intercept)
        return [FILE]

    @classmethod
    def load(cls, folder: Path, labels: tuple[str, ...], state: Mapping[str, Any]) -> Self:
        """Read `head.npz`; arrays only, nothing is unpickled."""
        arrays = read_arrays(folder / FILE, ("coef", "intercept"))
        coef, intercept = arrays["coef"], arrays["intercept"]
        if coef.ndim != 2 or len(coef) != len(labels) or intercept.shape != (len(labels),):
            raise HeadError(
                f"{folder / FILE} has coefficients {coef.shape} for {len(labels)} labels; fit the head again."
            )
        return cls(labels, coef.astype(np.float64), intercept.astype(np.float64))


class LogisticHead(LinearHead):
    """Logistic regression of all labels together, to its optimum; see `MultiLabelLogistic`."""

    kind = "logistic"
    soft_targets = streams = distributes = True
    grid = {"C": tuple(float(f"{C:.2g}") for C in np.logspace(-5, 1, 13))}

    @dataclass(frozen=True)
    class Settings:
        """`C` is the inverse L2 strength on standardised features, as in scikit-learn: the loss is summed over rows.

        `tol` is relative, on the objective; `steps` is the largest number of iterations.
        """

        C: float = 1.0
        tol: float = 1e-7
        steps: int = 200

        def __post_init__(self) -> None:
            require(
                "logistic",
                C=(self.C, 0 < self.C < math.inf, "above 0 and finite"),
                tol=(self.tol, 0 < self.tol < math.inf, "above 0 and finite"),
                steps=(self.steps, self.steps >= 1, "at least 1"),
            )

    @classmethod
    def fit(cls, task: Task, settings: Settings, *, resume: bool = False, progress: Progress = silent) -> Fitted:
        """Fit all labels together; a label with one class in training is left out."""
        C = np.full(len(task.labels), settings.C)
        with closing(task.sums()) as sums:
            solution = solve(sums, C, tol=settings.tol, steps=settings.steps, progress=progress)
        if late := [name for name, ended in zip(task.labels, solution.converged, strict=True) if not ended]:
            warnings.warn(
                f"the logistic head did not reach a relative tolerance of {settings.tol:g} for {', '.join(late)}; "
                "raise steps, or lower C.",
                ConvergenceWarning,
                stacklevel=3,
            )
        gap = {k: float(g) for k, g in zip(task.labels, solution.gap, strict=True) if not math.isnan(g)}
        objective = {k: float(solution.objective[i]) for i, k in enumerate(task.labels) if k in gap}
        notes = {"C": settings.C, "tol": settings.tol, "sweeps": solution.sweeps, "workers": sums.workers,
                 "objective": objective, "relative_gap": gap}  # fmt: skip
        return Fitted(cls(task.labels, solution.coef, solution.intercept), not late, None, notes)

    @classmethod
    def fit_grid(cls, task: Task, tried: Sequence[Mapping[str, Any]]) -> Iterator[Head]:
        """Fit with each set of settings; if they differ in C alone, along a warm-started path to a coarse tolerance."""
        settings = [cls.settings(given) for given in tried]
        first = settings[0]
        if len(tried) == 1 or any((one.tol, one.steps) != (first.tol, first.steps) for one in settings):
            yield from super().fit_grid(task, tried)
            return
        strengths = np.array([one.C for one in settings])
        order = np.argsort(strengths)
        Cs = np.repeat(strengths[order][:, None], len(task.labels), axis=1)
        with closing(task.sums()) as sums:
            solutions = path(sums, Cs, tol=max(first.tol, SEARCH_TOL), steps=first.steps)
            heads = {int(at): cls(task.labels, s.coef, s.intercept) for at, s in zip(order, solutions, strict=True)}
        yield from (heads[k] for k in range(len(tried)))


def check_archive(path: Path) -> None:
    """Raise an error for a file that is missing, is no zip archive, or inflates to far more than its own size."""
    if not path.is_file():
        raise NotFoundError(f"{path} is missing; the run is incomplete, fit the head again.")
    try:
        with zipfile.ZipFile(path) as archive:
            inflated = sum(member.file_size for member in archive.infolist())
    except Exception as error:  # a damaged archive raises a dozen kinds
        raise HeadError(f"{path} is no archive of a head ({error}); it was not loaded.") from error
    if inflated > max(FREE, RATIO * path.stat().st_size):
        raise HeadError(f"{path} inflates to {inflated:,} bytes, which no head does; it was not loaded.")


def read_arrays(path: Path, names: tuple[str, ...]) -> dict[str, npt.NDArray[Any]]:
    """Read arrays of numbers from an `.npz`; a HeadError if it is damaged, or holds anything else, such as a pickle."""
    check_archive(path)
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in names}
    except Exception as error:
        # numpy says of object arrays and of pickles that they would have to be unpickled, which is not done here.
        raise HeadError(f"{path} has content other than plain arrays ({error}); it was not loaded.") from error
