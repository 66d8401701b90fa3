"""A one-channel network of TorchXRayVision's kind: float grey values, centre crop, through every engine and to maps."""

import dataclasses

import cv2
import keras
import numpy as np
import pytest

from cxrfeat import Backbone
from cxrfeat._backbones import graph, open_engine, registry
from cxrfeat._backbones.weights import Weights
from cxrfeat._explain.explainer import Explainer
from cxrfeat._explain.explanation import Explanation
from cxrfeat._explain.targets import of_study
from cxrfeat._extract import embed, extract, make_recipe
from cxrfeat._heads import fit_head
from cxrfeat._images.prepare import View
from cxrfeat._store import EmbeddingFile
from cxrfeat.errors import RecipeError

RANDOM = Weights("random:0")


def build(input_tensor, include_top, weights):
    x = keras.layers.ZeroPadding2D(1)(input_tensor)
    x = keras.layers.Conv2D(8, 3, strides=2, name="stem", use_bias=False)(x)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.Activation("relu", name="first")(x)
    x = keras.layers.Conv2D(12, 3, strides=4, name="last", use_bias=False)(x)
    return keras.Model(input_tensor, keras.layers.Activation("relu", name="relu")(x), name="tiny1")


TINY = Backbone(
    "tiny1", build, dim=12, layer="relu", preprocessing="xrv", geometry="crop", interpolation="skimage", size=40
)


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(registry.BACKBONES._places, "tiny1", "nowhere:TINY")
    monkeypatch.setitem(registry.BACKBONES._loaded, "tiny1", TINY)


def test_engines_take_fractions_of_grey_values_on_one_channel():
    recipe = make_recipe("tiny1", weights="random:0")
    assert (recipe.preprocessing, recipe.geometry, recipe.interpolation) == ("xrv", "crop", "skimage")
    network = graph.keras_graph(TINY, RANDOM, "xrv", 40, "float32")
    assert network.get_layer("stem").kernel.shape[2] == 1
    pictures = np.random.default_rng(0).uniform(0, 255, (3, 40, 40)).astype(np.float32)
    bare = keras.Model(network.get_layer("normalise").output, network.outputs)
    expected = [np.asarray(v) for v in bare((2 * (pictures[..., None] / 255) - 1) * 1024)]
    for name in ("openvino", "keras"):
        found = open_engine(recipe, RANDOM, name, ("embedding", "map")).run(pictures)
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * np.abs(b).max())
        rounded = open_engine(recipe, RANDOM, name).run(np.rint(pictures))[0]
        assert np.abs(rounded - found[0]).max() > 1e-4 * np.abs(expected[0]).max(), "fractions are not dropped"


def build_converted(input_tensor, include_top, weights):
    x = keras.layers.Conv2D(8, 3, strides=8, name="stem")(input_tensor)
    return keras.Model(input_tensor, keras.layers.Activation("gelu", name="relu")(x), name="tiny2")


def test_an_export_that_was_made_for_whole_grey_values_takes_fractions_too(monkeypatch):
    """OpenVINO's converter takes the network, since only ReLU is translated; both recipes share its export."""
    spec = dataclasses.replace(TINY, name="tiny2", builder=build_converted, dim=8, interpolation="area")
    monkeypatch.setitem(registry.BACKBONES._places, "tiny2", "nowhere:TINY2")
    monkeypatch.setitem(registry.BACKBONES._loaded, "tiny2", spec)
    pictures = np.random.default_rng(0).uniform(0, 255, (2, 40, 40)).astype(np.float32)
    whole = open_engine(make_recipe("tiny2", weights="random:0"), RANDOM, "openvino").run(np.rint(pictures))[0]
    floats = make_recipe("tiny2", weights="random:0", interpolation="skimage")
    found = open_engine(floats, RANDOM, "openvino").run(pictures)[0]
    expected = np.asarray(graph.keras_graph(spec, RANDOM, "xrv", 40, "float32")(pictures[..., None])[0])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    assert np.abs(found - whole).max() > 1e-4 * np.abs(expected).max()


def test_a_preprocessing_of_other_channels_is_refused():
    with pytest.raises(RecipeError, match="does not fit tiny1, which takes xrv"):
        make_recipe("tiny1", weights="random:0", preprocessing="torch")
    with pytest.raises(RecipeError, match="does not fit densenet121, which takes torch, caffe, tf, unit"):
        make_recipe("densenet121", weights="random:0", preprocessing="xrv")


def test_the_backbones_own_geometry_scales_with_the_size_unless_another_is_asked_for(monkeypatch):
    own = dataclasses.replace(TINY, resize=46)
    monkeypatch.setitem(registry.BACKBONES._loaded, "tiny1", own)
    assert make_recipe("tiny1", weights="random:0").resize == 46
    assert make_recipe("tiny1", weights="random:0", size=80).resize == 92
    assert make_recipe("tiny1", weights="random:0", geometry="stretch").resize == 0
    assert make_recipe("tiny1", weights="random:0", resize=50).resize == 50
    assert own.sha256 == TINY.sha256, "a geometry makes no other network"


def test_extraction_with_passes_embedding_and_maps_of_oblong_films(make_study, tmp_path):
    study = make_study(20)
    for path in study.paths():
        film = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        cv2.imwrite(str(path), np.pad(film, ((0, 0), (13, 20))))
    result = extract(study, out=tmp_path / "e.h5", backbone="tiny1", weights="random:0", passes=2)
    assert result.extracted == 20
    with EmbeddingFile.open(result.path) as file:
        pass0 = file.read(study.ids)[0]
    np.testing.assert_array_equal(embed(list(study.paths()), file.recipe), pass0)
    film = cv2.imread(str(study.paths()[0]), cv2.IMREAD_GRAYSCALE)
    x = open_engine(file.recipe, RANDOM).run(View(film, 40, "skimage", "crop").render()[None])[0]
    np.testing.assert_array_equal(x[0], pass0[0])
    run = fit_head(study, result.path, "logistic", out=tmp_path / "run")
    targets = of_study(run, "test")[:2]
    for method in ("cam", "gradcam"):
        for found in Explainer(run, method=method, smooth=2).explain(targets):
            h, w = film.shape
            first = 2.5 * h / 40 - 0.5  # the first cell's centre is at pixel 2 of the input
            expected = [[8 * h / 40, 0, first + w // 2 - h // 2], [0, 8 * h / 40, first]]
            np.testing.assert_allclose(found.to_image, expected)
            left = w // 2 - h // 2
            assert found.grids[0].seen == (left, 0, left + h, h)
            read = Explanation.load(found.save(tmp_path / "maps.npz"))
            for one in (found, read):
                on_film = one.on_image(run.labels[0])
                assert not on_film[:, :left].any() and not on_film[:, left + h :].any(), "no evidence was seen there"
                assert on_film[:, left : left + h].any(axis=0).all()
