"""`cxrfeat evaluate` as it is typed."""

import json

import pandas as pd
import pytest
from click.testing import CliRunner
from cxrfeat_cli.main import cli


def call(*args):
    return CliRunner().invoke(cli, ["evaluate", *map(str, args)])


def test_it_prints_the_table_and_leaves_metrics_and_figures(make_run):
    run = make_run("a", weights="random:0")
    (run / "history.csv").write_text("epoch,loss,val_loss\n1,0.9,0.95\n2,0.6,0.7\n")
    result = call("--run", run, "--bootstrap", 50)
    assert result.exit_code == 0, result.output
    for part in ("RANDOM WEIGHTS: NOT A RESULT", "macro over 13", "view AP", "always-negative baseline"):
        assert part in result.stdout
    assert "warning: no image is positive for Hernia" in result.stderr
    assert json.loads((run / "metrics.json").read_text())["intervals"]["bootstrap_replicates"] == 50
    stems = {"labels", "roc", "precision_recall", "calibration", "thresholds", "confusion", "loss"}
    written = {file.name: file.stat().st_size for file in (run / "figures").iterdir()}
    assert set(written) == {f"{stem}.{kind}" for stem in stems for kind in ("png", "svg", "csv")}
    assert written["roc.png"] > 10_000


@pytest.mark.parametrize("kind", ["csv", "json", "latex", "markdown"])
def test_formats_are_alone_on_stdout(make_run, kind):
    args = ("--run", make_run("a"), "--bootstrap", 0, "--no-figures", "--by", "sex", "--by", "age")
    result = call(*args, "--format", kind)
    assert result.exit_code == 0 and "written:" not in result.stdout
    start = {"csv": "group,label", "json": "{", "latex": r"\begin{table}", "markdown": "Metrics per label"}[kind]
    assert result.stdout.startswith(start)


def test_json_is_the_same_as_format_json(make_run):
    run = make_run("a")
    args = ("--run", run, "--bootstrap", 0, "--no-figures")
    assert call(*args, "--json").stdout == call(*args, "--format", "json").stdout == (run / "metrics.json").read_text()


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (("--split", "train"), "was fitted on split 'train'"),
        (("--split", "val"), "chosen on split 'val'"),
        (("--split", "none"), "no images in split 'none'"),
        (("--by", "scanner"), "no column 'scanner'"),
    ],
)
def test_bad_input_is_a_sentence_and_exit_2(make_run, args, sentence):
    result = call("--run", make_run("a"), *args)
    assert result.exit_code == 2 and sentence in result.stderr and result.stdout == ""


def test_probabilities_outside_the_unit_interval_are_refused(make_run):
    run = make_run("a")
    table = pd.read_csv(run / "predictions.csv")
    table["Mass"] *= 9
    table.to_csv(run / "predictions.csv", index=False)
    result = call("--run", run)
    assert result.exit_code == 2 and "not probabilities in [0, 1]" in result.stderr
