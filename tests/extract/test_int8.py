"""int8: one network, quantised on training images, known by its hash, and run by all that have the recipe."""

import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from cxrfeat_cli.main import cli

import cxrfeat as cxr
from cxrfeat._backbones import library, open_engine, openvino_engine, quantised
from cxrfeat._explain.explainer import Explainer
from cxrfeat._explain.targets import of_study
from cxrfeat._extract import extract, make_recipe
from cxrfeat._heads import fit_head
from cxrfeat._recipe import Recipe
from cxrfeat.errors import CxrfeatError, EngineError, ImageError, RecipeError, StudyError, WeightsError

OPTIONS = {"backbone": "densenet121", "weights": "random:0", "size": 32}
INT8 = {**OPTIONS, "precision": "int8"}


@pytest.fixture(scope="module")
def home(tmp_path_factory, small_networks):
    """Where quantised networks of this module are kept; the first test makes one."""
    pytest.importorskip("nncf")
    if not openvino_engine._exact_int8():
        pytest.skip("this processor has no VNNI")
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def study(make_study, home, monkeypatch):
    monkeypatch.setenv("CXRFEAT_WEIGHTS", str(home / "weights"))
    monkeypatch.setenv("CXRFEAT_CACHE", str(home / "cache"))
    return make_study(40, size=48)


@pytest.fixture
def recipe(study):
    """The int8 recipe of the study; quantised by the first test, found by the others."""
    return make_recipe(**INT8, study=study)


def test_the_same_study_seed_and_versions_give_the_same_network(study, recipe, tmp_path, monkeypatch):
    (card,) = library.cards()
    assert recipe.network_sha256 == card.values_sha256 and card.network["images"] == 24
    monkeypatch.setenv("CXRFEAT_WEIGHTS", str(tmp_path / "elsewhere"))
    order = np.random.default_rng(0).permutation(len(study))  # of the table does not matter, and labels neither
    shuffled = dataclasses.replace(study.take(order), name="other")
    again = make_recipe(**INT8, study=shuffled, passes=2, policy="mild")
    assert again.network_sha256 == recipe.network_sha256
    assert make_recipe(**INT8, study=study, seed=1).network_sha256 != recipe.network_sha256


def test_a_network_that_is_there_is_not_made_again(study, recipe, monkeypatch):
    monkeypatch.setattr(quantised, "make", lambda *_: pytest.fail("quantised again"))
    assert make_recipe(**INT8, study=study) == recipe
    assert Recipe.from_json(recipe.to_json()) == recipe
    assert recipe.network_sha256[:8] in recipe.describe()


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
def test_maps_are_of_the_network_that_gives_the_embedding(study, tmp_path, precision):
    try:
        result = extract(study, out=tmp_path / "e.h5", **{**OPTIONS, "precision": precision})
    except EngineError as error:
        pytest.skip(str(error))
    run = fit_head(study, result.path, "logistic", out=tmp_path / "run", threshold="0.5")
    both = open_engine(result.recipe, None, "openvino", ("embedding", "map")).run(np.full((1, 32, 32), 9, np.uint8))
    alone = open_engine(result.recipe, None, "openvino").run(np.full((1, 32, 32), 9, np.uint8))[0]
    atol = 1e-6 * np.abs(alone).max() if precision == "float32" else 0
    np.testing.assert_allclose(both[0], alone, rtol=0, atol=atol)  # bits, where rounding could differ
    targets = of_study(run, "test")[:3]
    for found in Explainer(run, method="cam").explain(targets):  # with the probabilities of the cached embeddings
        np.testing.assert_allclose(found.grids[0].maps.mean(axis=(1, 2)), found.logits, rtol=0, atol=1e-3)
    if precision != "float32":
        with pytest.raises(CxrfeatError, match="gradients are computed in float32"):
            Explainer(run, method="gradcam")


def test_the_price_is_under_the_gate_and_is_on_the_card(study, recipe):
    exact = make_recipe(**OPTIONS)
    images = study.split("test").paths()
    found, expected = (cxr.embed(images, one) for one in (recipe, exact))
    (card,) = (card for card in library.cards() if card.values_sha256 == recipe.network_sha256)
    assert 0 < quantised.difference(found, expected)[0] < quantised.BOUND
    assert 0 < card.network["median"] < quantised.BOUND <= 0.15
    files = [extract(study, one, out=study.root / f"{one.precision}.h5").path for one in (recipe, exact)]
    run = fit_head(study, files[0], "logistic", out=study.root / "run", threshold="0.5")
    with pytest.raises(RecipeError, match="precision: 'int8' against 'float32'"):
        cxr.predict(run, study, embeddings=files[1])


def test_a_gate_that_says_no_names_the_figures_and_keeps_nothing(study, tmp_path, monkeypatch):
    monkeypatch.setenv("CXRFEAT_WEIGHTS", str(tmp_path / "elsewhere"))
    monkeypatch.setattr(quantised, "BOUND", 1e-6)
    with pytest.raises(EngineError, match=r"(?s)int8 is refused.*more than 1e-06.*median 0\.0.* 1 of 3 layers left"):
        make_recipe(**INT8, study=study)
    assert not list(library.cards())


