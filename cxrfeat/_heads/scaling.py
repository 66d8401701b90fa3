"""Mean and scale of every feature, gathered in sweeps over blocks of rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from cxrfeat._heads.rows import Rows

Floats = npt.NDArray[np.float64]


def moments(rows: Rows, weight: npt.NDArray[Any] | None = None) -> tuple[Floats, Floats]:
    """Weighted mean and standard deviation of every feature, float64 (features,), in one sweep.

    Blocks are centred on the first one's mean before they are squared, so that a feature far from zero keeps its
    digits, and joined by the update of Chan, Golub and LeVeque (1983). A feature that does not vary has scale 1, as
    in scikit-learn's `StandardScaler`: its coefficient is then held at zero by the penalty alone.

    Parameters
    ----------
    rows : Rows
        The rows.
    weight : numpy.ndarray, optional
        Of every row, (rows,), not negative; 1 by default.
    """
    features = rows.shape[1]
    total, first, second = 0.0, np.zeros(features), np.zeros(features)
    anchor: npt.NDArray[Any] | None = None
    for place, x in rows.blocks():
        if anchor is None:
            anchor = x.mean(axis=0, dtype=np.float64).astype(x.dtype)
        away = x - anchor
        w = np.ones(len(x), dtype=x.dtype) if weight is None else weight[place].astype(x.dtype)
        total += float(w.sum(dtype=np.float64))
        first += w @ away
        np.square(away, out=away)
        second += w @ away
    if anchor is None or total <= 0:
        return np.zeros(features), np.ones(features)
    shift = first / total
    mean = anchor + shift
    variance = second / total - shift**2
    # What is left of a constant feature is rounding: of the mean, and of the squares that were summed.
    eps = np.finfo(rows.dtype).eps
    noise = (eps * np.abs(mean)) ** 2 * 10 + eps * 10 * shift**2
    constant = variance <= noise
    return mean, np.where(constant, 1.0, np.sqrt(np.maximum(variance, 0.0)))
