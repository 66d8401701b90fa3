"""The frozen network as one Keras graph: grey in, embedding and last feature map out; and what its layers say.

Normalisation, backbone and global average pooling are layers of one functional model, so that a head can be joined to
it and differentiated through, and so that an engine can be exported from it.
"""

from __future__ import annotations

import hashlib
import importlib
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

from cxrfeat._backbones import backends, library
from cxrfeat._backbones.backends import quiet
from cxrfeat._backbones.registry import Backbone
from cxrfeat._backbones.weights import Weights
from cxrfeat._images.choices import NORMALISATION
from cxrfeat.errors import EngineError, WeightsError


@quiet()
def keras_graph(spec: Backbone, weights: Weights | None, preprocessing: str, size: int, dtype: str = "uint8") -> Any:
    """Build the graph: grey (n, size, size, 1) -> [embedding float32 (n, dim), map float32 (n, gh, gw, dim)].

    The grey values are 0 to 255, as `dtype`. It is not trainable, and its batch normalisation is in inference mode
    wherever it is called from. Without weights it has Keras's own.
    """
    keras = backends.keras()
    if spec.onnx:
        raise EngineError(
            f"{spec.name} is an ONNX network, and this needs a Keras model. Its maps are those of the closed form, "
            "with a linear head: `method=cam`."
        )
    builder = spec.builder
    if isinstance(builder, str):
        module, _, name = builder.partition(":")
        builder = getattr(importlib.import_module(module), name)
    image = keras.Input((size, size, 1), dtype=dtype, name="image")
    channels = _normalised(image, preprocessing)
    network = builder(input_tensor=channels, include_top=False, weights=None, **spec.arguments)
    # A frozen BatchNormalization runs in inference mode even under training=True (Keras's documented rule).
    network.trainable = False
    if weights:
        fill(network, weights)
    ends = spec.layer == "output" or getattr(spec.builder, "ends_at_layer", False)
    feature_map = network.output if ends else network.get_layer(spec.layer).output
    if len(feature_map.shape) != 4 or feature_map.shape[3] != spec.dim:
        raise EngineError(
            f"the layer {spec.layer!r} of {spec.name} has the shape {feature_map.shape}; its entry promises (n, rows, "
            f"columns, {spec.dim})."
        )
    embedding = keras.layers.GlobalAveragePooling2D(name="embedding")(feature_map)
    return keras.Model(image, [embedding, feature_map], name=spec.name)


def fill(network: Any, weights: Weights) -> None:
    variables = by_path(network)
    if weights.card:
        _assign(network.name, variables, weights.card)
        return
    if weights.path is None:
        drawn = draw({name: tuple(v.shape) for name, v in variables.items()}, weights.seed)
        for name, variable in variables.items():
            variable.assign(drawn[name])
        return
    for variable in variables.values():  # so that a variable the file says nothing of cannot pass for a loaded one
        variable.assign(np.full(variable.shape, np.nan, np.float32))
    why = ""
    try:
        with warnings.catch_warnings(action="ignore"):  # of layers it finds nothing for, which is checked here
            network.load_weights(str(weights.path))
    except (ValueError, OSError, KeyError, AttributeError) as error:
        why = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    unfilled = [name for name, v in variables.items() if np.isnan(np.asarray(v)).any()]
    if why or unfilled:
        why = why or f"it has nothing for {len(unfilled)} variables, the first is {unfilled[0]}."
        raise WeightsError(
            f"{weights.path} does not fit {network.name}: {why} Weights without the classifier (`notop`) in Keras's "
            ".h5 or .weights.h5 layout are needed."
        )


def _assign(network: str, variables: Mapping[str, Any], card: library.Card) -> None:
    """Put imported arrays into a graph's variables, all of them or none."""
    arrays = library.arrays(card)
    shapes = {name: tuple(variable.shape) for name, variable in variables.items()}
    others = [name for name in {**shapes, **arrays} if shapes.get(name) != getattr(arrays.get(name), "shape", None)]
    if others:
        name = others[0]
        here = f"has the shape {arrays[name].shape}" if name in arrays else "is missing"
        wanted = f"of shape {shapes[name]} is expected" if name in shapes else "is not expected"
        raise WeightsError(
            f"the weights {card.name!r} do not fit {network}: of {len(others)} variables the first, {name}, {here}, "
            f"and {wanted}. Import them again."
        )
    for name, variable in variables.items():
        variable.assign(arrays[name])


def by_path(network: Any) -> dict[str, Any]:
    """The model's variables by `layer/variable`; names that Keras counts up within a process are counted anew."""
    found: dict[str, Any] = {}
    unnamed: dict[str, int] = {}
    for path, layer in _layers(network):
        # As Keras names layers: `Conv2D` is conv2d.
        kind = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=.)(?=[A-Z][a-z])", "_", type(layer).__name__).lower()
        if re.fullmatch(rf"{kind}(_\d+)?", layer.name):
            unnamed[kind] = unnamed.get(kind, 0) + 1
            path = f"{kind}:{unnamed[kind]}"
        for variable in layer.weights:
            name = variable.name
            if re.fullmatch(r"variable(_\d+)?", name):  # made without a name: the attribute that holds it has one
                name = next((key for key, held in vars(layer).items() if held is variable), "variable")
            found[f"{path}/{name}"] = variable
    return found


