"""Which engine runs a network here, and the opening of it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Any

from cxrfeat import _machine as machine
from cxrfeat._backbones import seated, trial
from cxrfeat._backbones.engine import Engine
from cxrfeat._backbones.identity import weights_for
from cxrfeat._backbones.registry import DEFAULT_SIZE
from cxrfeat._backbones.trial import Way
from cxrfeat._backbones.weights import Weights
from cxrfeat._recipe import Recipe
from cxrfeat.errors import EngineError

ENGINES = ("auto", "openvino", "mnn", "tensorflow")

PROCESSOR_WAYS = (Way("openvino", 1), Way("openvino", 2), Way("mnn", 1))
"""The first that is installed is taken where there is too little work for a trial. With MNN, a row's last bit would
depend on its place in a batch, so it is given none."""

TRIAL_FROM = 2000
"""Runs of the network at 224 pixels, or as much work at other sizes, from which a trial is worth its seconds."""

_PACKAGES = {"openvino": ("openvino", "openvino"), "mnn": ("mnn", "MNN"), "tensorflow": ("tensorflow", "tensorflow")}
"""Distribution and module of each engine."""


def open_engine(
    recipe: Recipe,
    weights: Weights | None = None,
    engine: str = "auto",
    outputs: Sequence[str] = ("embedding",),
    precision: str = "float32",
    runs: int = 0,
    tell: Callable[[str], None] = lambda text: None,
) -> Engine:
    """Make a recipe's network ready to run.

    Parameters
    ----------
    recipe : Recipe
        Says backbone, weights, preprocessing and size.
    weights : Weights, optional
        By default those that the recipe names.
    engine : str
        `openvino`, `mnn`, `tensorflow`, or `auto`: TensorFlow where it sees a GPU, elsewhere the faster of the others.
    outputs : sequence of str
        `embedding`, `map`, or both, in the order wanted.
    precision : str
        `float32`, or `mixed` (float16 inside, on a GPU: embeddings move by up to 1 % of their largest value).
    runs : int
        How many images it is to see. If they are many, and it is not known yet what is fastest here, that is tried out
        first and remembered.
    tell : callable
        Told of a trial and what came of it.

    Raises
    ------
    WeightsError, RecipeError
        See `identity.weights_for`.
    EngineError
        If the engine is not installed or cannot do what is asked.
    """
    weights = weights or weights_for(recipe)
    if not outputs or set(outputs) - {"embedding", "map"}:
        raise EngineError(f"outputs are `embedding` and `map`, not {list(outputs)}.")
    family = _family(engine)
    if precision != "float32" and family != "tensorflow":
        raise EngineError("mixed precision is for a GPU; the engines for processors compute in float32.")
    ways = ways_of(family, recipe.size)
    question = _question(recipe, family, ways, precision)
    way = ways[0] if len(ways) == 1 else trial.remembered(question)
    if way not in ways:
        way = ways[0]
        if runs * recipe.size**2 >= TRIAL_FROM * DEFAULT_SIZE**2:
            tell("trying what is fastest on this machine, once.")
            way, rates = trial.settle(
                question, ways, recipe.size, lambda way: _open(way, recipe, weights, ("embedding",), precision)
            )
            found = "; ".join(f"{way}: {rate:.1f}" for way, rate in rates.items())
            tell(f"images/s of the network alone: {found}. Taken, and remembered: {way}.")
    return _open(way, recipe, weights, tuple(outputs), precision)


def default() -> str:
    """The engine that `auto` stands for, as long as nothing was tried: `tensorflow`, `openvino` or `mnn`."""
    family = _family("auto")
    return ways_of(family, DEFAULT_SIZE)[0].engine


def ways_of(family: str, size: int) -> list[Way]:
    """What there is to choose from; the first is taken where nothing was tried.

    Parameters
    ----------
    family : str
        An engine, or `processor` for those that are not TensorFlow.
    size : int
        Side of the network's input, pixels.
    """
    if family == "tensorflow":
        from cxrfeat._backbones import tensorflow_engine

        return [Way(family, batch) for batch in tensorflow_engine.batches(size)]
    if family == "processor":
        installed = [way for way in PROCESSOR_WAYS if importlib.util.find_spec(_PACKAGES[way.engine][1])]
        return installed or list(PROCESSOR_WAYS)
    return [way for way in PROCESSOR_WAYS if way.engine == family]


def _family(engine: str) -> str:
    if engine not in ENGINES:
        raise EngineError(f"no engine {engine!r}; there are {', '.join(ENGINES)}.")
    if engine != "auto":
        return engine
    if machine.gpu_likely():
        from cxrfeat._backbones import tensorflow_engine

        if tensorflow_engine.gpus():
            return "tensorflow"
    return "processor"


def _question(recipe: Recipe, family: str, ways: Sequence[Way], precision: str) -> dict[str, Any]:
    """What a trial's answer depends on: the network, the machine, and the versions of what is tried."""
    versions = {}
    for engine in {way.engine for way in ways}:
        try:
            versions[engine] = metadata.version(_PACKAGES[engine][0])
        except metadata.PackageNotFoundError:
            continue
    if family == "tensorflow":
        from cxrfeat._backbones import tensorflow_engine

        device = tensorflow_engine.cards()
    else:
        device = [machine.processor(), machine.instructions(), f"{seated.seats()} cores"]
    return {
        "backbone": recipe.backbone,
        "size": recipe.size,
        "precision": precision,
        "device": device,
        "versions": versions,
        "ways": [str(way) for way in ways],
    }


def _open(way: Way, recipe: Recipe, weights: Weights, outputs: tuple[str, ...], precision: str) -> Engine:
    if way.engine == "tensorflow":
        from cxrfeat._backbones import tensorflow_engine

        return tensorflow_engine.open_engine(recipe, weights, outputs, precision, batch=way.batch)
    if way.engine == "openvino":
        from cxrfeat._backbones import openvino_engine

        return openvino_engine.open_engine(recipe, weights, outputs, way.batch)
    from cxrfeat._backbones import mnn_engine

    return mnn_engine.open_engine(recipe, weights, outputs)
