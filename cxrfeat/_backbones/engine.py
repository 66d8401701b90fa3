"""What an inference engine is, which one runs a network on this machine, and the opening of it."""

from __future__ import annotations

import importlib.util
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from cxrfeat import _machine as machine
from cxrfeat._backbones import registry
from cxrfeat._backbones.registry import ENGINES, Backbone
from cxrfeat._backbones.weights import Weights, weights_for
from cxrfeat._images.choices import FILTERS
from cxrfeat._precision import PRECISIONS
from cxrfeat._recipe import Recipe
from cxrfeat.errors import EngineError

Images = npt.NDArray[Any]
"""uint8 or float32 (n, size, size), 0 to 255, as the recipe's filter makes them (`images.choices.FILTERS`)."""
Floats = npt.NDArray[np.float32]


class Engine(Protocol):
    """A frozen network that is ready to run.

    `name` has engine, version, device and precision, as the provenance keeps them; `batch` images are one call of the
    network; `streams` threads may be in `run` at a time with profit.
    """

    name: str
    batch: int
    streams: int

    def run(self, images: Images) -> tuple[Floats, ...]:
        """Run the network on images of `images.prepare`, any n, in batches of the engine's own size.

        The outputs asked for are float32: embedding (n, dim), map (n, gh, gw, dim).
        """


def open_engine(
    recipe: Recipe,
    weights: Weights | str | None = None,
    engine: str = "auto",
    outputs: tuple[str, ...] = ("embedding",),
    fresh: bool = False,
) -> Engine:
    """Make a recipe's network ready to run.

    `weights` are those of the recipe, or where their file is now. `outputs` are `embedding` alone, or `embedding`
    and `map`. `fresh` makes the network from its weights again, whatever is kept of it. An engine that is not
    installed, or does not support what is asked, is an EngineError.
    """
    spec = registry.get(recipe.backbone)
    if "map" in outputs and not spec.maps:
        raise EngineError(
            f"there are no maps of {spec.name}: its embedding is {recipe.layer!r}, which is no average of cells. A "
            "network imported with `tokens=mean` has maps."
        )
    name = resolve(engine, spec, recipe.precision)
    found = weights_for(recipe, weights, spec, fresh)
    if name == "keras":
        from cxrfeat._backbones import graph, keras_engine

        dtype = FILTERS[recipe.interpolation].dtype
        build = partial(graph.keras_graph, spec, found, recipe.preprocessing, recipe.size, dtype)
        return keras_engine.open_engine(build, outputs, recipe.size, recipe.precision)
    from cxrfeat._backbones import openvino_engine

    write = partial(write_export, recipe=recipe, spec=spec, weights=found)
    return openvino_engine.open_engine(recipe, spec, write, outputs, fresh)


def write_export(folder: Path, recipe: Recipe, spec: Backbone, weights: Weights) -> None:
    """Write what OpenVINO runs of a recipe's network, and its embedding of the test image."""
    if recipe.network_sha256:
        from cxrfeat._backbones import quantised

        assert weights.card is not None, "a quantised network has a card"
        return quantised.write(folder, weights.card)
    if spec.onnx:
        from cxrfeat._backbones import imported

        return imported.write(folder, recipe, weights)
    from cxrfeat._backbones import graph, kept

    kept.write_graph(folder, graph.keras_graph(spec, weights, recipe.preprocessing, recipe.size, "float32"))
    return None


def resolve(engine: str = "auto", spec: Backbone | None = None, precision: str = "float32") -> str:
    """Return the engine that a name means here, for a backbone and a precision: `openvino` or `keras`."""
    if engine not in ENGINES:
        raise EngineError(f"unknown engine {engine!r}; choose one of {', '.join(ENGINES)}.")
    if spec is not None and spec.onnx:
        if engine == "keras":
            raise EngineError(f"{spec.name} is an ONNX network, which OpenVINO runs: take `engine=openvino`.")
        return "openvino"
    if not PRECISIONS[precision].dtype:
        if engine == "keras":
            raise EngineError(f"Keras does not compute in {precision}, which OpenVINO does: take `engine=openvino`.")
        return "openvino"
    if engine != "auto":
        return engine
    if machine.gpu_likely():
        from cxrfeat._backbones import keras_engine

        if keras_engine.gpus():
            return "keras"
    return "openvino" if importlib.util.find_spec("openvino") else "keras"