def layer_variables(layer: Any) -> dict[str, Any]:
    """One layer's variables, or those of the layers of a model within a model, as `by_path` calls them."""
    return by_path(SimpleNamespace(layers=[layer]))


def _layers(network: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """The layers with weights of their own, by path; models within models are gone through."""
    for layer in network.layers:
        if hasattr(layer, "layers"):
            yield from _layers(layer, f"{above}{layer.name}/")
        elif layer.weights:
            yield f"{above}{layer.name}", layer


def draw(shapes: Mapping[str, tuple[int, ...]], seed: int) -> dict[str, npt.NDArray[np.float32]]:
    """Draw random weights, the same for one seed on every platform.

    Convolution kernels are uniform with Glorot and Bengio's (2010) limit, keras.applications' own initialiser; of batch
    normalisation the scale and variance are 1, the shift and mean 0, and so are biases. `shapes` are by variable path
    (`conv1_conv/kernel`).
    """
    drawn = {}
    for name, shape in shapes.items():
        leaf = name.rpartition("/")[2]
        if leaf.endswith("kernel"):
            entropy = int.from_bytes(hashlib.sha256(f"{seed}\x1f{name}".encode()).digest(), "big")
            fan = int(np.prod(shape[:-2]))
            depthwise = fan > 1 and min(shape[-2:]) == 1  # each channel has a filter of its own
            limit = np.sqrt(6.0 / (fan * (2 if depthwise else shape[-2] + shape[-1])))
            # Raw bits rather than Generator.uniform, whose stream numpy may change between versions.
            bits = np.random.PCG64(entropy).random_raw(int(np.prod(shape)))
            drawn[name] = ((bits >> np.uint64(11)) * 2.0**-53 * 2 * limit - limit).astype(np.float32).reshape(shape)
        else:
            drawn[name] = np.full(shape, 1.0 if leaf in ("gamma", "moving_variance", "variance") else 0.0, np.float32)
    return drawn


def weights_sha256(network: Any) -> str:
    """Hash of the arrays that a graph holds; see `library.values_sha256`."""
    return library.values_sha256(by_path(network))


@dataclass(frozen=True)
class Place:
    """Where a tensor's cells are on the network's input, along one axis, in pixels."""

    stride: int = 1
    centre: float | None = 0.0
    """Of the first cell's receptive field; None after pooling over the whole image."""


def places(model: Any, axis: int = 0, begin: Place = Place()) -> dict[str, Place]:
    """The place of each operation's output along rows (0) or columns (1), by following strides and paddings.

    Dumoulin and Visin, "A guide to convolution arithmetic", 2016. The centre is NaN where paths that meet disagree, or
    where a layer moves cells in a way that is not known here.
    """
    found: dict[str, Place] = {}
    for operation in model.operations if hasattr(model, "operations") else model.layers:
        if type(operation).__name__ == "InputLayer":
            found[operation.name] = begin
            continue
        inputs = [_source(tensor) for tensor in operation._inbound_nodes[0].input_tensors]
        met = _meet([found.get(name, begin) for name in inputs])
        nested = hasattr(operation, "layers")
        found[operation.name] = (
            place_of(operation, operation.outputs[0], axis, met) if nested else _moved(operation, met, axis)
        )
    return found


def place_of(model: Any, tensor: Any, axis: int = 0, begin: Place = Place()) -> Place:
    """The place of one tensor of a graph; see `places`."""
    return places(model, axis, begin)[_source(tensor)]


def _source(tensor: Any) -> str:
    return str(tensor._keras_history.operation.name)


def _meet(several: list[Place]) -> Place:
    stride = max(place.stride for place in several)
    centres = {place.centre for place in several if place.centre is not None}
    return Place(stride, None if not centres else centres.pop() if len(centres) == 1 else float("nan"))


def _moved(layer: Any, place: Place, axis: int) -> Place:
    if place.centre is None or isinstance(layer.input, list | tuple):
        return place
    before, after = tuple(layer.input.shape), tuple(layer.output.shape)
    if len(after) != 4:
        return Place(place.stride, None)
    kernel = getattr(layer, "kernel_size", getattr(layer, "pool_size", None))
    if kernel is not None:
        reach = (kernel[axis] - 1) * getattr(layer, "dilation_rate", (1, 1))[axis]
        step, padded = layer.strides[axis], 0
        if layer.padding == "same":
            if (side := before[axis + 1]) is None:  # in a model within a model that takes any size
                if step > 1:
                    return Place(place.stride * step, float("nan"))
                side = 1
            padded = max((-(-side // step) - 1) * step + reach + 1 - side, 0) // 2
        return Place(place.stride * step, place.centre + place.stride * (reach / 2 - padded))
    if type(layer).__name__ == "ZeroPadding2D":
        return Place(place.stride, place.centre - place.stride * layer.padding[axis][0])
    return place if before[1:3] == after[1:3] else Place(place.stride, float("nan"))


def _normalised(image: Any, preprocessing: str) -> Any:
    keras = backends.keras()
    constants = NORMALISATION[preprocessing]
    floats = keras.layers.Rescaling(1.0, name="grey")(image)
    if (channels := len(constants.scale)) > 1:
        floats = keras.layers.Concatenate(name="grey_to_rgb")([floats] * channels)
    # Rescaling takes one scale per channel; it has no weights, so a weights file's layers still line up.
    return keras.layers.Rescaling(list(constants.scale), list(constants.offset), name="normalise")(floats)
