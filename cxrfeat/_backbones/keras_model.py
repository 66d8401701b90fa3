"""A user's own `.keras` model as a backbone: its layers up to one, as Keras's JSON, and the values of its variables.

Nothing in it runs: before Keras builds anything, every part must be one of Keras's own that carries no code, and Keras
loads it in its safe mode.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cxrfeat._backbones import backends, library
from cxrfeat.errors import WeightsError

CONFIG = "network.json"
_CODE = ("Lambda", "TorchModuleWrapper", "JaxLayer", "FlaxLayer", "TFSMLayer")
_MAX_CONFIG = 16 << 20


@dataclass(frozen=True)
class Builder:
    """Builds an imported model, as the functions of `keras.applications` build theirs."""

    name: str
    values_sha256: str
    ends_at_layer = True

    def __call__(self, input_tensor: Any, include_top: bool = False, weights: None = None) -> Any:
        """Build it on a tensor, without values."""
        keras = backends.keras()
        path = library.file_of(library.load(self.name), CONFIG)
        text = path.read_text(encoding="utf-8")
        _check_parts(json.loads(text), path)
        model = keras.models.model_from_json(text)
        own = keras.Input(input_tensor.shape[1:])
        model = keras.models.clone_model(model, [own] if isinstance(model.input, list) else own)  # with fixed shapes
        return keras.Model(keras.utils.get_source_inputs(input_tensor), model(input_tensor))


def read(path: Path, layer: str, channels: int) -> tuple[str, dict[str, npt.NDArray[np.float32]], int, int]:
    """Read a model up to a layer: Keras's JSON, the values by variable, the map's channels, and the fixed side or 0."""
    from cxrfeat._backbones import graph

    _inspect(path)
    keras = backends.keras()
    try:
        with graph.quiet():
            model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises many kinds, and zipfile's and HDF5's own
        lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        raise WeightsError(f"{path} was refused by Keras in safe mode: {lines[0].strip()}") from error
    shapes = {one.name: tuple(one.output.shape) for one in model.layers if hasattr(one.output, "shape")}
    maps = {name: shape for name, shape in shapes.items() if len(shape) == 4 and (shape[3] or 0) > 4}
    if layer not in maps:
        listed = "; ".join(f"{name} {shape[1:]}" for name, shape in list(maps.items())[::-1][:12]) or "none"
        what = f"{path} has no layer {layer!r} with a map" if layer else f"{path} needs a `layer` with a map"
        raise WeightsError(f"{what} (rows, columns, channels). The candidates, last ones first: {listed}.")
    if len(model.inputs) != 1 or len(model.inputs[0].shape) != 4:
        raise WeightsError(f"{path} does not take one image: its inputs are {[tuple(i.shape) for i in model.inputs]}.")
    _, rows, columns, own = model.inputs[0].shape
    if rows != columns or own not in (None, channels):
        raise WeightsError(
            f"{path} takes ({rows}, {columns}, {own}) pixels and channels; images are square, and `preprocessing` "
            f"gives {channels} channels."
        )
    # A model within the model has an output of its own, which is not what it gives here.
    output = model.get_layer(layer)._inbound_nodes[0].outputs[0]
    part = keras.Model(model.inputs[0], output, name="network")
    values = {name: np.asarray(variable, np.float32) for name, variable in graph.layer_variables(part).items()}
    return part.to_json(), values, maps[layer][3], rows or 0


def _inspect(path: Path) -> None:
    """Refuse an archive that is not as Keras writes it, before Keras builds anything of it."""
    try:
        with zipfile.ZipFile(path) as archive:
            parts = {entry.filename: entry for entry in archive.infolist()}
            stored = sum(entry.file_size for entry in parts.values()) <= 2 * path.stat().st_size + _MAX_CONFIG
            if not stored or parts["config.json"].file_size > _MAX_CONFIG or "model.weights.h5" not in parts:
                raise WeightsError(f"{path} is not used: it is packed otherwise than Keras packs models.")
            config = json.loads(archive.read("config.json"))
    except (zipfile.BadZipFile, KeyError, ValueError, RecursionError, NotImplementedError, RuntimeError) as error:
        if isinstance(error, WeightsError):
            raise
        raise WeightsError(f"{path} is not a .keras model.") from error
    _check_parts(config, path)


def _check_parts(config: Any, path: Path) -> None:
    for part in _parts(config):
        name, module = str(part["class_name"]), part.get("module")
        if name in _CODE or name == "__lambda__":
            raise WeightsError(f"{path} has a {name} layer, which carries code of its own; it is not used.")
        if module is not None and str(module).split(".")[0] not in ("keras", "builtins"):
            raise WeightsError(f"{path} has a part {name} of {module}, which is not Keras's own; it is not used.")


def _parts(config: Any) -> Iterator[dict[str, Any]]:
    todo = [config]
    while todo:
        one = todo.pop()
        if isinstance(one, dict):
            if "class_name" in one:
                yield one
            todo += one.values()
        elif isinstance(one, list):
            todo += one
