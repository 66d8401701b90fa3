"""`cxrfeat predict` for studies and for single images."""

import json

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from cxrfeat_cli.main import cli

from cxrfeat import _sample as sample
from cxrfeat._heads import fit_head
from cxrfeat._recipe import Recipe
from cxrfeat._store import Writer


def call(*args):
    return CliRunner().invoke(cli, ["predict", *map(str, args)])


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("predict")
    study, rng = sample.study(), np.random.default_rng(0)
    x = np.abs(rng.standard_normal((1, len(study), 16))).astype(np.float32)
    for name, size in (("e", 224), ("other", 320)):
        recipe = Recipe("densenet121", "random:0", "0" * 64, "relu", "torch", size)
        with Writer.open(folder / f"{name}.h5", recipe, 16, {}) as writer:
            writer.append(study.ids.tolist(), np.zeros((len(study), 32), np.uint8), x)
            writer.publish(study.ids.tolist())
    fit_head(study, folder / "e.h5", out=folder / "run", weighting="paper")
    return folder


def test_the_runs_own_study_gives_the_predictions_it_has(workspace):
    before = (workspace / "run" / "predictions.csv").read_bytes()
    (workspace / "run" / "predictions.csv").unlink()
    result = call("--run", workspace / "run", "--embeddings", workspace / "e.h5")
    assert result.exit_code == 0, result.output
    assert (workspace / "run" / "predictions.csv").read_bytes() == before
    assert "RANDOM" in result.stderr


def test_another_study_goes_to_a_file_of_its_own(workspace, tmp_path):
    part = sample.study().split("test")
    part.save(tmp_path / "part.csv")
    args = ("--run", workspace / "run", "--study", tmp_path / "part.csv", "--embeddings", workspace / "e.h5")
    result = call(*args, "--json")
    assert json.loads(result.stdout)["images"] == 57
    assert len(pd.read_csv(workspace / "run" / "predictions-part.csv")) == 57


def test_single_images_are_predicted_as_they_were_within_their_study(trained, tmp_path):
    """The network is run again, from the image file on; what the embedding file gave is the independent answer."""
    films = trained.study.paths()[:2]
    result = call(*films, "--run", trained.run.path, "--out", tmp_path / "two.csv", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)["predictions"]
    expected = trained.run.predictions().loc[[path.name for path in films]]
    assert [row["image"] for row in found[::3]] == [str(path) for path in films]
    assert [row["probability"] for row in found] == pytest.approx(expected.to_numpy().ravel().tolist(), abs=1e-5)
    called = [row["probability"] >= trained.run.thresholds[row["label"]] for row in found]
    assert [row["called"] for row in found] == called
    written = pd.read_csv(tmp_path / "two.csv")
    assert list(written.columns) == ["image", "label", "probability", "threshold", "called"]
    np.testing.assert_allclose(written["probability"], expected.to_numpy().ravel(), atol=1e-5)


def test_another_recipe_is_a_sentence_and_exit_2(workspace):
    result = call("--run", workspace / "run", "--embeddings", workspace / "other.h5")
    assert result.exit_code == 2
    assert "size: 224 against 320" in result.stderr


def test_no_run_is_a_sentence_and_exit_2(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = call()
    assert result.exit_code == 2
    assert "fit-head" in result.stderr
