"""Networks that our translation does not know run end to end from their entry alone: embeddings, maps, sanity check."""

import dataclasses
import sys

import numpy as np
import pytest

from cxrfeat._backbones import graph, kept, open_engine, registry
from cxrfeat._backbones.weights import Weights
from cxrfeat._explain.explainer import Explainer
from cxrfeat._explain.sanity import sanity_check
from cxrfeat._explain.targets import of_study
from cxrfeat._extract import extract
from cxrfeat._heads import fit_head
from cxrfeat._store import EmbeddingFile
from cxrfeat.errors import EngineError

keras = pytest.importorskip("keras")
RANDOM = Weights("random:0")
SIZE = 64


def convnext(**options):
    """ConvNeXt with one block a stage: every kind of its layers, and a fraction of the time to build it."""
    module = sys.modules[keras.applications.ConvNeXtTiny.__module__]
    return module.ConvNeXt([1, 1, 1, 1], [16, 32, 64, 128], name="convnext_tiny", **options)


def efficientnet(**options):
    """EfficientNetV2B0, narrower and with a third of its blocks."""
    module = sys.modules[keras.applications.EfficientNetV2B0.__module__]
    return module.EfficientNetV2(0.25, 0.25, 224, name="efficientnetv2-b0", **options)


SHORTENED = {"efficientnetv2b0": (efficientnet, 320), "convnexttiny": (convnext, 128)}


@pytest.fixture(scope="module", params=SHORTENED)
def name(request):
    builder, dim = SHORTENED[request.param]
    with pytest.MonkeyPatch.context() as patch:
        entry = dataclasses.replace(registry.get(request.param), builder=builder, dim=dim)
        patch.setitem(registry.BACKBONES._loaded, request.param, entry)
        yield request.param


def kept_networks(name):
    """Networks that are kept of a backbone at this size."""
    found = [row["folder"] for row in kept.exports() if row["backbone"] == name and row["size"] == SIZE]
    return [path for folder in found for path in folder.glob("model.[ox]*")]


def test_embeddings_are_those_of_keras_applications(name, graphs, recipe_for, pictures):
    recipe = recipe_for(name)
    found = open_engine(recipe, RANDOM, "openvino", ("embedding", "map")).run(pictures)
    assert [path.suffix for path in kept_networks(name)] == [".xml"]
    # Keras's own model, with our random weights put in by variable order.
    peer = SHORTENED[name][0](include_top=False, weights=None, input_shape=(SIZE, SIZE, 3))
    ours = graph.keras_graph(registry.get(name), RANDOM, "raw", SIZE)
    peer.set_weights([np.asarray(w) for w in ours.weights])
    expected = np.asarray(peer(np.repeat(pictures[..., None], 3, axis=-1).astype(np.float32), training=False))
    assert found[1].shape == expected.shape
    np.testing.assert_allclose(found[1], expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    pooled = expected.mean(axis=(1, 2))
    np.testing.assert_allclose(found[0], pooled, rtol=0, atol=1e-4 * np.abs(pooled).max())


def test_random_weights_do_not_depend_on_what_was_built_before(name, graphs):
    hashes = set()
    for _ in range(2):
        graphs.clear()
        hashes.add(graph.weights_sha256(graph.keras_graph(registry.get(name), RANDOM, "raw", 32)))
    assert len(hashes) == 1


def test_places_follow_strides_and_paddings_of_any_side():
    """Convolutions of ones: the cells' receptive fields are found by gradient, padding and all."""
    import tensorflow as tf

    for side in (64, 75):
        image = keras.Input((side, side, 1))
        x = keras.layers.Conv2D(1, 3, strides=2, padding="same", kernel_initializer="ones")(image)
        x = keras.Sequential([keras.layers.Conv2D(1, 5, dilation_rate=2, kernel_initializer="ones")])(x)
        x = keras.layers.Multiply()([x, keras.layers.Reshape((1, 1, 1))(keras.layers.GlobalAveragePooling2D()(x))])
        x = keras.layers.AveragePooling2D(2)(keras.layers.ZeroPadding2D(1)(x))
        model = keras.Model(image, x)
        rows, columns = (graph.place_of(model, x, axis) for axis in (0, 1))
        pixels = tf.Variable(tf.ones((1, side, side, 1)))
        plain = keras.Model(image, model.layers[2].output)
        for cell in (3, 5):  # away from the border, where padding cuts the field
            with tf.GradientTape() as tape:
                value = plain(pixels)[0, cell, cell, 0]
            reached = np.argwhere(tape.gradient(value, pixels).numpy()[0, ..., 0])
            place = graph.place_of(model, model.layers[2].output)
            np.testing.assert_allclose(reached.mean(axis=0), place.centre + cell * place.stride)
        inner = graph.place_of(model, model.layers[2].output)
        assert rows == columns == graph.Place(4, inner.centre - 2 + 1)
        assert inner.stride == 2


def test_extraction_maps_and_sanity_check(name, graphs, make_study, tmp_path):
    study = make_study(20)
    result = extract(study, out=tmp_path / "e.h5", backbone=name, weights="random:0", size=SIZE)
    assert result.extracted == 20 and result.recipe.preprocessing == "raw"
    with EmbeddingFile.open(result.path) as file:
        assert file.read(study.ids).shape == (1, 20, registry.get(name).dim)
    run = fit_head(study, result.path, "logistic", out=tmp_path / "run")
    targets = of_study(run, "test")[:2]
    closed, gradients = (list(Explainer(run, method=method).explain(targets)) for method in ("cam", "gradcam"))
    for found, other in zip(closed, gradients, strict=True):
        maps = found.grids[0].maps
        np.testing.assert_allclose(maps.mean(axis=(1, 2)), found.logits, rtol=1e-3, atol=1e-3)
        stride, _ = kept.map_geometry(name, SIZE)
        scale = 64 / SIZE  # the films' side
        np.testing.assert_allclose(np.diag(found.grids[0].to_image[:, :2]), stride * scale)
        np.testing.assert_allclose(found.logits, other.logits, atol=1e-3)
    checked = sanity_check(run, [study.paths()[0]], limit=1)
    graphs.clear()  # this one is random now
    strides = [int(step.split()[1]) for step in checked.steps[2:]]
    assert checked.steps[:2] == ("trained", "head") and strides == sorted(strides, reverse=True) and strides[0] == 32


def test_an_entry_that_does_not_fit_its_network_is_refused():
    with pytest.raises(EngineError, match="99"):
        graph.keras_graph(dataclasses.replace(registry.get("convnexttiny"), builder=convnext, dim=99), None, "raw", 32)
