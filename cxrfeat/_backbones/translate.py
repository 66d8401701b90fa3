"""A backbone's Keras graph to an ONNX model, layer by layer: the fast path for networks of plain convolutions.

DenseNet121 and ResNet50 use ten kinds of layer, so translating them takes a second and leaves room for what a converter
cannot know: that the three channels are one grey value. The first convolution therefore runs on one channel, its kernel
summed over the scaled channels; the offsets' share, which differs at the padded border, is a constant map.
Any other layer is left to the engine's own converter (`kept.write_graph`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from cxrfeat._backbones import backends

OPSET = 17
IR_VERSION = 8
"""Both old enough for any reader of the last years."""


class NotTranslatedError(Exception):
    """A layer that is not translated here; the engine's own converter takes the graph then."""


_GREY_LAYERS = ("grey", "grey_to_rgb", "normalise")


def translate(graph: Any) -> onnx.ModelProto:
    """Translate what `graph.keras_graph` built.

    `image` float32 (1, 1, size, size), grey values 0 to 255 -> `embedding` float32 (1, dim), `map` float32
    (1, dim, gh, gw). A layer or setting that is not known here raises a NotTranslatedError.
    """
    size = graph.input_shape[1]
    net = _Network()
    names = {id(graph.input): "image"}
    stem = next((layer for layer in graph.layers if type(layer).__name__ == "Conv2D"), None)
    if stem is None:
        raise NotTranslatedError(f"{graph.name} has no convolution.")
    for layer in graph.operations:
        kind = type(layer).__name__
        if kind == "InputLayer":
            continue
        if layer.name in _GREY_LAYERS:
            names[id(layer.output)] = "image"
        elif layer is stem:
            names[id(layer.output)] = _grey_convolution(net, graph, layer, names[id(layer.input)])
        elif kind in _TRANSLATIONS:
            inputs = layer.input if isinstance(layer.input, list | tuple) else [layer.input]
            names[id(layer.output)] = _TRANSLATIONS[kind](net, layer, *(names[id(tensor)] for tensor in inputs))
        else:
            raise NotTranslatedError(f"layer {layer.name!r} of {graph.name} is a {kind}, which is not translated.")
    embedding, feature_map = (names[id(tensor)] for tensor in graph.outputs)
    _, gh, gw, dim = graph.outputs[1].shape
    return net.model(graph.name, size, {embedding: ("embedding", [1, dim]), feature_map: ("map", [1, dim, gh, gw])})


