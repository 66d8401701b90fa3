"""What an inference engine is, and which one to take."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from cxrfeat import files, machine
from cxrfeat.backbones import registry
from cxrfeat.backbones import weights as weights_room
from cxrfeat.backbones.weights import Weights
from cxrfeat.errors import EngineError, RecipeError
from cxrfeat.store.recipe import Recipe

ENGINES = ("auto", "mnn", "openvino", "tensorflow")
Images = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


class Engine(Protocol):
    """A frozen network that is ready to run.

    Attributes
    ----------
    name : str
        Engine, version, device and precision, as the provenance keeps them.
    batch : int
        Images that one call of the network takes.
    seats : int
        Threads that may be in `run` at a time with profit.
    """

    name: str
    batch: int
    seats: int

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


def weights_sha256(backbone: str, weights: Weights) -> str:
    """Hash of the weights as the recipe keeps it; that of a random draw is remembered, since it takes TensorFlow."""
    if (known := weights.sha256()) is not None:
        return known
    kept = machine.cache_folder() / "random" / f"{backbone}-{weights.seed}.json"
    if kept.is_file():
        return str(json.loads(kept.read_text())["sha256"])
    from cxrfeat.backbones import graph

    network = graph.keras_graph(backbone, weights, "unit", registry.MIN_SIZE)
    sha256 = graph.weights_sha256(network)
    files.write_atomically(kept, json.dumps({"sha256": sha256}))
    return sha256


def weights_for(recipe: Recipe, named: str | None = None) -> Weights:
    """Return the weights that a recipe was made with.

    Parameters
    ----------
    recipe : Recipe
        The recipe.
    named : str, optional
        Where a weights file of the user's lies now; a recipe keeps its name and hash, not its folder.

    Raises
    ------
    WeightsError
        If they cannot be had.
    RecipeError
        If what is found has another hash.
    """
    weights = weights_room.find(registry.get(recipe.backbone), named or recipe.weights)
    found = weights_sha256(recipe.backbone, weights)
    if found != recipe.weights_sha256:
        raise RecipeError(
            f"weights {named or recipe.weights!r} have sha256 {found[:12]}…, the recipe was made with "
            f"{recipe.weights_sha256[:12]}…. Name the right file with --weights."
        )
    return weights


def choose(engine: str) -> str:
    """Turn `auto` into an engine: TensorFlow where it sees a GPU, MNN elsewhere."""
    if engine not in ENGINES:
        raise EngineError(f"no engine {engine!r}; there are {', '.join(ENGINES)}.")
    if engine != "auto":
        return engine
    if machine.gpu_likely():
        from cxrfeat.backbones import tensorflow_engine

        if tensorflow_engine.gpus():
            return "tensorflow"
    return "mnn"


def open_engine(
    recipe: Recipe,
    weights: Weights | None = None,
    engine: str = "auto",
    outputs: Sequence[str] = ("embedding",),
    precision: str = "float32",
) -> Engine:
    """Make a recipe's network ready to run.

    Parameters
    ----------
    recipe : Recipe
        Says backbone, weights, preprocessing and size.
    weights : Weights, optional
        By default those that the recipe names.
    engine : str
        `auto`, `mnn`, `openvino` or `tensorflow`.
    outputs : sequence of str
        `embedding`, `map`, or both, in the order wanted.
    precision : str
        `float32`, or `mixed` (float16 inside, on a GPU: embeddings move by up to 1 % of their largest value).

    Raises
    ------
    WeightsError, RecipeError
        See `weights_for`.
    EngineError
        If the engine is not installed or cannot do what is asked.
    """
    weights = weights or weights_for(recipe)
    if not outputs or set(outputs) - {"embedding", "map"}:
        raise EngineError(f"outputs are `embedding` and `map`, not {list(outputs)}.")
    chosen = choose(engine)
    if chosen == "tensorflow":
        from cxrfeat.backbones import tensorflow_engine

        return tensorflow_engine.open_engine(recipe, weights, tuple(outputs), precision)
    if precision != "float32":
        raise EngineError("mixed precision is for a GPU; the engines for processors compute in float32.")
    if chosen == "openvino":
        from cxrfeat.backbones import openvino_engine

        return openvino_engine.open_engine(recipe, weights, tuple(outputs))
    from cxrfeat.backbones import mnn_engine

    return mnn_engine.open_engine(recipe, weights, tuple(outputs))