def test_layers_that_hurt_are_kept_back(study, recipe, tmp_path, monkeypatch):
    (card,) = (card for card in library.cards() if card.values_sha256 == recipe.network_sha256)
    monkeypatch.setenv("CXRFEAT_WEIGHTS", str(tmp_path / "elsewhere"))
    monkeypatch.setattr(quantised, "BOUND", 0.9 * card.network["median"])
    other = make_recipe(**INT8, study=study)
    (better,) = library.cards()
    assert other != recipe and len(better.network["float32"]) == 1
    assert better.network["median"] < card.network["median"]


def test_other_images_take_the_network_by_its_name(study, recipe):
    (card,) = (card for card in library.cards() if card.values_sha256 == recipe.network_sha256)
    assert make_recipe(weights=card.name) == recipe
    assert make_recipe(weights=card.name, passes=2, size=32, precision="int8").pass0 == recipe
    for wrong in ({"size": 64}, {"precision": "bfloat16"}, {"geometry": "crop"}, {"backbone": "resnet50"}):
        with pytest.raises(RecipeError, match="was quantised with"):
            make_recipe(weights=card.name, **wrong)
    np.testing.assert_array_equal(cxr.embed(study.paths()[:2], weights=card.name), cxr.embed(study.paths()[:2], recipe))


def test_a_pack_carries_it_to_another_machine_and_without_it_both_ways_on_are_named(
    study, recipe, tmp_path, monkeypatch
):
    (name,) = (card.name for card in library.cards() if card.values_sha256 == recipe.network_sha256)
    before = cxr.embed(study.paths()[:3], recipe)
    cxr.weights.pack(tmp_path / "network.zip", [name])
    monkeypatch.setenv("CXRFEAT_WEIGHTS", str(tmp_path / "b" / "weights"))
    monkeypatch.setenv("CXRFEAT_CACHE", str(tmp_path / "b" / "cache"))
    with pytest.raises(WeightsError, match=rf"{name}.*weights pack.*weights unpack.*precision=int8"):
        cxr.embed(study.paths()[:3], recipe)
    cxr.weights.unpack(tmp_path / "network.zip")
    np.testing.assert_array_equal(cxr.embed(study.paths()[:3], recipe), before)
    assert cxr.weights.verify([name])["state"].tolist() == ["ok"]
    assert cxr.weights.where(name).is_dir()
    cxr.weights.remove(name)
    assert not list((tmp_path / "b" / "cache" / "engines").glob("[!.]*"))
    with pytest.raises(WeightsError, match="not on this machine"):
        cxr.embed(study.paths()[:3], recipe)


@pytest.mark.parametrize("ending", [".xml", ".bin", ".npz"])
def test_a_network_that_was_changed_is_not_run_and_nothing_is_written(study, recipe, ending, tmp_path, monkeypatch):
    shutil.copytree(library.folder(), tmp_path / "copy")
    monkeypatch.setenv("CXRFEAT_WEIGHTS", str(tmp_path / "copy"))
    (card,) = (card for card in library.cards() if card.values_sha256 == recipe.network_sha256)
    (path,) = card.path.glob(f"*{ending}")
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(WeightsError, match=f"was changed: the quantised network {card.name} is not used"):
        extract(study, recipe, out=tmp_path / "e.h5")
    saved = study.save(tmp_path / "s.csv")
    words = ["extract", str(saved), "-w", card.name, "-o", str(tmp_path / "e.h5")]
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 2 and "was changed" in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.glob("e.h5*"))
    assert cxr.weights.verify([card.name])["state"].tolist() == ["damaged"]


def test_bad_input_is_said_in_a_sentence(study, make_study, tmp_path, monkeypatch):
    with pytest.raises(RecipeError, match="give the `study`"):
        cxr.embed(study.paths()[0], **INT8)
    with pytest.raises(RecipeError, match="lacks the hash"):
        dataclasses.replace(make_recipe(**OPTIONS), precision="int8")
    with pytest.raises(StudyError, match="no split `train`"):
        make_recipe(**INT8, study=study.split("test"))
    with pytest.raises(ImageError, match="at least 8 training images"):
        make_recipe(**INT8, study=study.take(range(6)))
    with pytest.raises(EngineError, match="Keras does not compute in int8"):
        extract(study, out=tmp_path / "e.h5", engine="keras", **INT8)
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(EngineError, match=r"cxrfeat\[int8\]"):
        make_recipe(**INT8, study=study, seed=5)
    saved = study.split("test").save(tmp_path / "s.csv")
    done = CliRunner().invoke(cli, ["extract", str(saved), "--precision", "int8", "-w", "random:0", "--size", "32"])
    assert done.exit_code == 2 and "--precision" in done.stderr and "Traceback" not in done.stderr


def test_a_processor_whose_sums_of_products_overflow_is_refused():
    """Without VNNI, pairs of products saturate at 16 bits: other values. oneDNN is told not to use it."""
    code = (
        "from cxrfeat._backbones import openvino_engine as e\n"
        "try: e._check('int8')\n"
        "except Exception as error: print(error)"
    )
    env = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert "no AVX512_VNNI or AVX_VNNI, which int8 needs" in done.stdout
