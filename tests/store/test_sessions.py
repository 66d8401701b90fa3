"""Every session that computed rows of a file is in its provenance, once; files from before there was a list open."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner
from cxrfeat_cli.main import cli

from cxrfeat._recipe import Recipe
from cxrfeat._store import EmbeddingFile, Writer, rows

RECIPE = Recipe("densenet121", "random:0", "0" * 64, "relu", "torch", 224)


def session(path, provenance, ids, publish=True):
    with Writer.open(path, RECIPE, 4, provenance) as writer:
        new = [i for i in ids if i not in writer.done]
        if new:
            writer.append(new, np.zeros((len(new), 32), np.uint8), np.ones((1, len(new), 4), np.float32))
        if publish:
            writer.publish(ids)


def provenance(path):
    with EmbeddingFile.open(path) as file:
        return file.provenance


def test_a_file_that_grows_names_each_session_oldest_first(tmp_path):
    path = tmp_path / "e.h5"
    for k in range(3):
        session(path, {"created": k}, [f"{i}" for i in range(k + 1)])
    assert provenance(path) == {"created": 2, "earlier": [{"created": 0}, {"created": 1}]}


def test_a_session_that_was_interrupted_is_named_too(tmp_path):
    path = tmp_path / "e.h5"
    session(path, {"created": "first"}, ["a"], publish=False)
    session(path, {"created": "second"}, ["a", "b"])
    assert provenance(path) == {"created": "second", "earlier": [{"created": "first"}]}


def test_one_session_stands_alone_and_nothing_to_do_changes_nothing(tmp_path):
    path = tmp_path / "e.h5"
    session(path, {"created": 0}, ["a"])
    assert provenance(path) == {"created": 0}
    before = path.read_bytes()
    session(path, {"created": 1}, ["a"])
    assert path.read_bytes() == before


def test_an_engine_that_is_named_late_belongs_to_its_own_session(tmp_path):
    path = tmp_path / "e.h5"
    session(path, {"created": 0}, ["a"])
    with Writer.open(path, RECIPE, 4, {"created": 1}) as writer:
        writer.provenance["engine"] = "one"
        for ids in (["b"], ["c"]):
            writer.append(ids, np.zeros((1, 32), np.uint8), np.ones((1, 1, 4), np.float32))
            writer.publish(["a", "b", "c"])
    assert provenance(path) == {"created": 1, "engine": "one", "earlier": [{"created": 0}]}


@pytest.mark.parametrize("text", ["", "no JSON", "[1]", "{}", '{"earlier": [1]}'])
def test_what_cannot_be_read_is_passed_over(text):
    assert rows.sessions([text, '{"created": 0}']) == [{"created": 0}]


def test_the_list_stays_short_enough_for_a_text():
    many = [{"created": k, "packages": "x" * 400} for k in range(rows.MOST_EARLIER + 50)]
    found = json.loads(rows.provenance({"created": "now"}, many))
    assert len(found["earlier"]) == rows.MOST_EARLIER and found["earlier"][-1] == many[-1]


def test_the_command_shows_them(tmp_path):
    path = tmp_path / "e.h5"
    session(path, {"created": "2026-01-02", "engine": "one"}, ["a"])
    session(path, {"created": "2026-03-04", "engine": "two"}, ["a", "b"])
    result = CliRunner().invoke(cli, ["cache", "info", str(path)])
    assert result.exit_code == 0, result.output
    assert "earlier sessions" in result.stdout and "2026-01-02" in result.stdout
