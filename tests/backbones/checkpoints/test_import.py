"""Checkpoints become the weights of a backbone: whole or not at all, known by their values, exact to the original."""

import dataclasses
import json
from functools import partial

import h5py
import numpy as np
import pytest
import safetensors.numpy

import cxrfeat as cxr
from cxrfeat._backbones import library
from cxrfeat._backbones.checkpoints import convert, keras_file
from cxrfeat._backbones.checkpoints.importing import import_file
from cxrfeat._backbones.checkpoints.layouts import LAYOUTS
from cxrfeat._backbones.weights import weights_for
from cxrfeat.errors import CxrfeatError, OutputError, RecipeError, WeightsError

XRV = "{}-densenet121-d121-tw-lr001-rot45-tr15-sc15-seed0-best.pt"


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("CXRFEAT_WEIGHTS", str(tmp_path / "weights"))
    return tmp_path / "weights"


@pytest.fixture(scope="module", autouse=True)
def shallow():
    """The networks with one or two layers a block: nothing here runs them, and writing the whole ones takes long."""
    with pytest.MonkeyPatch.context() as patch:
        for name, option in {"densenet121": {"blocks": (2, 1)}, "resnet50": {"stages": (2,)}}.items():
            for backbone in [backbone for backbone in convert.ARCHITECTURES if backbone.startswith(name)]:
                whole = convert.ARCHITECTURES[backbone]
                patch.setitem(
                    convert.ARCHITECTURES, backbone, dataclasses.replace(whole, layers=partial(whole.layers, **option))
                )
        yield


@pytest.fixture(scope="module")
def states(checkpoints, shallow):
    return {
        "three": checkpoints.state_dict(),
        "one": checkpoints.state_dict("densenet121", 1, 18),
        "resnet": checkpoints.state_dict("resnet50-v1.5", 3, 1000, "fc"),
    }


def renamed(state, prefix, top="classifier.0"):
    """As the re-implementations of CheXNet have it."""
    return {f"{prefix}{name.replace('classifier', top)}": values for name, values in state.items()}


def test_every_container_of_the_same_weights_gives_the_same_recipe(tmp_path, checkpoints, states):
    state = states["one"]
    checkpoints.save_module(tmp_path / XRV.format("nih"), state)
    checkpoints.save_state(tmp_path / "state.pt", state)
    weng = {f"module.{name}": values for name, values in state.items()}
    old = {name.replace(".norm1", ".norm.1").replace(".conv2", ".conv.2"): values for name, values in weng.items()}
    checkpoints.save_state(tmp_path / "training.pth.tar", old, True, lambda found: {"epoch": 1, "state_dict": found})
    safetensors.numpy.save_file(
        {name: np.asarray(values) for name, values in state.items()}, tmp_path / "a.safetensors"
    )
    cards = [
        import_file(tmp_path / name, f"w{i}", "xrv-nih")
        for i, name in enumerate((XRV.format("nih"), "state.pt", "training.pth.tar", "a.safetensors"))
    ]
    assert len({card.values_sha256 for card in cards}) == 1
    assert len({card.source_sha256 for card in cards}) == 4
    recipes = [cxr.make_recipe(weights=card.name) for card in cards]
    assert len({recipe.weights for recipe in recipes}) == 4
    assert len({recipe.sha256 for recipe in recipes}) == 1
    assert recipes[0] == recipes[3]
    assert recipes[0].difference(recipes[3]) == ""


@pytest.mark.parametrize("release", ["nih", "pc", "chex", "kaggle", "mimic_nb", "mimic_ch"])
def test_a_release_of_torchxrayvision_is_known_by_its_file_name(tmp_path, checkpoints, states, release):
    card = import_file(checkpoints.save_module(tmp_path / XRV.format(release), states["one"]), "x")
    assert card.layout == f"xrv-{ {'kaggle': 'rsna'}.get(release, release) }"
    assert (card.backbone, card.channels, len(card.labels)) == ("densenet121", 1, 18)
    recipe = cxr.make_recipe(weights="x")
    assert (recipe.preprocessing, recipe.size, recipe.geometry, recipe.resize) == ("xrv", 224, "crop", 0)
    assert recipe.interpolation == "skimage"
    for label, point in zip(card.labels, card.op_threshs, strict=True):
        assert (label == "") == (point is None)


def test_the_layout_is_asked_for_where_a_file_does_not_say_it(tmp_path, checkpoints, states):
    path = checkpoints.save_module(tmp_path / "best.pt", states["one"])
    with pytest.raises(WeightsError, match=r"1 input channels and 18 outputs.*Name its `layout`: xrv-all, xrv-nih"):
        import_file(path, "x")
    assert import_file(path, "x", "xrv-pc").trained_on == "PadChest"
    with pytest.raises(WeightsError, match="is not of the layout chexnet-weng, which has 3 input channels and not 1"):
        import_file(path, "x", "chexnet-weng")
    with pytest.raises(WeightsError, match="unknown layout 'xrv'; choose one of torchvision-densenet121"):
        import_file(path, "x", "xrv")


