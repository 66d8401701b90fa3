"""`cxrfeat gradcam`: panels, map files, resuming, and what goes wrong."""

import json

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from cxrfeat_cli.main import cli

import cxrfeat
from cxrfeat._explain.sanity import Sanity


def call(*args):
    return CliRunner().invoke(cli, ["gradcam", *map(str, args)])


@pytest.fixture
def out(tmp_path):
    return tmp_path / "maps"


def test_panels_and_maps_of_the_clearest_hits(trained, out):
    result = call("--run", trained.run.path, "--out", out, "--grid", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert 1 <= len(found["images"]) <= 4 and not found["failed"]
    for row in found["images"]:
        assert cv2.imread(row["figure"]).shape[1] > 500
        assert np.load(row["maps"])["maps"].shape == (3, 3, 3)
        assert "True positive" in row["note"]
    assert cv2.imread(found["grids"][0]) is not None


def test_a_second_go_resumes_and_other_settings_do_not(trained, out):
    images = [str(path) for path in trained.study.paths()[:3]]
    first = call(*images[:2], "--run", trained.run.path, "--out", out)
    assert first.exit_code == 0 and "2 images" in first.stderr
    stamp = (out / "film00.npz").stat().st_mtime_ns
    again = call(*images, "--run", trained.run.path, "--out", out, "--json")
    assert [row["resumed"] for row in json.loads(again.stdout)["images"]] == [True, True, False]
    assert (out / "film00.npz").stat().st_mtime_ns == stamp
    other = call(*images, "--run", trained.run.path, "--out", out, "--json", "--scale", "label")
    assert not any(row["resumed"] for row in json.loads(other.stdout)["images"])


def test_labels_are_chosen_by_name(trained, out):
    result = call("film03.png", "--run", trained.run.path, "--out", out, "--labels", "mass,Nodule", "--json")
    assert json.loads(result.stdout)["images"][0]["labels"] == ["Mass", "Nodule"]


def test_a_bad_image_exits_with_2_and_the_others_go_on(trained, out, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"x")
    result = call(tmp_path / "bad.png", "film03.png", "--run", trained.run.path, "--out", out)
    assert result.exit_code == 2
    assert "bad.png: cannot be decoded" in result.stderr and (out / "film03.png").is_file()


def test_a_label_the_head_has_not_is_told_and_the_others_are_drawn(trained, out):
    result = call("film03.png", "--run", trained.run.path, "--out", out, "--labels", "Scoliosis,Nodule", "--json")
    assert result.exit_code == 2 and "unknown label 'Scoliosis'" in result.stderr
    assert json.loads(result.stdout)["images"][0]["labels"] == ["Nodule"]


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["--labels", "Scoliosis"], "unknown label 'Scoliosis'"),
        (["--show", "tp", "--split", "holdout"], "no predictions for split 'holdout'"),
        (["--boxes", "nowhere.csv"], "no box list"),
    ],
)
def test_bad_input_is_one_sentence(trained, out, args, sentence):
    result = call("--run", trained.run.path, "--out", out, *args)
    assert result.exit_code == 2 and sentence in result.stderr and "Traceback" not in result.output


def test_the_sanity_check_gives_steps_a_verdict_and_a_figure(trained, out, monkeypatch):
    """The check itself is tested in tests/explain/test_sanity.py; here stands what the command makes of it."""
    rank = np.concatenate([np.ones((1, 4)), np.random.default_rng(0).normal(0, 0.1, (6, 4))])
    steps = ("trained", "head", "conv5", "conv4", "conv3", "conv2", "conv1")
    example = np.random.default_rng(0).normal(size=(7, 3, 3))
    canned = Sanity(steps, rank, rank, example, ("Mass", "film20.png"), 2, "gradcam", trained.run)
    monkeypatch.setattr(cxrfeat, "sanity_check", lambda *args, **kwargs: canned)
    result = call("film20.png", "film21.png", "--run", trained.run.path, "--out", out, "--sanity", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert [step["step"] for step in found["steps"]][:2] == ["trained", "head random"]
    assert found["steps"][0]["rank correlation"] == 1 and found["images"] == 2 and "depend" in found["verdict"]
    assert cv2.imread(found["figure"]) is not None
