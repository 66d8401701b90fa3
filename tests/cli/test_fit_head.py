"""`cxrfeat fit-head` as it is typed, and as a process that must not wait for TensorFlow."""

import json
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from cxrfeat_cli.main import cli

from cxrfeat import _sample as sample
from cxrfeat._recipe import Recipe
from cxrfeat._run import Run
from cxrfeat._store import Writer


def call(*args):
    return CliRunner().invoke(cli, ["fit-head", *map(str, args)])


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """A folder with an embedding file of the embedded sample under `cache/`."""
    study, rng = sample.study(), np.random.default_rng(0)
    recipe = Recipe("densenet121", "random:0", "0" * 64, "relu", "torch", 224)
    x = np.abs(rng.standard_normal((1, len(study), 32))).astype(np.float32)
    (tmp_path / "cache").mkdir()
    with Writer.open(tmp_path / "cache" / "sample-densenet121-0.h5", recipe, 32, {}) as writer:
        writer.append(study.ids.tolist(), np.zeros((len(study), 32), np.uint8), x)
        writer.publish(study.ids.tolist())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_it_shows_the_weights_and_names_the_run_by_what_it_is(workspace):
    result = call("--study", "sample", "--weighted")
    assert result.exit_code == 0, result.output
    assert "Class weights: paper" in result.stdout
    assert "RANDOM backbone weights" in result.stderr
    assert "the study's own val split" in result.stderr
    assert Run.open("runs/sample-densenet121-logistic-weighted").kind == "logistic"
    assert call("--study", "sample", "--weighted").exit_code == 0
    assert Run.open("runs/sample-densenet121-logistic-weighted-2").labels == sample.study().labels


def test_json_is_alone_on_stdout(workspace):
    result = call("--study", "sample", "--json", "--labels", "Mass,Edema", "--set", "C=0.01")
    info = json.loads(result.stdout)
    assert info["labels"] == ["Mass", "Edema"]
    assert info["notes"]["C"] == 0.01
    assert "created" in info


def test_search_prints_what_it_tried(workspace):
    result = call("--study", "sample", "--grid", "C=0.001,0.1")
    assert result.exit_code == 0, result.output
    assert "Cross-validation on train" in result.stdout


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (("--head", "forest"), "unknown head 'forest'"),
        (("--head", "knn", "--weighted"), "takes no sample weights"),
        (("--set", "C"), "not of the form key=value"),
        (("--threshold", "best"), "not a threshold rule"),
        (("--set", "C=-1"), "must be above 0 and finite, not -1.0"),
        (("--set", "C=inf"), "must be above 0 and finite, not inf"),
        (("--set", "C=1e999"), "must be above 0 and finite, not inf"),
        (("--set", "C=nan"), "must be above 0 and finite"),
        (("--set", "tol=0"), "must be above 0 and finite"),
        (("--set", "steps=0"), "must be at least 1"),
        (("--set", "hidden=-1", "--head", "keras"), "must be numbers from 1 to 65536"),
        (("--set", "learning_rate=-1", "--head", "keras"), "must be above 0 and finite"),
        (("--set", "n_neighbors=0", "--head", "knn"), "could not be fitted"),
        (("--grid", "C=x"), "is like 1.0, not 'x'"),
        (("--grid", "C=-1,1"), "must be above 0 and finite"),
        (("--grid", "D=1"), "has no setting 'D'"),
        (("--seed", "-1"), "-1 is not in the range 0<=x"),
        (("--memory", "nan"), "is not a size"),
        (("--memory", "-1GB"), "is not a size"),
        (("--head", "../../etc:passwd"), "unknown head"),
        (("--head", "os.path:join"), "not a scikit-learn classifier"),
        (("--head", "ensemble"), "unknown head"),
        (("--out", "."), "has no name of its own"),
        (("--memory", "lots"), "is not a size"),
        (("--labels", "Scoliosis"), "unknown label 'Scoliosis'"),
        (("--embeddings", "nowhere.h5"), "nowhere.h5"),
        (("--head", "logistic", "--resume", "--out", "r"), "writes no checkpoints"),
        (
            ("--head", "svm", "--memory", "1KB"),
            "more than --memory (1e-06 GB), and this head needs all of them in memory",
        ),
        (("--head", "svm", "--ray"), "a svm head is fitted on one machine; leave --ray out"),
        (("--ray", "127.0.0.1:1"), "no Ray cluster answers at 127.0.0.1:1"),
    ],
)
def test_bad_input_is_a_sentence_and_exit_2(workspace, args, sentence):
    result = call("--study", "sample", *args)
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert "Traceback" not in result.output


def test_presets_and_weightings_that_contradict_are_refused(workspace):
    assert call("--study", "sample", "--weighted", "--weighting", "balanced").exit_code == 2
    assert call("--study", "sample", "--preset", "paper", "--head", "knn").exit_code == 2


def test_a_logistic_head_imports_neither_tensorflow_nor_scikit_learn(workspace):
    code = (
        "import sys; from cxrfeat_cli.main import cli\n"
        "cli(['fit-head', '--study', 'sample', '--weighted', '--json'], standalone_mode=False)\n"
        "heavy = {'tensorflow', 'keras', 'sklearn', 'matplotlib', 'scipy'} & set(sys.modules)\n"
        "print(sorted(heavy), file=sys.stderr); sys.exit(bool(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
