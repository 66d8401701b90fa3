"""The study is named alike everywhere: as STUDY or as --study, and never twice."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from cxrfeat_cli.main import cli

TAKE_BOTH = (["study", "describe"], ["extract"], ["fit-head"], ["reproduce", "paper"])


@pytest.mark.parametrize("words", TAKE_BOTH, ids=" ".join)
def test_every_command_of_one_study_takes_it_both_ways(words):
    usage = CliRunner().invoke(cli, [*words, "--help"]).output
    assert "[STUDY]" in usage and "--study STUDY" in usage


@pytest.mark.parametrize("words", [["sample"], ["--study", "sample"], ["sample", "--study", "sample"]], ids=" ".join)
def test_both_ways_name_the_same_study(words):
    result = CliRunner().invoke(cli, ["study", "describe", *words, "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["images"]["all"] == 150


def test_two_different_studies_are_refused(tmp_path):
    result = CliRunner().invoke(cli, ["study", "describe", "sample", "--study", "ward"])
    assert result.exit_code == 2 and "two studies are named: sample and, by --study, ward" in result.output


def test_a_parameter_of_another_command_is_shown_as_an_option_too():
    """The library names parameters as Python has them; whoever reads it in a terminal types options."""
    from cxrfeat_cli.base import as_flags

    assert as_flags("Build it with `resplit=True`.") == "Build it with --resplit."
    assert as_flags("Or take `weights=random:0`.") == "Or take --weights random:0."
    assert as_flags("Run `cxrfeat extract`; see `head.json`.") == "Run `cxrfeat extract`; see `head.json`."


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("study build table.csv --seed -1", "not in the range"),
        ("study build table.csv --findings \udcff", "not valid UTF-8"),
        ("study build table.csv --where a=\udcff", "not valid UTF-8"),
        ("study build table.csv --encoding nan", "there is no such encoding"),
        ("evaluate --bootstrap 99999999999999999999", "not in the range"),
        ("roc --width nan", "not a number"),
        ("roc --out=", "--out is empty"),
        ("extract table.csv --passes 99999999999999999999", "not in the range"),
    ],
)
def test_values_that_libraries_stumble_over_are_refused_in_a_sentence(words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "table.csv").write_text("image_id,Mass\na.png,1\n")
    done = CliRunner().invoke(cli, words.split())
    assert done.exit_code == 2 and said in done.stderr and "bug" not in done.stderr