def test_the_re_implementations_of_chexnet_are_told_apart(tmp_path, checkpoints, states):
    weng = renamed(states["three"], "module.densenet121.")
    path = checkpoints.save_state(tmp_path / "model.pth.tar", weng, True, lambda found: {"state_dict": found})
    card = import_file(path, "weng")
    assert (card.layout, card.labels[7]) == ("chexnet-weng", "Pneumothorax")
    recipe = cxr.make_recipe(weights="weng")
    assert (recipe.resize, recipe.geometry, recipe.interpolation) == (256, "crop", "pillow-bilinear")
    assert cxr.make_recipe(weights="weng", size=448).resize == 512
    zech = checkpoints.save_module(tmp_path / "checkpoint", renamed(states["three"], ""), "torchvision.models.DenseNet")
    assert import_file(zech, "zech").layout == "chexnet-zech"
    assert cxr.make_recipe(weights="zech").resize == 224
    plain = checkpoints.save_state(tmp_path / "plain.pt", states["three"])
    with pytest.raises(WeightsError, match="Name its `layout`: chexnet-weng, chexnet-zech"):
        import_file(plain, "plain")


def keras_names(arrays, slash):
    """Names of Keras's legacy files: `conv1/conv` until 2018, `conv1_conv` since."""
    for name, values in arrays.items():
        layer, _, variable = name.partition("/")
        old = layer.replace("conv1_", "conv1/") if layer.startswith("conv1_") and slash else layer
        yield f"{old}/{old}/{variable}:0", values


def test_keras_files_are_read_by_the_names_of_all_years(tmp_path, states, checkpoints):
    state = checkpoints.save_state(tmp_path / "a.pt", states["three"])
    card = import_file(state, "torch", "chexnet-weng")
    arrays, top = library.arrays(card), library.arrays(card, classifier=True)
    top = {f"predictions/{name}": values for name, values in top.items()}
    with h5py.File(tmp_path / "old.h5", "w") as file:
        for name, values in keras_names({**arrays, **top}, slash=True):
            file[name] = values
    with h5py.File(tmp_path / "whole.h5", "w") as file:
        for name, values in keras_names({**arrays, **top}, slash=False):
            file[f"model_weights/{name}"] = values
    with h5py.File(tmp_path / "new.weights.h5", "w") as file:
        for number, layer in enumerate(dict.fromkeys(name.partition("/")[0] for name in {**arrays, **top})):
            found = {name: v for name, v in {**arrays, **top}.items() if name.partition("/")[0] == layer}
            kind = "batch_normalization" if len(found) == 4 else "dense" if layer == "predictions" else "conv2d"
            group = file.create_group(f"layers/{kind}_{number}")
            group.create_group("vars").attrs["name"] = layer
            for place, part in enumerate(keras_file._VARIABLES[kind][: len(found)]):
                group[f"vars/{place}"] = found[f"{layer}/{part}"]
    for number, name in enumerate(("old.h5", "whole.h5", "new.weights.h5")):
        found = import_file(tmp_path / name, f"k{number}")
        assert (found.layout, found.values_sha256) == ("chexnet-keras", card.values_sha256)
        assert len(found.labels) == 14
        read = library.arrays(found, classifier=True)
        np.testing.assert_array_equal(read["kernel"], top["predictions/kernel"])


def test_the_epsilon_is_reconciled_exactly(tmp_path, checkpoints, states):
    """gamma / sqrt(variance + epsilon) is what a normalisation computes; it must not move, dead channels included."""
    card = import_file(checkpoints.save_state(tmp_path / "a.pt", states["three"]), "x", "chexnet-weng")
    arrays = library.arrays(card)
    for layer in convert.ARCHITECTURES["densenet121"].layers(3):
        if layer.normalises:
            before = {
                part: states["three"][f"{layer.torch}.{part}"].astype(float) for part in ("weight", "running_var")
            }
            gamma, variance = (arrays[f"{layer.name}/{p}"].astype(float) for p in ("gamma", "moving_variance"))
            assert (variance >= 0).all()
            np.testing.assert_allclose(
                gamma / np.sqrt(variance + 1.001e-5),
                before["weight"] / np.sqrt(before["running_var"] + 1e-5),
                rtol=3e-7,
            )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.pop("features.norm5.weight"), "1 tensors are missing, the first is features.norm5.weight"),
        (lambda s: s.update({"aux.weight": np.ones(2)}), "1 tensors are not of this network, the first is aux.weight"),
        (
            lambda s: s.update({"features.denseblock3.denselayer25.norm1.weight": np.ones(2, np.float32)}),
            "denselayer25",
        ),
        (
            lambda s: s.update({"features.norm0.bias": np.ones(65, np.float32)}),
            r"features.norm0.bias has the shape \(65,\), expected is \(64,\)",
        ),
        (
            lambda s: s.update({"classifier.weight": np.ones((14, 512), np.float32)}),
            r"its classifier has the shapes \(512, 14\)",
        ),
        (lambda s: s["features.norm0.bias"].__setitem__(0, np.nan), "values that are not finite"),
        (lambda s: s["features.norm0.running_var"].__setitem__(0, -1), "negative"),
    ],
)
def test_what_does_not_fit_is_refused_whole(tmp_path, checkpoints, states, place, change, said):
    state = {name: np.array(values) for name, values in states["three"].items()}
    change(state)
    path = checkpoints.save_state(tmp_path / "a.pt", state)
    with pytest.raises(WeightsError, match=said) as caught:
        import_file(path, "x", "chexnet-weng")
    assert str(caught.value).count("\n") == 0
    assert not place.exists()


