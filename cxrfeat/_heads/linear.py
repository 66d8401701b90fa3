"""Linear heads: two arrays, whatever fitted them."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cxrfeat._files import atomic_path
from cxrfeat._heads.head import Floats, Head
from cxrfeat.errors import HeadError, NotFoundError

FILE = "head.npz"


class LinearHead(Head):
    """Logits are `x @ coef.T + intercept` on raw embeddings.

    Parameters
    ----------
    labels : tuple of str
        The labels.
    coef : numpy.ndarray
        float64 (labels, dim); NaN rows for labels that were not fitted.
    intercept : numpy.ndarray
        float64 (labels,).
    kind : str
        What fitted it: `logistic`, `svm`, `lda`.
    """

    kind = "logistic"

    def __init__(self, labels: tuple[str, ...], coef: Floats, intercept: Floats, kind: str = "logistic") -> None:
        super().__init__(labels, coef.shape[1])
        self.kind = kind  # type: ignore[misc]  # one class serves all linear kinds
        self.coef, self.intercept = coef, intercept

    @property
    def linear(self) -> tuple[Floats, Floats]:
        """Coefficients (labels, dim) and intercepts (labels,)."""
        return self.coef, self.intercept

    def _logits(self, x: npt.NDArray[np.float32]) -> Floats:
        return x.astype(np.float64) @ self.coef.T + self.intercept

    def save(self, folder: Path) -> list[str]:
        """Write `head.npz`."""
        with atomic_path(folder / FILE) as part:
            np.savez(part, coef=self.coef, intercept=self.intercept)
        return [FILE]

    @classmethod
    def load(cls, folder: Path, info: Mapping[str, Any]) -> LinearHead:
        """Read `head.npz`; arrays only, nothing is unpickled."""
        arrays = read_arrays(folder / FILE, ("coef", "intercept"))
        labels = tuple(info["labels"])
        coef, intercept = arrays["coef"], arrays["intercept"]
        if coef.ndim != 2 or len(coef) != len(labels) or intercept.shape != (len(labels),):
            raise HeadError(
                f"{folder / FILE} holds coefficients {coef.shape} for {len(labels)} labels; fit the head again."
            )
        return cls(labels, coef.astype(np.float64), intercept.astype(np.float64), str(info["kind"]))


def read_arrays(path: Path, names: tuple[str, ...]) -> dict[str, npt.NDArray[Any]]:
    """Read arrays of numbers from an `.npz`.

    Raises
    ------
    NotFoundError
        If it is not there.
    HeadError
        If it is damaged, lacks an array, or holds anything but numbers (a pickle, for instance).
    """
    if not path.is_file():
        raise NotFoundError(f"{path} is missing; the run is incomplete, fit the head again.")
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in names}
    except (ValueError, KeyError, TypeError, OSError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        # numpy says of object arrays and of pickles that they would have to be unpickled, which is not done here.
        raise HeadError(f"{path} holds more than plain arrays ({error}); it was not loaded.") from error
