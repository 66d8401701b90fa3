"""What every head is: labels, logits, and probabilities one sigmoid (and one calibration) away."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from cxrfeat._heads.calibration import Calibration
from cxrfeat.errors import HeadError

Floats = npt.NDArray[np.float64]


class Head(ABC):
    """Maps embeddings to one probability per label.

    Attributes
    ----------
    kind : str
        As written in `head.json`.
    labels : tuple of str
        The labels, in the order of the outputs.
    dim : int
        Length of the embeddings it takes; of all files together where several are joined.
    calibration : Calibration
        What is done to the logits before the sigmoid.
    fitted : numpy.ndarray
        Which labels had both classes in training, bool (labels,); the others' logits are NaN.
    """

    kind: ClassVar[str]

    def __init__(self, labels: tuple[str, ...], dim: int) -> None:
        self.labels = labels
        self.dim = dim
        self.calibration = Calibration.none(len(labels))
        self.fitted = np.ones(len(labels), dtype=bool)

    def logits(self, x: npt.NDArray[np.float32]) -> Floats:
        """Raw logits, float64 (n, labels), of embeddings (n, dim); NaN columns for labels that were not fitted.

        Parameters
        ----------
        x : float32 (n, dim)
            Embeddings, rows of pass 0 or of any other.

        Raises
        ------
        HeadError
            If the embeddings have another length.
        """
        x = np.asarray(x)
        if x.ndim != 2 or x.shape[1] != self.dim:
            raise HeadError(f"the head takes embeddings of shape (n, {self.dim}), not {x.shape}.")
        return np.where(self.fitted, self._logits(x), np.nan)

    def probabilities(self, x: npt.NDArray[np.float32]) -> Floats:
        """Calibrated probabilities, float64 (n, labels).

        Parameters
        ----------
        x : float32 (n, dim)
            Embeddings, rows of pass 0 or of any other.
        """
        return self.from_logits(self.logits(x))

    def from_logits(self, logits: Floats) -> Floats:
        """Calibrated probabilities, float64 (n, labels), of this head's own raw logits.

        Parameters
        ----------
        logits : float64 (n, labels)
            As `logits` returns them.
        """
        return self.calibration.apply(logits)

    @property
    def linear(self) -> tuple[Floats, Floats] | None:
        """Coefficients (labels, dim) and intercepts (labels,) on raw embeddings; None if the head is not linear."""
        return None

    def describe(self) -> dict[str, Any]:
        """What `head.json` needs to hold beside the files for the head to be loaded; nothing by default."""
        return {}

    @abstractmethod
    def _logits(self, x: npt.NDArray[np.float32]) -> Floats: ...

    @abstractmethod
    def save(self, folder: Path) -> list[str]:
        """Write the head's own files into a run folder and return their names; `head.json` is not among them.

        Parameters
        ----------
        folder : Path
            The run folder.
        """

    @classmethod
    @abstractmethod
    def load(cls, folder: Path, info: Mapping[str, Any]) -> Head:
        """Read what `save` wrote, without running any code from the folder.

        Parameters
        ----------
        folder : Path
            The run folder.
        info : mapping
            What `head.json` holds.
        """
