"""Every network of `keras.applications` is an entry, and each entry says what Keras's own code says."""

import importlib
import inspect
import re
import sys

import numpy as np
import pytest

from cxrfeat._backbones import graph, open_engine, registry
from cxrfeat._backbones.weights import Weights

keras = pytest.importorskip("keras")
OFFICIAL = {name: function for name, function in vars(keras.applications).items() if inspect.isfunction(function)}


def test_all_of_them_are_here():
    assert {name.lower() for name in OFFICIAL} <= set(registry.BACKBONES.names)
    assert registry.BACKBONES.names[0] == "densenet121"


class Asked(Exception):
    """Keras wanted a file."""


def test_files_and_hashes_are_those_that_keras_asks_for(monkeypatch):
    """Keras's own code, up to where it would download; networks that are slow to build are left out."""
    utils = importlib.import_module("keras.src.utils.file_utils")
    asked = []

    def get_file(name, origin, cache_subdir=None, file_hash=None, **more):
        asked.append((name, origin, file_hash or ""))
        raise Asked

    monkeypatch.setattr(utils, "get_file", get_file)
    for name in ("MobileNet", "MobileNetV3Small", "VGG16"):
        with pytest.raises(Asked):
            OFFICIAL[name](include_top=False, weights="imagenet", input_shape=(64, 64, 3))
        spec = registry.get(name.lower())
        kind = spec.weights_hash.partition(":")[2]
        assert asked.pop() == (spec.weights_file, spec.weights_url.partition("#")[0], kind)


def test_hashes_are_those_of_keras_tables():
    """Of the others by what their modules state, without building them."""
    tables, texts = [], []
    for function in OFFICIAL.values():
        module = sys.modules[function.__module__]
        tables.append(getattr(module, "WEIGHTS_HASHES", {}))
        texts.append(inspect.getsource(module))
    stated = {sha for table in tables for _, sha in table.values()}
    for name in OFFICIAL:
        sha = registry.get(name.lower()).weights_hash.partition(":")[2]
        assert sha in stated or any(f'file_hash="{sha}"' in text for text in texts) or not sha, name


def test_widths_are_those_of_keras_tables():
    """ConvNeXt's last stage; EfficientNetV2 rounds 1280 channels by its coefficients of width, as its code does."""
    convnext = sys.modules[keras.applications.ConvNeXtTiny.__module__]
    for name, config in convnext.MODEL_CONFIGS.items():
        assert registry.get(f"convnext{name}").dim == config["projection_dims"][-1]
    efficientnet = sys.modules[keras.applications.EfficientNetV2B0.__module__]
    for name in ("B0", "B1", "B2", "B3", "S", "M", "L"):
        source = inspect.getsource(getattr(keras.applications, f"EfficientNetV2{name}"))
        width = float(re.search(r"width_coefficient=([\d.]+)", source)[1])
        found = registry.get(f"efficientnetv2{name.lower()}").dim
        assert found == efficientnet.round_filters(1280, width, min_depth=8, depth_divisor=8)


def test_preprocessing_is_that_of_the_family():
    """By Keras's own `preprocess_input` on a grey ramp."""
    ramp = np.repeat(np.arange(256, dtype=np.float32)[None, :, None, None], 3, axis=-1)
    for name, function in OFFICIAL.items():
        spec = registry.get(name.lower())
        expected = np.asarray(sys.modules[function.__module__].preprocess_input(ramp.copy()))
        image = keras.Input((1, 256, 1), dtype="uint8")
        found = keras.Model(image, graph._normalised(image, spec.preprocessing))(ramp[..., :1].transpose(0, 2, 1, 3))
        np.testing.assert_allclose(np.asarray(found)[0, 0], expected[0, :, 0], atol=1e-4, err_msg=name)


def test_a_network_scaled_to_one_gives_the_embedding_of_keras(recipe_for, pictures):
    """MobileNet: the normalisation from -1 to 1, and depthwise kernels in the converter."""
    recipe = recipe_for("mobilenet")
    found = open_engine(recipe, Weights("random:0"), "openvino").run(pictures)[0]
    peer = keras.applications.MobileNet(include_top=False, weights=None, input_shape=(64, 64, 3), pooling="avg")
    ours = graph.keras_graph(registry.get("mobilenet"), Weights("random:0"), "tf", 64)
    peer.set_weights([np.asarray(w) for w in ours.weights])
    rgb = np.repeat(pictures[..., None], 3, axis=-1).astype(np.float32)
    expected = np.asarray(peer(keras.applications.mobilenet.preprocess_input(rgb), training=False))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_random_weights_leave_no_layer_empty():
    """Kernels of separable convolutions have names of their own; zeros there would make every embedding zero."""
    drawn = graph.draw({"a/depthwise_kernel": (3, 3, 8, 1), "a/pointwise_kernel": (1, 1, 8, 4), "n/variance": (3,)}, 0)
    assert all(np.abs(values).min() > 0 for values in drawn.values())
    assert drawn["n/variance"].tolist() == [1, 1, 1]
