"""`cxrfeat extract` and `cxrfeat weights` as a user meets them."""

import json

import pytest
from click.testing import CliRunner
from cxrfeat_cli.main import cli

from cxrfeat._backbones.registry import BACKBONES


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def invoke(*words):
    return CliRunner().invoke(cli, [str(word) for word in words])


@pytest.fixture
def study(make_study, place):
    made = make_study(8)
    made.save(place / "tiny.csv")
    return made


OPTIONS = ("--weights", "random:0", "--size", "32")


def test_json_says_what_was_done_and_only_that_is_on_stdout(study):
    done = invoke("extract", "tiny.csv", *OPTIONS, "--passes", 1, "--json")
    assert done.exit_code == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["extracted"], answer["kept"], answer["failed"]) == (8, 0, {})
    assert answer["recipe"]["passes"] == 1
    assert answer["path"].startswith("cache/tiny-densenet121-") or "\\" in answer["path"]
    assert "RANDOM weights" in done.stderr
    again = invoke("extract", "tiny.csv", *OPTIONS, "--passes", 1, "--json")
    assert json.loads(again.stdout)["extracted"] == 0
    assert "nothing to do" in again.stderr


def test_it_tells_where_the_time_went_and_prints_the_file(study):
    done = invoke("extract", "tiny.csv", *OPTIONS, "-o", "mine.h5")
    assert done.stdout.strip() == "mine.h5"
    for word in ("decode", "render", "network", "wait", "write", "images/s"):
        assert word in done.stderr


def test_every_engine_there_is_can_be_named():
    from cxrfeat._backbones.registry import ENGINES

    option = next(p for p in cli.get_command(None, "extract").params if p.name == "engine")
    assert tuple(option.type.choices) == ENGINES


def test_more_failures_than_allowed_exit_2_and_keep_the_rest(study):
    study.paths()[3].write_bytes(b"x")
    done = invoke("extract", "tiny.csv", *OPTIONS, "-o", "mine.h5", "--max-failures", 0)
    assert done.exit_code == 2
    assert "1 images could not be used" in done.stderr
    assert study.ids[3] in done.stderr
    assert invoke("extract", "tiny.csv", *OPTIONS, "-o", "mine.h5").exit_code == 0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("extract",), "study"),
        (("extract", "none.csv"), "no study, folder or table none.csv"),
        (("extract", "tiny.csv", "--backbone", "vgg15", "--weights", "random:0"), "unknown backbone 'vgg15'"),
        (
            ("extract", "tiny.csv", *OPTIONS, "--geometry", "crop", "--resize", 8),
            "--resize 8 does not fit --geometry crop and size 32",
        ),
        (("extract", "tiny.csv", *OPTIONS, "--geometry", "round"), "unknown geometry 'round'"),
        (("extract", "tiny.csv", *OPTIONS, "--voi", "bright"), "unknown voi 'bright'"),
        (("extract", "tiny.csv", "--weights", "mine.h5"), "no file is there"),
        (("extract", "tiny.csv", "--weights", "random:0", "--policy", "wild", "--passes", 1), "policy 'wild'"),
        (("weights", "fetch", "vgg15"), "there are no weights 'vgg15'"),
    ],
)
def test_bad_input_is_a_sentence_and_exit_2(study, words, sentence):
    done = invoke(*words)
    assert done.exit_code == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_weights_are_listed(monkeypatch, place):
    monkeypatch.setenv("KERAS_HOME", str(place / "keras"))
    rows = json.loads(invoke("weights", "ls", "--json").stdout)
    assert {row["backbone"]: row["state"] for row in rows} == dict.fromkeys(BACKBONES.names, "missing")
