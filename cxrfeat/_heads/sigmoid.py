"""From logits to probabilities and back, in one place."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

# A forest says 0 and 1; beyond these bounds a probability says no more than that, and its logit would be infinite.
CLIP = 1e-7


def sigmoid(z: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """1 / (1 + exp(-z)), without overflow, in `z`'s own precision."""
    return 0.5 * (1.0 + np.tanh(0.5 * z))


def logit(p: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """log(p / (1 - p)), float64, with `p` kept within [1e-7, 1 - 1e-7]."""
    p = np.clip(np.asarray(p, dtype=np.float64), CLIP, 1 - CLIP)
    return np.log(p) - np.log1p(-p)
