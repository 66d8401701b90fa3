"""Networks that a user imports run end to end under their name: embeddings, heads and maps, or why there are none."""

import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

import cxrfeat as cxr
from cxrfeat._backbones import imported, kept, library, registry
from cxrfeat._explain.explainer import Explainer
from cxrfeat._explain.targets import of_study
from cxrfeat.errors import CxrfeatError, EngineError, OutputError, RecipeError, WeightsError

SIZE = 32


@pytest.fixture(scope="module", autouse=True)
def own_library(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CXRFEAT_WEIGHTS", str(tmp_path_factory.mktemp("library")))
        yield


@pytest.fixture(scope="module")
def networks(tiny_onnx, tmp_path_factory):
    """`tokens` and `patches` are one transformer by its class token and its patches, `plain` is convolutional."""
    folder = tmp_path_factory.mktemp("networks")
    onnx.save(tiny_onnx.vit(), folder / "vit.onnx")
    onnx.save(tiny_onnx.convolutional(), folder / "plain.onnx")
    made = {}
    for name, file, layer, tokens, options in (
        ("tokens", "vit.onnx", "last_hidden_state", "class", {}),
        ("patches", "vit.onnx", "last_hidden_state", "mean", {"preprocessing": "rad-dino"}),
        ("plain", "plain.onnx", "", "", {"size": SIZE, "preprocessing": "unit"}),
    ):
        made[name] = cxr.import_weights(folder / file, name, layer=layer, tokens=tokens, **options).card
    return made


@pytest.fixture(scope="module")
def films():
    return np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE), dtype=np.uint8)


def test_embeddings_are_those_of_the_reference_with_the_preprocessing_of_the_card(networks, tiny_onnx, films):
    means = {"tokens": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]), "patches": ([0.5307] * 3, [0.2583] * 3)}
    for name, (mean, sd) in means.items():
        scaled = (films[:, None] / 255 - np.reshape(mean, (1, 3, 1, 1))) / np.reshape(sd, (1, 3, 1, 1))
        reference = ReferenceEvaluator(tiny_onnx.vit())
        tokens = np.concatenate([reference.run(None, {"pixel_values": x[None].astype(np.float32)})[0] for x in scaled])
        expected = tokens[:, 0] if name == "tokens" else tokens[:, tiny_onnx.SPECIAL :].mean(axis=1)
        found = cxr.embed(films, backbone=name)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
        np.testing.assert_array_equal(cxr.embed(films, weights=name), found)
        np.testing.assert_array_equal(cxr.embed(films, weights=name, fresh=True), found)


def test_a_recipe_says_layer_tokens_and_values(networks):
    recipe = cxr.make_recipe("tokens")
    assert (recipe.backbone, recipe.layer, recipe.size) == ("tokens", "last_hidden_state:class", SIZE)
    assert recipe == cxr.make_recipe(weights="tokens") and recipe.weights_by == "values"
    assert recipe.weights_sha256 == networks["tokens"].values_sha256 != networks["patches"].values_sha256
    with pytest.raises(RecipeError, match="32, as it was exported"):
        cxr.make_recipe("tokens", size=48)
    assert cxr.make_recipe("plain", size=48).size == 48
    for weights in ("random:0", "imagenet"):
        with pytest.raises(WeightsError, match="weights of its own"):
            cxr.make_recipe("tokens", weights=weights)


@pytest.mark.parametrize(("name", "cells"), [("patches", 4), ("plain", 4)])
def test_extraction_head_and_maps(networks, make_study, tmp_path, name, cells):
    study = make_study(20)
    done = cxr.extract(study, out=tmp_path / "e.h5", backbone=name)
    assert done.extracted == 20 and done.recipe.backbone == name
    run = cxr.fit_head(study, done.path, out=tmp_path / "run")
    targets = of_study(run, "test")[:2]
    for found in Explainer(run).explain(targets):
        maps = found.grids[0].maps
        assert maps.shape[1:] == (cells, cells)
        np.testing.assert_allclose(maps.mean(axis=(1, 2)), found.logits, rtol=1e-3, atol=1e-3)  # the closed form
        stride, first = kept.map_geometry(name, SIZE)
        np.testing.assert_allclose(found.grids[0].to_image[0], [2 * stride, 0, 2 * first + 0.5])  # films of 64 pixels
    with pytest.raises(EngineError, match="method=cam"):
        list(Explainer(run, method="gradcam").explain(targets))


