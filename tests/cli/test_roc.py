"""`cxrfeat roc` as it is typed."""

import json

import pandas as pd
import pytest
from click.testing import CliRunner
from cxrfeat_cli.main import cli


def call(*args):
    return CliRunner().invoke(cli, ["roc", *map(str, args)])


def test_it_draws_the_curves_and_prints_the_aurocs(make_run):
    run = make_run("a", weights="random:0")
    result = call("--run", run, "--bootstrap", 50)
    assert result.exit_code == 0, result.output
    assert "RANDOM WEIGHTS: NOT A RESULT" in result.stdout and "macro over 13" in result.stdout
    figures = run / "figures"
    assert {f.name for f in figures.iterdir()} == {"roc.png", "roc.svg", "roc.csv"}
    points = pd.read_csv(figures / "roc.csv")
    assert points["label"].nunique() == 13 and set(points) == {"label", "fpr", "tpr", "threshold"}
    svg = (figures / "roc.svg").read_text()
    assert "random weights: not a result" in svg and "macro AUROC" in svg


def test_json_is_alone_on_stdout(make_run):
    result = call(
        "--run", make_run("a"), "--bootstrap", 0, "--json", "--label", "effusion", "--label", "Pleural thickening"
    )
    found = json.loads(result.stdout)
    assert [row["label"] for row in found["labels"][:2]] == ["Effusion", "Pleural_Thickening"]
    assert found["random_weights"] is False and found["split"] == "test"


@pytest.mark.parametrize("args", [("--split", "train"), ("--split", "nowhere"), ("--label", "Scoliosis")])
def test_bad_input_is_a_sentence_and_exit_2(make_run, args):
    result = call("--run", make_run("a"), *args)
    assert result.exit_code == 2 and result.stderr.startswith("error: ") and "Traceback" not in result.stderr


def test_the_points_replace_no_table_of_that_name(make_run, tmp_path):
    run = make_run("a")
    (tmp_path / "ward.csv").write_text("image_id,path,patient_id,split\n")
    result = call("--run", run, "--out", tmp_path / "ward.png")
    assert result.exit_code == 2 and "ward.csv exists and is a file of another kind" in result.stderr
    assert [p.name for p in tmp_path.glob("ward*")] == ["ward.csv"]
    own = ("--run", run, "--bootstrap", 0, "--label", "mass", "--out", tmp_path / "own.pdf")
    for _ in range(2):
        assert call(*own).exit_code == 0
    (tmp_path / "own.pdf").write_text("my thesis")
    assert call(*own).exit_code == 2
