"""What an inference engine is, which one runs a network on this machine, and the opening of it."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from cxrfeat import _machine as machine
from cxrfeat._backbones.registry import ENGINES
from cxrfeat._backbones.weights import Weights, weights_for
from cxrfeat._recipe import Recipe
from cxrfeat.errors import EngineError

Images = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

OUTPUTS = ("embedding", "map")


class Engine(Protocol):
    """A frozen network that is ready to run.

    Attributes
    ----------
    name : str
        Engine, version, device and precision, as the provenance keeps them.
    batch : int
        Images that one call of the network takes.
    streams : int
        Threads that may be in `run` at a time with profit.
    """

    name: str
    batch: int
    streams: int

    def run(self, images: Images) -> tuple[Floats, ...]:
        """Run the network.

        Parameters
        ----------
        images : ndarray of uint8, shape (n, size, size)
            From `images.prepare`. Any n: the engine cuts and fills up batches of its own size.

        Returns
        -------
        tuple of ndarray of float32
            The outputs that were asked for: embedding (n, dim), map (n, gh, gw, dim).
        """
        ...


def open_engine(
    recipe: Recipe,
    weights: Weights | None = None,
    engine: str = "auto",
    outputs: Sequence[str] = ("embedding",),
    precision: str = "float32",
    fresh: bool = False,
) -> Engine:
    """Make a recipe's network ready to run.

    Parameters
    ----------
    recipe : Recipe
        Says backbone, weights, preprocessing and size.
    weights : Weights, optional
        By default those that the recipe names.
    engine : str
        `openvino`, `tensorflow`, or `auto`: TensorFlow where it sees a GPU, elsewhere OpenVINO.
    outputs : sequence of str
        `embedding`, `map`, or both, in the order wanted.
    precision : str
        `float32`, or `mixed` (float16 inside, on a GPU: embeddings move by up to 1 % of their largest value).
    fresh : bool
        Whether the network is made from its weights again, whatever is kept of it.

    Raises
    ------
    WeightsError, RecipeError
        See `weights.weights_for`.
    EngineError
        If the engine is not installed or does not support what is asked.
    """
    if not outputs or set(outputs) - set(OUTPUTS):
        raise EngineError(f"outputs are `embedding` and `map`, not {list(outputs)}.")
    name = resolve(engine)
    if precision != "float32" and name != "tensorflow":
        raise EngineError("`precision=mixed` needs a GPU: on a CPU the engine computes in float32.")
    weights = weights or weights_for(recipe, fresh=fresh)
    if name == "tensorflow":
        from cxrfeat._backbones import tensorflow_engine

        return tensorflow_engine.open_engine(recipe, weights, tuple(outputs), precision)
    from cxrfeat._backbones import openvino_engine

    return openvino_engine.open_engine(recipe, weights, tuple(outputs), fresh)


def resolve(engine: str = "auto") -> str:
    """Return the engine that a name stands for here: `openvino` or `tensorflow`."""
    if engine not in ENGINES:
        raise EngineError(f"unknown engine {engine!r}; choose one of {', '.join(ENGINES)}.")
    if engine != "auto":
        return engine
    if machine.gpu_likely():
        from cxrfeat._backbones import tensorflow_engine

        if tensorflow_engine.gpus():
            return "tensorflow"
    return "openvino" if importlib.util.find_spec("openvino") else "tensorflow"
