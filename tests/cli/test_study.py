"""`cxrfeat study` as it is typed: what it prints, what it writes, and how it refuses bad input."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from cxrfeat_cli.main import cli

from cxrfeat import read_study


@pytest.fixture
def typed(tmp_path, monkeypatch):
    """Run a command line in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(cli, list(words))


def test_build_of_the_sample_writes_a_study_and_describes_it(typed, tmp_path):
    result = typed("study", "build", "sample", "--json")
    assert result.exit_code == 0, result.output
    counts = json.loads(result.stdout)
    assert (counts["images"]["all"], counts["images"]["test"], counts["patients"]["all"]) == (150, 57, 136)
    assert len(read_study(tmp_path / "studies" / "sample.csv")) == 150
    described = json.loads(typed("study", "describe", "--json").stdout)  # the only study there is
    assert described["positives"] == counts["positives"]


def test_build_of_a_csv_with_named_columns(typed, tmp_path):
    for name in "abcd":
        (tmp_path / f"{name}.png").touch()
    (tmp_path / "ward.csv").write_text(
        "file,mrn,found\na.png,1,Mass;Edema\nb.png,2,No Finding\nc.png,3,Mass\nd.png,4,\n"
    )
    words = ["study", "build", "ward.csv", "--path", "file", "--patient", "mrn", "--findings", "found"]
    result = typed(*words, "--separator", ";", "-o", "out.csv")
    assert result.exit_code == 0, result.output
    assert "leakage check: NOTHING CHECKED, every image has a patient of its own" in result.stdout
    assert "Mass: unknown for 1" in result.stdout
    assert read_study(tmp_path / "out.csv").labels == ("Mass", "Edema")


def test_describe_says_that_no_patient_is_in_two_splits(typed):
    result = typed("study", "describe", "sample")
    assert result.exit_code == 0, result.output
    assert "leakage check: passed" in result.stdout
    assert "Pleural_Thickening" in result.stdout


def test_describe_draws_the_class_frequencies(typed, tmp_path):
    result = typed("study", "describe", "sample", "--figure", "f.png")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")


def test_another_study_is_replaced_only_when_that_is_asked(typed):
    assert typed("study", "build", "sample", "-o", "s.csv").exit_code == 0
    assert typed("study", "build", "sample", "-o", "s.csv").exit_code == 0, "the same study again is no harm"
    refused = typed("study", "build", "sample", "--resplit", "-o", "s.csv")
    assert refused.exit_code == 2
    assert "s.csv holds another study; replace it with --overwrite" in refused.stderr
    assert typed("study", "build", "sample", "--resplit", "-o", "s.csv", "--overwrite").exit_code == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["describe", "nowhere.csv"], "no study, folder or table nowhere.csv"),
        (["describe"], "No study found"),
        (
            ["describe", "leak.csv"],
            "leakage in study 'leak': 1 patient in more than one split (test and train: 1): p7.",
        ),
        (["describe", "twice.csv"], "image_id 'a' is duplicated"),
        (["describe", "empty.csv"], "has no images"),
        (["build", "nowhere"], "no study, folder or table nowhere"),
        (["build", "own.csv", "-o", "own.csv"], "own.csv is an input of this command"),
        (["build", "own.csv", "-o", "own.csv", "--overwrite"], "own.csv is an input of this command"),
        (["build", "empty.csv"], "has no rows"),
    ],
)
def test_bad_input_is_a_sentence_and_exit_code_2(typed, tmp_path, words, message):
    head = "image_id,path,patient_id,split,Mass\n"
    (tmp_path / "leak.csv").write_text(head + "a,a.png,p7,train,1\nb,b.png,p7,test,0\n")
    (tmp_path / "twice.csv").write_text(head + "a,a.png,1,train,1\na,b.png,2,test,0\n")
    (tmp_path / "empty.csv").write_text(head)
    (tmp_path / "own.csv").write_text(head + "a,a.png,1,train,1\nb,b.png,2,val,0\n")
    for name in "ab":
        (tmp_path / f"{name}.png").touch()
    result = typed("study", *words)
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert result.stderr.count("\n") == 1
