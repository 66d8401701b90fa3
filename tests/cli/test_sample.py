"""`cxrfeat sample` as it is typed: the next command takes what it leaves."""

from __future__ import annotations

import json

from click.testing import CliRunner
from cxrfeat_cli.main import cli


def test_the_copy_is_what_the_example_says_to_build_a_study_of(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli, ["sample"])
    assert done.exit_code == 0, done.output
    assert done.stdout.strip() == "xrays/xrays.csv"
    words = ["--images", "xrays/images", "--path", "file", "--patient", "patient", "--findings", "findings", "--json"]
    built = CliRunner().invoke(cli, ["study", "build", "xrays/xrays.csv", *words])
    assert built.exit_code == 0, built.output
    assert json.loads(built.stdout)["images"]["all"] == 150
    again = CliRunner().invoke(cli, ["sample"])
    assert again.exit_code == 2
    assert "not an empty folder" in again.stderr
