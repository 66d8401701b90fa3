"""`cxrfeat weights import`: a checkpoint's weights by name and its classifier as a run, or a sentence and nothing."""

import json

import pytest
from click.testing import CliRunner
from cxrfeat_cli.main import cli

from cxrfeat._backbones import library
from cxrfeat._backbones.checkpoints import architectures, convert
from cxrfeat._run import Run


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("CXRFEAT_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.chdir(tmp_path)
    small = convert.Architecture(lambda channels: architectures.densenet121(channels, (1,)), 1.001e-5)
    monkeypatch.setitem(convert.ARCHITECTURES, "densenet121", small)


@pytest.fixture
def best(tmp_path, checkpoints):
    return checkpoints.save_module(tmp_path / "best.pt", checkpoints.state_dict("densenet121", 1, 18))


def run(*words, code=0):
    done = CliRunner().invoke(cli, ["weights", "import", *map(str, words)])
    assert done.exit_code == code, done.output
    return done


def test_the_weights_get_a_name_and_the_classifier_a_run(best):
    done = run(best, "--as", "mine", "--layout", "xrv-nih", "--with-head", "--json")
    found = json.loads(done.stdout)
    assert (found["name"], found["backbone"], found["run"]) == ("mine", "densenet121", "runs/mine")
    opened = Run.open("runs/mine")
    assert (opened.kind, len(opened.labels), opened.labels[0]) == ("imported", 14, "Atelectasis")
    assert opened.recipes[0].weights == "mine"
    assert run(best, "--as", "bare", "--layout", "xrv-pc").stdout.strip() == str(library.folder() / "bare")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--as", "mine"], "Name its --layout: xrv-all, xrv-nih"),
        (["--as", "a.pt", "--layout", "xrv-nih"], "cannot be the name of weights"),
        (["--as", "x", "--layout", "xrv-nih", "--label", "Mass", "--with-head"], "--label names 1. Give --label, one"),
        (["--as", "x", "--layout", "chexnet-weng"], "which has 3 input channels and not 1"),
    ],
)
def test_what_is_wrong_is_a_sentence_in_the_words_of_the_command(best, words, said):
    done = run(best, *words, code=2)
    assert said in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert not library.folder().exists()


def test_labels_of_one_s_own_name_the_outputs(tmp_path, checkpoints):
    path = checkpoints.save_state(tmp_path / "own.pt", checkpoints.state_dict(outputs=3))
    words = ["--as", "own", "--layout", "torchvision-densenet121", "--with-head"]
    assert "outputs, and the layout" in run(path, *words, code=2).stderr.replace("\n", " ")
    run(path, *words, "--label", "Mass", "--label", "-", "--label", "Edema")
    assert Run.open("runs/own").labels == ("Mass", "Edema")


def test_a_taken_run_stops_the_import_before_anything_is_kept(tmp_path, best):
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    assert "exists already" in run(best, "--as", "mine", "--layout", "xrv-nih", "--with-head", code=2).stderr
    assert not library.folder().exists()
