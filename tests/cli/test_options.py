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
