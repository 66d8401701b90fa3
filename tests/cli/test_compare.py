"""`cxrfeat compare` as it is typed."""

import json

import pandas as pd
import pytest
from click.testing import CliRunner
from cxrfeat_cli.main import cli


def call(*args):
    return CliRunner().invoke(cli, ["compare", "--bootstrap", "64", *map(str, args)])


def test_it_prints_rows_and_a_conclusion_and_draws_a_forest_plot(make_run, tmp_path):
    a, b = make_run("a"), make_run("b", strength=1.5, weights="random:0")
    result = call(a, b)
    assert result.exit_code == 0, result.output
    assert "RANDOM WEIGHTS: NOT A RESULT" in result.stdout and "Random weights (b): not a result" in result.stdout
    assert "after Holm's correction over 13 tests" in result.stdout
    table = pd.read_csv(tmp_path / "compare-a-b.csv")
    assert len(table) == 15 and {"p", "p_holm", "p_patients_holm", "difference_bootstrap_low"} <= set(table)
    assert "random weights: not a result" in (tmp_path / "compare-a-b.svg").read_text()


def test_json_is_alone_on_stdout(make_run):
    result = call(make_run("a"), make_run("b"), "--json")
    assert result.exit_code == 0 and len(json.loads(result.stdout)["rows"]) == 15


def test_different_images_are_refused_unless_the_intersection_is_asked_for(make_run):
    a, b = make_run("a"), make_run("b")
    table = pd.read_csv(b / "predictions.csv")
    drop = table.index[table["split"] == "test"][:7]
    table.drop(index=drop).to_csv(b / "predictions.csv", index=False)
    refused = call(a, b)
    assert refused.exit_code == 2 and "7 only in a, 0 only in b" in refused.stderr
    taken = call(a, b, "--intersection")
    assert taken.exit_code == 0 and "7 images are not in every run" in taken.stderr


@pytest.mark.parametrize("names", [("a",), ("a", "nowhere")])
def test_too_few_runs_or_none_is_a_sentence_and_exit_2(make_run, tmp_path, names):
    make_run("a")
    result = call(*(tmp_path / name for name in names))
    assert result.exit_code == 2 and result.stderr.startswith("error: ")


def test_without_a_bootstrap_the_bars_are_delongs(make_run):
    result = call(make_run("a"), make_run("b", strength=1.5), "--bootstrap", 0)
    assert result.exit_code == 0 and "no bootstrap was asked for" in result.stdout
