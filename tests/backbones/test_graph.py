"""The flat graph gives what a plain keras.applications model gives, from weights of every source.

What else follows from the architectures of DenseNet121 and ResNet50 is here too: each is built once.
"""

import dataclasses
import os
from collections import Counter

import numpy as np
import onnx
import pytest

from cxrfeat._backbones import graph, registry, translate, weights
from cxrfeat._backbones.checkpoints import convert
from cxrfeat._backbones.rewrite import rewrite
from cxrfeat._backbones.weights import Weights
from cxrfeat._explain.geometry import grid_to_input
from cxrfeat.errors import WeightsError

keras = pytest.importorskip("keras")
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


@pytest.fixture(scope="module")
def loaded(peer, tmp_path_factory):
    """Our graph with the weights of that model, from a file."""
    name, model = peer
    ending = {"densenet121": ".h5", "resnet50": ".weights.h5"}[name]  # either layout, once
    file = tmp_path_factory.mktemp("weights") / f"w{ending}"
    if ending == ".h5":  # the layout of Keras's official files, which Keras 3 reads and no longer writes by itself
        from keras.src.legacy.saving import legacy_h5_format

        h5py = pytest.importorskip("h5py")
        with h5py.File(file, "w") as opened:
            legacy_h5_format.save_weights_to_hdf5_group(opened, model)
    else:
        model.save_weights(file)
    spec = registry.get(name)
    return graph.keras_graph(spec, weights.find(spec, str(file)), spec.preprocessing, 64)


def test_embedding_equals_keras_applications(peer, loaded, pictures):
    name, model = peer
    rgb = np.repeat(pictures[..., None], 3, axis=-1).astype(np.float32)
    expected = np.asarray(model(MODULES[name].preprocess_input(rgb), training=False))
    embedding, feature_map = map(np.asarray, loaded(pictures[..., None], training=False))
    np.testing.assert_allclose(embedding, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    np.testing.assert_allclose(feature_map.mean(axis=(1, 2)), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    assert embedding.shape[1] == feature_map.shape[3] == registry.get(name).dim


def test_the_graph_is_flat_and_frozen(loaded, pictures):
    assert not any(isinstance(layer, keras.Model) for layer in loaded.layers)
    assert not loaded.trainable_weights
    # training=True must not move batch normalisation: the network is frozen wherever it is called from.
    before = [np.asarray(w) for w in loaded.non_trainable_weights]
    a, b = (loaded(pictures[:2, ..., None], training=training)[0] for training in (False, True))
    np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
    assert all(np.array_equal(x, np.asarray(y)) for x, y in zip(before, loaded.non_trainable_weights, strict=True))


def test_its_variables_are_those_that_checkpoints_are_converted_to(loaded):
    shapes = {name: tuple(variable.shape) for name, variable in graph.by_path(loaded).items()}
    assert shapes == dict(convert._shapes(loaded.name, 3))


def receptive_centre(model):
    """Stride and centre of the first cell's receptive field in pixels of the input, by walking the graph's layers.

    Independent of cxrfeat: kernel sizes, strides and paddings are what the Keras layers say they are (Dumoulin and
    Visin 2016). Every path to a layer must give the same, or no centre exists.
    """
    found = {}
    for layer in model.layers:
        before = {found[t._keras_history.operation.name] for t in layer._inbound_nodes[0].input_tensors}
        assert len(before) <= 1, layer.name
        step, centre = before.pop() if before else (1, 0.0)
        kernel = getattr(layer, "kernel_size", getattr(layer, "pool_size", None))
        if hasattr(layer, "padding") and kernel is None:
            centre -= step * layer.padding[0][0]  # ZeroPadding2D
        elif kernel is not None:
            side = layer.input.shape[1]
            stride, total = layer.strides[0], 0
            if layer.padding == "same":
                total = max((-(-side // stride) - 1) * stride + kernel[0] - side, 0)
            centre += step * ((kernel[0] - 1) / 2 - total // 2)
            step *= stride
        found[layer.name] = (step, centre)
    return found[model.outputs[1]._keras_history.operation.name]


def test_cells_lie_at_the_centres_of_their_receptive_fields(loaded):
    step, centre = receptive_centre(loaded)
    np.testing.assert_array_equal(grid_to_input(loaded.name, 64), [[step, 0, centre], [0, step, centre]])


# DenseNet121's three transitions convolve 256 to 128 channels at 16 x 16, then twice the channels at half the side: as
# many multiplications each, of which a quarter is left.
SPARED = {"densenet121": 3 * (16 * 16 - 8 * 8) * 256 * 128, "resnet50": 0}


def test_what_its_rewritten_translation_is_spared(loaded):
    before = translate.translate(loaded)
    after = rewrite(before)
    assert multiplications(before) - multiplications(after) == SPARED[loaded.name]
    kinds = Counter(node.op_type for node in after.graph.node)
    assert "Pad" not in kinds
    # A concatenation for each of DenseNet121's 58 layers, less the first of its four blocks, and for each four joined.
    assert kinds["Concat"] == {"densenet121": 58 + 6 // 4 + 12 // 4 + 24 // 4 + 16 // 4, "resnet50": 0}[loaded.name]


def multiplications(model):
    """Of all convolutions, from the shapes that ONNX infers."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in inferred.value_info}
    weights = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    return sum(int(np.prod(shapes[n.output[0]][2:])) * int(np.prod(weights[n.input[1]])) for n in convolutions)


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


def test_what_tensorflow_says_of_itself_is_not_shown_and_the_rest_is(capfd):
    with graph.quiet():
        os.write(2, b"I0000 00:00:1.5 1 port.cc:153] hello\nE0000 an error\n")
    assert capfd.readouterr().err == "E0000 an error\n"
