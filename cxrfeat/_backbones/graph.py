"""The frozen network as one flat Keras graph: grey uint8 in, embedding and last feature map out.

Normalisation, backbone and global average pooling are layers of one functional model, so that a head can be joined to
it and differentiated through, and so that an engine can be exported from it. The only room, with the TensorFlow
engine, that builds Keras models of a backbone.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from cxrfeat._backbones import registry
from cxrfeat._backbones.weights import Weights, arrays_sha256, draw
from cxrfeat._images.prepare import NORMALISATION
from cxrfeat.errors import WeightsError


def keras_graph(backbone: str, weights: Weights, preprocessing: str, size: int) -> Any:
    """Build the flat graph.

    Parameters
    ----------
    backbone : str
        A name of the registry.
    weights : Weights
        From `weights.find`.
    preprocessing : str
        `torch`, `caffe` or `unit`.
    size : int
        Side of the input, pixels.

    Returns
    -------
    keras.Model
        uint8 (n, size, size, 1) -> [embedding float32 (n, dim), map float32 (n, gh, gw, dim)]; not trainable, and
        batch normalisation in inference mode wherever it is called from.

    Raises
    ------
    WeightsError
        If the weights file does not fit the backbone.
    """
    import keras

    spec = registry.get(backbone)
    image = keras.Input((size, size, 1), dtype="uint8", name="image")
    rgb = _normalised(image, preprocessing)
    network = getattr(keras.applications, spec.builder)(include_top=False, weights=None, input_tensor=rgb)
    # A frozen BatchNormalization runs in inference mode even under training=True (Keras's documented rule).
    network.trainable = False
    fill(network, weights)
    feature_map = network.get_layer(spec.cam_layer).output
    embedding = keras.layers.GlobalAveragePooling2D(name="embedding")(feature_map)
    return keras.Model(image, [embedding, feature_map], name=spec.name)


def fill(network: Any, weights: Weights) -> None:
    """Put the weights into a Keras model of the backbone."""
    if weights.path is None:
        variables = by_path(network)
        drawn = draw({name: tuple(v.shape) for name, v in variables.items()}, weights.seed)
        for name, variable in variables.items():
            variable.assign(drawn[name])
        return
    for variable in network.weights:  # so that a variable the file says nothing of cannot pass for a loaded one
        variable.assign(np.full(variable.shape, np.nan, np.float32))
    why = ""
    try:
        with warnings.catch_warnings(action="ignore"):  # of layers it finds nothing for, which is checked here
            network.load_weights(str(weights.path))
    except (ValueError, OSError, KeyError, AttributeError) as error:
        why = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    unfilled = [name for name, v in by_path(network).items() if np.isnan(np.asarray(v)).any()]
    if why or unfilled:
        why = why or f"it has nothing for {len(unfilled)} variables, the first is {unfilled[0]}."
        raise WeightsError(
            f"{weights.path} does not fit {network.name}: {why} Weights without the classifier (`notop`) in Keras's "
            ".h5 or .weights.h5 layout are needed."
        )


def by_path(network: Any) -> dict[str, Any]:
    """The model's variables by `layer/variable`, without the counters Keras appends to make names unique."""
    return {f"{layer.name}/{v.name}": v for layer in network.layers for v in layer.weights}


def weights_sha256(network: Any) -> str:
    """Hash of the arrays a graph holds; see `weights.arrays_sha256`."""
    return arrays_sha256({name: np.asarray(v) for name, v in by_path(network).items()})


def _normalised(image: Any, preprocessing: str) -> Any:
    import keras

    constants = NORMALISATION[preprocessing]
    floats = keras.layers.Rescaling(1.0, name="grey")(image)
    rgb = keras.layers.Concatenate(name="grey_to_rgb")([floats] * 3)
    # Rescaling takes one scale per channel; it has no weights, so a weights file's layers still line up.
    return keras.layers.Rescaling(list(constants.scale), list(constants.offset), name="normalise")(rgb)
