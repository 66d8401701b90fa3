"""A backbone's Keras graph to an OpenVINO model, layer by layer.

OpenVINO's own converter goes by way of a traced TensorFlow graph and takes half a minute; the two backbones use ten
kinds of layer, so translating them takes a second and leaves room for what the converter cannot know: that the three
channels are one grey value. The first convolution therefore runs on one channel, its kernel summed over the scaled
channels; the offsets' share, which differs at the padded border, is a constant map that is added.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from cxrfeat.errors import EngineError

_GREY_LAYERS = ("grey", "grey_to_rgb", "normalise")


def translate(graph: Any, batch: int) -> ov.Model:
    """Translate what `graph.keras_graph` built.

    Parameters
    ----------
    graph : keras.Model
        uint8 (n, size, size, 1) -> [embedding, map].
    batch : int
        The number of images in a call; `ov.Model.reshape` changes it later.

    Returns
    -------
    openvino.Model
        `image` uint8 (batch, 1, size, size) -> `embedding` float32 (batch, dim), `map` float32 (batch, dim, gh, gw).

    Raises
    ------
    EngineError
        If the graph has a kind of layer that the backbones do not have.
    """
    size = graph.input_shape[1]
    image = ops.parameter([batch, 1, size, size], np.uint8, name="image")
    image.output(0).set_names({"image"})
    nodes: dict[int, Any] = {}
    stem = _stem_convolution(graph)
    for layer in graph.layers:
        name = type(layer).__name__
        if name == "InputLayer":
            nodes[id(layer.output)] = ops.convert(image, np.float32)
        elif layer.name in _GREY_LAYERS:
            nodes[id(layer.output)] = nodes[id(graph.input)]
        elif layer is stem:
            nodes[id(layer.output)] = _grey_convolution(graph, layer, nodes[id(layer.input)])
        elif name in _TRANSLATIONS:
            inputs = layer.input if isinstance(layer.input, list | tuple) else [layer.input]
            nodes[id(layer.output)] = _TRANSLATIONS[name](layer, *(nodes[id(tensor)] for tensor in inputs))
        else:
            raise EngineError(f"layer {layer.name!r} of {graph.name} is a {name}, which is not translated to OpenVINO.")
    embedding, feature_map = (ops.result(nodes[id(tensor)]) for tensor in graph.outputs)
    embedding.output(0).set_names({"embedding"})
    feature_map.output(0).set_names({"map"})
    return ov.Model([embedding, feature_map], [image], graph.name)


def _stem_convolution(graph: Any) -> Any:
    return next(layer for layer in graph.layers if type(layer).__name__ == "Conv2D")


def _grey_convolution(graph: Any, layer: Any, x: Any) -> Any:
    import keras

    normalise = graph.get_layer("normalise")
    kernel = np.asarray(layer.kernel, np.float64)  # (kh, kw, 3, out)
    scale = np.asarray(normalise.scale, np.float64)
    grey_kernel = (kernel * scale[:, None]).sum(axis=2, keepdims=True)
    # What the stem gives for a black image is everything but the grey value's own share: offsets, bias, border.
    stem = keras.Model(graph.input, layer.output)
    black = np.asarray(stem(np.zeros((1, *graph.input_shape[1:]), np.uint8), training=False))
    y = ops.convolution(x, _constant(_oihw(grey_kernel)), list(layer.strides), *_pads(layer), [1, 1])
    return ops.add(y, _constant(black.transpose(0, 3, 1, 2)))


def _convolution(layer: Any, x: Any) -> Any:
    kernel = _constant(_oihw(np.asarray(layer.kernel)))
    y = ops.convolution(x, kernel, list(layer.strides), *_pads(layer), list(layer.dilation_rate))
    return ops.add(y, _constant(_channels(layer.bias))) if layer.use_bias else y


def _pads(layer: Any) -> tuple[list[int], list[int]]:
    if layer.padding == "valid":
        return [0, 0], [0, 0]
    if tuple(layer.strides) != (1, 1):  # `same` with a stride pads by the input's size; neither backbone has it
        raise EngineError(f"layer {layer.name!r}: padding `same` with a stride is not translated to OpenVINO.")
    kh, kw = layer.kernel_size
    return [(kh - 1) // 2, (kw - 1) // 2], [kh // 2, kw // 2]


def _batch_normalization(layer: Any, x: Any) -> Any:
    variance = np.asarray(layer.moving_variance, np.float64)
    scale = np.asarray(layer.gamma, np.float64) / np.sqrt(variance + layer.epsilon)
    shift = np.asarray(layer.beta, np.float64) - np.asarray(layer.moving_mean, np.float64) * scale
    return ops.add(ops.multiply(x, _constant(_channels(scale))), _constant(_channels(shift)))


def _activation(layer: Any, x: Any) -> Any:
    name = getattr(layer.activation, "__name__", str(layer.activation))
    if name != "relu":
        raise EngineError(f"layer {layer.name!r}: activation {name} is not translated to OpenVINO.")
    return ops.relu(x)


def _zero_padding(layer: Any, x: Any) -> Any:
    (top, bottom), (left, right) = layer.padding
    zero = ops.constant(np.float32(0))
    return ops.pad(x, np.array([0, 0, top, left]), np.array([0, 0, bottom, right]), "constant", zero)


def _max_pooling(layer: Any, x: Any) -> Any:
    strides, window = list(layer.strides), list(layer.pool_size)
    return ops.max_pool(x, strides, [1, 1], [0, 0], [0, 0], window).output(0)


def _average_pooling(layer: Any, x: Any) -> Any:
    return ops.avg_pool(x, list(layer.strides), [0, 0], [0, 0], list(layer.pool_size), True)


def _global_average(layer: Any, x: Any) -> Any:
    return ops.reduce_mean(x, np.array([2, 3]), False)


def _concatenate(layer: Any, *xs: Any) -> Any:
    return ops.concat(list(xs), 1)


def _add(layer: Any, *xs: Any) -> Any:
    total = xs[0]
    for x in xs[1:]:
        total = ops.add(total, x)
    return total


_TRANSLATIONS: dict[str, Callable[..., Any]] = {
    "Conv2D": _convolution,
    "BatchNormalization": _batch_normalization,
    "Activation": _activation,
    "ReLU": lambda layer, x: ops.relu(x),
    "ZeroPadding2D": _zero_padding,
    "MaxPooling2D": _max_pooling,
    "AveragePooling2D": _average_pooling,
    "GlobalAveragePooling2D": _global_average,
    "Concatenate": _concatenate,
    "Add": _add,
}


def _constant(values: Any) -> Any:
    return ops.constant(np.ascontiguousarray(values, np.float32))


def _channels(values: Any) -> Any:
    return np.asarray(values).reshape(1, -1, 1, 1)


def _oihw(kernel: Any) -> Any:
    return np.asarray(kernel).transpose(3, 2, 0, 1)
