"""What a kind of head is given to learn from, and what it gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxrfeat._heads.head import Head
from cxrfeat._heads.rows import MatrixRows, Rows
from cxrfeat._heads.weighting import Weighting, weigh

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Task:
    """Training rows of one head.

    Attributes
    ----------
    rows : Rows
        Embeddings.
    y : numpy.ndarray
        Labels, float64 (rows, labels): 1, 0 or NaN for unknown.
    groups : numpy.ndarray
        Patient of every row, str (rows,).
    weighting : Weighting
        Class weights.
    images : int
        Images; the first so many rows are their pass 0.
    seed : int
        Of everything drawn.
    validation : tuple of numpy.ndarray, optional
        Embeddings and labels to stop early by; never fitted on.
    folder : Path, optional
        Where checkpoints go.
    """

    rows: Rows
    y: Floats
    groups: npt.NDArray[np.str_]
    weighting: Weighting
    images: int
    seed: int = 0
    validation: tuple[npt.NDArray[np.float32], Floats] | None = None
    folder: Path | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels."""
        return self.weighting.labels

    @property
    def x(self) -> npt.NDArray[np.float32]:
        """The embeddings as one matrix; read into memory if they are not there yet."""
        if isinstance(self.rows, MatrixRows):
            return self.rows.x
        return np.concatenate([block for _, block in self.rows.blocks()])

    @property
    def weights(self) -> Floats:
        """Weight of every entry of `y`; 0 where unknown."""
        return self.weighting.of(self.y)

    def part(self, rows: npt.NDArray[np.int64]) -> Task:
        """Some of the rows, in rising order, with class weights of their own."""
        y = self.y[rows]
        return replace(
            self,
            rows=MatrixRows(self.rows.take(rows)),
            y=y,
            groups=self.groups[rows],
            images=int((rows < self.images).sum()),
            weighting=weigh(y, self.labels, self.weighting.scheme),
            validation=None,
            folder=None,
        )


@dataclass(frozen=True)
class Fitted:
    """A fitted head and how the fitting went.

    Attributes
    ----------
    head : Head
        The head, uncalibrated.
    converged : bool
        False if the optimiser stopped before its tolerance; a warning was given.
    history : pandas.DataFrame, optional
        One row per epoch, where it trains by epochs.
    notes : mapping
        Anything else for `head.json`: the tolerance reached, iterations.
    """

    head: Head
    converged: bool = True
    history: pd.DataFrame | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)