class _Network:
    """Nodes and constants as they are added."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def add(self, kind: str, name: str, inputs: list[str], **attributes: Any) -> str:
        tensor = f"{name}/out"  # a layer may be called as an output is
        self.nodes.append(helper.make_node(kind, inputs, [tensor], name=name, **attributes))
        return tensor

    def constant(self, name: str, values: Any) -> str:
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values, np.float32), name))
        return name

    def model(self, name: str, size: int, outputs: dict[str, tuple[str, list[int]]]) -> onnx.ModelProto:
        for tensor, (output, shape) in outputs.items():
            kind = "Flatten" if len(shape) == 2 else "Identity"
            self.nodes.append(helper.make_node(kind, [tensor], [output], name=f"{output}/output"))
        graph = helper.make_graph(
            self.nodes,
            name,
            [helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, [1, 1, size, size])],
            [helper.make_tensor_value_info(o, onnx.TensorProto.FLOAT, shape) for o, shape in outputs.values()],
            self.constants,
        )
        opset = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION, producer_name="cxrfeat")


def _grey_convolution(net: _Network, graph: Any, layer: Any, x: str) -> str:
    keras = backends.keras()
    _plain(layer)
    scale = np.asarray(graph.get_layer("normalise").scale, np.float64)
    kernel = np.asarray(layer.kernel, np.float64)  # (kh, kw, 3, out)
    grey_kernel = (kernel * scale[:, None]).sum(axis=2, keepdims=True)
    # What the stem gives for a black image is everything but the grey value's own share: offsets, bias, border.
    stem = keras.Model(graph.input, layer.output)
    black = keras.ops.convert_to_numpy(stem(np.zeros((1, *graph.input_shape[1:]), graph.input.dtype), training=False))
    weights = net.constant(f"{layer.name}/kernel", _oihw(grey_kernel))
    attributes = {"strides": list(layer.strides), "dilations": list(layer.dilation_rate), "pads": _pads(layer)}
    y = net.add("Conv", f"{layer.name}/grey", [x, weights], **attributes)
    return net.add("Add", layer.name, [y, net.constant(f"{layer.name}/black", black.transpose(0, 3, 1, 2))])


def _plain(layer: Any) -> None:
    """Refuse a convolution or pooling with a setting that is not translated."""
    strided_same = layer.padding == "same" and tuple(layer.strides) != (1, 1)  # pads by the input's size
    activated = getattr(getattr(layer, "activation", None), "__name__", "linear") != "linear"
    if strided_same or activated or getattr(layer, "groups", 1) != 1 or layer.data_format != "channels_last":
        raise NotTranslatedError(f"layer {layer.name!r} has a setting that is not translated.")


def _convolution(net: _Network, layer: Any, x: str) -> str:
    _plain(layer)
    inputs = [x, net.constant(f"{layer.name}/kernel", _oihw(np.asarray(layer.kernel)))]
    if layer.use_bias:
        inputs.append(net.constant(f"{layer.name}/bias", layer.bias))
    attributes = {"strides": list(layer.strides), "dilations": list(layer.dilation_rate), "pads": _pads(layer)}
    return net.add("Conv", layer.name, inputs, **attributes)


def _pads(layer: Any) -> list[int]:
    if layer.padding == "valid":
        return [0, 0, 0, 0]
    kh, kw = ((k - 1) * d for k, d in zip(layer.kernel_size, layer.dilation_rate, strict=True))
    return [kh // 2, kw // 2, kh - kh // 2, kw - kw // 2]


def _batch_normalization(net: _Network, layer: Any, x: str) -> str:
    if not (layer.scale and layer.center):
        raise NotTranslatedError(f"layer {layer.name!r} has no scale or no shift, which is not translated.")
    values = (layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance)
    names = ("gamma", "beta", "mean", "variance")
    constants = [net.constant(f"{layer.name}/{name}", v) for name, v in zip(names, values, strict=True)]
    return net.add("BatchNormalization", layer.name, [x, *constants], epsilon=float(layer.epsilon))


def _activation(net: _Network, layer: Any, x: str) -> str:
    name = getattr(layer.activation, "__name__", str(layer.activation))
    if name != "relu":
        raise NotTranslatedError(f"layer {layer.name!r}: activation {name} is not translated.")
    return net.add("Relu", layer.name, [x])


def _zero_padding(net: _Network, layer: Any, x: str) -> str:
    (top, bottom), (left, right) = layer.padding
    net.constants.append(
        numpy_helper.from_array(np.array([0, 0, top, left, 0, 0, bottom, right], np.int64), f"{layer.name}/pads")
    )
    return net.add("Pad", layer.name, [x, f"{layer.name}/pads"])


def _pooling(kind: str) -> Callable[..., str]:
    def pool(net: _Network, layer: Any, x: str) -> str:
        _plain(layer)
        if layer.padding != "valid":
            raise NotTranslatedError(f"layer {layer.name!r}: padding `same` is not translated.")
        return net.add(kind, layer.name, [x], kernel_shape=list(layer.pool_size), strides=list(layer.strides))

    return pool


_TRANSLATIONS: dict[str, Callable[..., str]] = {
    "Conv2D": _convolution,
    "BatchNormalization": _batch_normalization,
    "Activation": _activation,
    "ZeroPadding2D": _zero_padding,
    "MaxPooling2D": _pooling("MaxPool"),
    "AveragePooling2D": _pooling("AveragePool"),
    "GlobalAveragePooling2D": lambda net, layer, x: net.add("GlobalAveragePool", layer.name, [x]),
    "Concatenate": lambda net, layer, *xs: net.add("Concat", layer.name, list(xs), axis=1),
    "Add": lambda net, layer, *xs: net.add("Sum", layer.name, list(xs)),
}


def _oihw(kernel: Any) -> Any:
    return np.asarray(kernel).transpose(3, 2, 0, 1)
