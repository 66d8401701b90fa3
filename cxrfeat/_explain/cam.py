"""Class activation maps in closed form: for global average pooling and a linear head, no gradient is needed.

The logit of label l is ``sum_k w_lk mean_xy A_k(x, y) + b_l``, so that the map
``M_l(x, y) = sum_k w_lk A_k(x, y) + b_l`` has the logit as its mean, exactly (Zhou et al., "Learning Deep Features
for Discriminative Localization", CVPR 2016, with the intercept spread evenly over the grid). One forward pass gives the
maps of every label. Grad-CAM before its ReLU is ``(M_l - b_l) / Z`` with Z the number of grid cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from cxrfeat.errors import ExplainError

Floats = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Evidence:
    """What a method found in n images.

    Pooled features float32 (n, dim), of all backbones side by side; logits float64 (n, labels) of the same forward
    pass, NaN for labels not learnt; signed maps float64 (n, labels, gh, gw), one array per backbone.
    """

    embedding: npt.NDArray[np.float32]
    logits: npt.NDArray[np.float64]
    parts: tuple[npt.NDArray[np.float64], ...]


class Method(Protocol):
    """One way to compute maps, opened for one head."""

    name: str

    def __call__(self, inputs: Sequence[npt.NDArray[np.uint8]]) -> Evidence:
        """Maps for the network inputs uint8 (n, size, size), one array per backbone."""
        ...


def class_maps(features: Floats, coef: Floats, intercept: Floats) -> npt.NDArray[np.float64]:
    """Maps of all labels in closed form, float64 (n, labels, gh, gw), signed; the mean over the grid is the logit.

    Of activations (n, gh, gw, dim) and a linear head on the raw embedding, (labels, dim) and (labels,).
    """
    n, gh, gw, dim = features.shape
    flat = features.reshape(n, gh * gw, dim).astype(np.float64, copy=False)
    maps = np.asarray(coef, dtype=np.float64) @ flat.transpose(0, 2, 1)
    maps += np.asarray(intercept, dtype=np.float64)[:, None]
    return maps.reshape(n, len(coef), gh, gw)


class ClosedForm:
    """The closed form on a run's linear head, (labels, sum of dims) and (labels,).

    Inference engines only: one per backbone, with outputs embedding and map.
    """

    name = "cam"

    def __init__(self, engines: Sequence[Any], coef: Floats, intercept: Floats) -> None:
        self.engines = tuple(engines)
        self.coef = np.asarray(coef, dtype=np.float64)
        self.intercept = np.asarray(intercept, dtype=np.float64)

    def __call__(self, inputs: Sequence[npt.NDArray[np.uint8]]) -> Evidence:
        """See `Method`. With several backbones the intercept is shared evenly among them."""
        passes = [forward(engine, batch) for engine, batch in zip(self.engines, inputs, strict=True)]
        embedding = np.concatenate([vector for vector, _ in passes], axis=1)
        if embedding.shape[1] != self.coef.shape[1]:
            raise ExplainError(
                f"the head takes {self.coef.shape[1]} features, the backbones give {embedding.shape[1]}."
            )
        ends, share = np.cumsum([vector.shape[1] for vector, _ in passes]), self.intercept / len(passes)
        coefs = np.split(self.coef, ends[:-1], axis=1)
        parts = [class_maps(features, coef, share) for (_, features), coef in zip(passes, coefs, strict=True)]
        logits = sum(part.mean(axis=(2, 3)) for part in parts)
        return Evidence(embedding, np.asarray(logits), tuple(parts))


def forward(engine: Any, images: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.float32], ...]:
    """The engine's outputs for all images, with as many threads as it has streams."""
    pieces = max(1, min(engine.streams, -(-len(images) // engine.batch)))
    with ThreadPoolExecutor(pieces) as pool:
        done = list(pool.map(engine.run, np.array_split(images, pieces)))
    return tuple(np.concatenate(part) for part in zip(*done, strict=True))