def test_a_network_that_is_not_known_says_what_was_found(tmp_path, checkpoints):
    path = checkpoints.save_state(tmp_path / "vgg.pt", {"features.0.weight": np.zeros((64, 3, 3, 3), np.float32)})
    with pytest.raises(WeightsError, match=r"not known: .* found are 1 tensors, the first are features.0.weight"):
        import_file(path, "x")


def test_imported_weights_bring_their_backbone_and_options(tmp_path, checkpoints, states):
    import_file(checkpoints.save_state(tmp_path / "a.pt", states["resnet"]), "rn", "torchvision-resnet50")
    recipe = cxr.make_recipe(weights="rn")
    assert (recipe.backbone, recipe.weights, recipe.weights_by) == ("resnet50-v1.5", "rn", "values")
    assert cxr.make_recipe("resnet50-v1.5", weights="rn", geometry="stretch", interpolation="area").resize == 0
    assert cxr.Recipe.from_json(recipe.to_json()) == recipe
    with pytest.raises(RecipeError, match=r"are of resnet50-v1.5, not of resnet50"):
        cxr.make_recipe("resnet50", weights="rn")
    with pytest.raises(RecipeError, match="`preprocessing` 'xrv' does not fit"):
        cxr.make_recipe(weights="rn", preprocessing="xrv")


def test_a_recipe_finds_its_weights_by_their_values_under_any_name(tmp_path, checkpoints, states):
    path = checkpoints.save_state(tmp_path / "a.pt", states["three"])
    import_file(path, "first", "chexnet-weng")
    recipe = cxr.make_recipe(weights="first")
    import_file(path, "second", "chexnet-zech")
    assert weights_for(recipe).name == "first"
    library.remove("first")
    assert weights_for(recipe).name == "second"
    library.remove("second")
    with pytest.raises(
        WeightsError, match=r"the weights 'first' of densenet121 are not on this machine .* Import them"
    ):
        weights_for(recipe)


def test_a_recipe_of_a_file_opens_with_its_file_and_with_what_was_imported_of_it(tmp_path, checkpoints, states):
    state = checkpoints.save_state(tmp_path / "a.pt", states["three"])
    arrays = library.arrays(import_file(state, "torch", "chexnet-weng"))
    with h5py.File(tmp_path / "notop.h5", "w") as file:
        for name, values in keras_names(arrays, slash=False):
            file[name] = values
    recipe = cxr.make_recipe("densenet121", weights=str(tmp_path / "notop.h5"))
    assert (recipe.weights, recipe.weights_by) == ("notop.h5", "file")
    assert "version" not in json.loads(recipe.to_json())  # a recipe of an earlier release
    import_file(tmp_path / "notop.h5", "mine")
    assert weights_for(recipe, str(tmp_path / "notop.h5")).path == tmp_path / "notop.h5"
    assert weights_for(recipe, "mine").name == "mine"
    with pytest.raises(RecipeError, match="Name the right file"):
        weights_for(recipe, "torch")


def test_a_checkpoint_given_as_weights_is_to_be_imported_first(tmp_path):
    (tmp_path / "best.pth").write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"is not a file of Keras's\. Import it first, .* --as NAME"):
        cxr.make_recipe("densenet121", weights=str(tmp_path / "best.pth"))


def test_a_name_that_is_taken_or_unfit_is_refused_before_anything_is_kept(tmp_path, checkpoints, states):
    path = checkpoints.save_state(tmp_path / "a.pt", states["three"])
    with pytest.raises(WeightsError, match="cannot be the name"):
        import_file(path, "a.pt", "chexnet-weng")
    import_file(path, "x", "chexnet-weng")
    import_file(path, "x", "chexnet-zech")  # the same values: another card
    other = checkpoints.save_state(tmp_path / "b.pt", states["resnet"])
    with pytest.raises(OutputError, match="taken by other weights"):
        import_file(other, "x", "torchvision-resnet50")
    assert import_file(other, "x", "torchvision-resnet50", overwrite=True).backbone == "resnet50-v1.5"


def test_every_layout_names_what_exists():
    for layout in LAYOUTS.values():
        assert layout.backbone in convert.ARCHITECTURES
        spec = library.spec_of(library.Card("x", layout.backbone, "", options=layout.options))
        assert dataclasses.is_dataclass(spec)
        assert spec.takes(layout.options.get("preprocessing", spec.preprocessing))
        assert len(layout.op_threshs) in (0, len(layout.labels))
        assert not layout.labels or len(layout.labels) in layout.outputs


def test_errors_are_of_our_kind():
    assert issubclass(WeightsError, CxrfeatError)