def test_a_class_token_has_no_maps_and_says_why(networks, make_study, tmp_path):
    study = make_study(20)
    run = cxr.fit_head(study, cxr.extract(study, out=tmp_path / "e.h5", backbone="tokens").path, out=tmp_path / "run")
    with pytest.raises(EngineError, match=r"no average of cells.*tokens=mean"):
        Explainer(run)


def test_a_damaged_export_and_a_damaged_network_are_found(networks, films):
    before = cxr.embed(films, backbone="patches")
    (folder,) = (row["folder"] for row in kept.exports() if row["backbone"] == "patches")
    content = bytearray((folder / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 255
    (folder / "model.onnx").write_bytes(content)
    np.testing.assert_array_equal(cxr.embed(films, backbone="patches"), before)
    path = library.file_of(networks["patches"], imported.NETWORK)
    sound = path.read_bytes()
    try:
        path.write_bytes(sound[:-1])
        with pytest.raises(WeightsError, match="was changed"):
            cxr.embed(films, backbone="patches", fresh=True)
    finally:
        path.write_bytes(sound)


def test_only_openvino_runs_them(networks, films):
    with pytest.raises(EngineError, match="engine=openvino"):
        cxr.embed(films, backbone="tokens", engine="keras")


def test_names_are_choices_without_importing_numpy(networks):
    code = (
        "import sys; from cxrfeat._backbones.registry import BACKBONES as b; "
        "assert {'tokens', 'patches', 'plain'} <= set(b.others); assert 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_name_is_taken_once(networks, tiny_onnx, tmp_path):
    onnx.save(tiny_onnx.vit(seed=1), tmp_path / "other.onnx")
    with pytest.raises(OutputError, match="taken by other weights"):
        cxr.import_weights(tmp_path / "other.onnx", "tokens", layer="last_hidden_state", tokens="class")
    with pytest.raises(WeightsError, match="that of a backbone"):
        cxr.import_weights(tmp_path / "other.onnx", "densenet121", layer="last_hidden_state", tokens="class")


@pytest.fixture(scope="module")
def model():
    keras = pytest.importorskip("keras")
    keras.utils.set_random_seed(0)
    image = keras.Input((None, None, 3))
    inner = keras.Sequential([keras.Input((None, None, 8)), keras.layers.Conv2D(12, 3, padding="same")], name="inner")
    x = keras.layers.Conv2D(8, 3, strides=2, padding="same", activation="relu", name="stem")(image)
    x = inner(x)
    x = keras.layers.ReLU(name="last")(x)
    return keras.Model(image, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(x)))


@pytest.mark.parametrize("layer", ["last", "inner", "stem"])
def test_a_keras_model_up_to_a_layer(model, films, tmp_path, layer):
    import keras

    model.save(tmp_path / "own.keras")
    path, name = tmp_path / "own.keras", f"own-{layer}"
    made = cxr.import_weights(path, name, layer=layer, preprocessing="unit", size=SIZE).card
    rgb = np.repeat(films[..., None] / 255, 3, axis=-1).astype(np.float32)
    x = model.get_layer("stem")(rgb)
    x = model.get_layer("inner")(x) if layer != "stem" else x
    expected = np.asarray(model.get_layer("last")(x) if layer == "last" else x).mean(axis=(1, 2))
    found = cxr.embed(films, backbone=made.name)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    assert kept.map_geometry(made.name, SIZE)[0] == 2
    baseline = cxr.embed(films, backbone=made.name, weights="random:0")
    assert np.isfinite(baseline).all() and np.abs(baseline - found).max() > 1e-3
    keras.backend.clear_session()


def test_a_keras_model_lists_its_layers_and_carries_no_code(model, tmp_path):
    import keras

    model.save(tmp_path / "own.keras")
    with pytest.raises(WeightsError, match=r"last \(None, None, 12\).*stem"):
        cxr.import_weights(tmp_path / "own.keras", "own", layer="")
    image = keras.Input((8, 8, 3))
    x = keras.layers.Lambda(lambda t: t * 2)(keras.layers.Conv2D(8, 3, name="stem")(image))
    keras.Model(image, x).save(tmp_path / "lambda.keras")
    with pytest.raises(WeightsError, match="carries code"):
        cxr.import_weights(tmp_path / "lambda.keras", "own", layer="stem")
    for content in (b"", b"PK\x03\x04 cut off", b"<html>"):
        (tmp_path / "broken.keras").write_bytes(content)
        with pytest.raises(CxrfeatError, match=r"not a \.keras model"):
            cxr.import_weights(tmp_path / "broken.keras", "own", layer="stem")
    assert registry.BACKBONES.names.count("own") == 0
