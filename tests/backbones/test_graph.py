"""The flat graph gives what a plain keras.applications model gives, from weights of every source."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cxrfeat._backbones import graph, registry, weights
from cxrfeat._backbones.weights import Weights
from cxrfeat.errors import WeightsError

keras = pytest.importorskip("keras")
DENSENET121 = registry.get("densenet121")
MODULES = {"densenet121": keras.applications.densenet, "resnet50": keras.applications.resnet}


@pytest.fixture(scope="module", params=sorted(MODULES))
def peer(request):
    """keras.applications' own model with weights of its own drawing, not ours."""
    spec = registry.get(request.param)
    keras.utils.set_random_seed(5)
    model = getattr(keras.applications, spec.builder.partition(":")[2])(
        include_top=False, weights=None, pooling="avg", input_shape=(64, 64, 3)
    )
    rng = np.random.default_rng(1)
    for layer in model.layers:  # statistics that a trained network could have, so that a mixed-up variable shows
        if type(layer).__name__ == "BatchNormalization":
            layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    return request.param, model


def test_embedding_equals_keras_applications_predict(peer, pictures, tmp_path):
    name, model = peer
    ending = {"densenet121": ".h5", "resnet50": ".weights.h5"}[name]  # either layout, once
    file = tmp_path / f"w{ending}"
    if ending == ".h5":  # the layout of Keras's official files, which Keras 3 reads and no longer writes by itself
        from keras.src.legacy.saving import legacy_h5_format

        h5py = pytest.importorskip("h5py")
        with h5py.File(file, "w") as opened:
            legacy_h5_format.save_weights_to_hdf5_group(opened, model)
    else:
        model.save_weights(file)
    rgb = np.repeat(pictures[..., None], 3, axis=-1).astype(np.float32)
    expected = model.predict(MODULES[name].preprocess_input(rgb), verbose=0)
    found = graph.keras_graph(
        registry.get(name), weights.find(registry.get(name), str(file)), registry.get(name).preprocessing, 64
    )
    embedding, feature_map = found.predict(pictures[..., None], verbose=0)
    np.testing.assert_allclose(embedding, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    np.testing.assert_allclose(feature_map.mean(axis=(1, 2)), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    assert embedding.shape[1] == feature_map.shape[3] == registry.get(name).dim


def test_the_graph_is_flat_and_frozen(pictures):
    flat = graph.keras_graph(DENSENET121, Weights("random:0"), "torch", 64)
    assert not any(isinstance(layer, keras.Model) for layer in flat.layers)
    assert not flat.trainable_weights
    # training=True must not move batch normalisation: the network is frozen wherever it is called from.
    before = [np.asarray(w) for w in flat.non_trainable_weights]
    a = flat(pictures[..., None], training=False)[0]
    b = flat(pictures[..., None], training=True)[0]
    np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
    assert all(np.array_equal(x, np.asarray(y)) for x, y in zip(before, flat.non_trainable_weights, strict=True))


def test_weights_of_another_network_are_refused(small, tmp_path):
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    other.save_weights(tmp_path / "other.weights.h5")
    wider = dataclasses.replace(small, arguments={"width": 8}, dim=16)
    graph.keras_graph(wider, Weights("random:0"), "torch", 32).save_weights(tmp_path / "wider.weights.h5")
    (tmp_path / "junk.h5").write_bytes(b"junk")
    for name in ("other.weights.h5", "wider.weights.h5", "junk.h5"):
        with pytest.raises(WeightsError, match="does not fit"):
            graph.keras_graph(small, Weights(name, tmp_path / name), "torch", 32)


def test_random_weights_are_the_same_for_a_seed_and_hashed(small):
    a, b, c = (graph.keras_graph(small, Weights(f"random:{s}", seed=s), "torch", 32) for s in (0, 0, 1))
    assert graph.weights_sha256(a) == graph.weights_sha256(b) != graph.weights_sha256(c)


def test_random_weights_are_frozen_for_ever():
    # By hand, from the definition in `graph.draw`; a change here would silently change every random recipe.
    import hashlib

    drawn = graph.draw({"conv1_conv/kernel": (7, 7, 3, 64), "bn/gamma": (2,), "bn/beta": (2,)}, 0)
    entropy = int.from_bytes(hashlib.sha256(b"0\x1fconv1_conv/kernel").digest(), "big")
    first = np.random.PCG64(entropy).random_raw() >> 11
    limit = (6 / (49 * 67)) ** 0.5
    assert drawn["conv1_conv/kernel"].flat[0] == pytest.approx(first * 2.0**-53 * 2 * limit - limit, rel=1e-6)
    assert np.abs(drawn["conv1_conv/kernel"]).max() <= limit
    assert drawn["bn/gamma"].tolist() == [1, 1]
    assert drawn["bn/beta"].tolist() == [0, 0]


def test_what_tensorflow_says_of_itself_is_not_shown():
    """In a process of its own, since it is said once; what others write meanwhile is shown."""
    code = (
        "import os, small_network\n"
        "from cxrfeat._backbones import graph\n"
        "with graph.quiet():\n"
        "    network = graph.keras_graph(small_network.SMALL, None, 'torch', 32)\n"
        "    network(__import__('numpy').zeros((1, 32, 32, 1), 'u1'))\n"
        "    os.write(2, b'I0000 00:00:1.5 1 port.cc:153] hello\\n' + b'E0000 an error\\n')\n"
    )
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert done.stderr == "E0000 an error\n"
