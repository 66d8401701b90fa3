"""What `head.json` says is typed, whole and true of the files beside it; damage is one sentence."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner
from cxrfeat_cli.main import cli

from cxrfeat import load_run, runs
from cxrfeat._files import own_hash
from cxrfeat._heads import fit_head, load_head
from cxrfeat._predict import predict
from cxrfeat._run import Run
from cxrfeat.errors import CxrfeatError, HeadError


@pytest.fixture(scope="module")
def made(study, embeddings, tmp_path_factory):
    return fit_head(study, embeddings, "svm", out=tmp_path_factory.mktemp("runs") / "a")


@pytest.fixture
def run(made, tmp_path):
    import shutil

    shutil.copytree(made.path, tmp_path / "runs" / "a")
    return Run.open(tmp_path / "runs" / "a")


def test_what_is_written_is_read(run):
    assert Run.open(run.path) == run
    assert Run.open(run.path).options.heads == ("svm",)


def test_repr_and_html_say_what_it_is(run):
    assert repr(run).startswith("<Run a: svm head on densenet121, RANDOM")
    html = run._repr_html_()
    assert "no number of this run is a result" in html
    assert all(f"<td>{label}</td>" in html for label in run.labels)


@pytest.mark.parametrize("name", ["head.json", "head.npz", "study.csv", "predictions.csv"])
def test_a_changed_byte_is_found_wherever_it_is(name, run):
    data = bytearray((run.path / name).read_bytes())
    place = len(data) // 2
    data[place] = data[place] ^ 1 if data[place] not in b'{}[]"' else data[place] + 2
    (run.path / name).write_bytes(data)
    with pytest.raises(CxrfeatError, match=r"changed after|damaged"):
        again = Run.open(run.path)
        again.study(), again.predictions(), load_head(again)
    result = CliRunner().invoke(cli, ["runs", "verify", str(run.path)])
    assert result.exit_code == (2 if name == "head.json" else 1)  # nothing can be checked without the first
    assert name in result.output


@pytest.mark.parametrize(
    "change",
    [
        {"labels": "Mass"}, {"labels": [1]}, {"recipes": []}, {"options": {"seed": "0"}}, {"options": {"what": 1}},
        {"decision": None}, {"fitted_on": [1]}, {"kind": None}, {"converged": "yes"}, {"files": {"a": 1}},
    ],
)  # fmt: skip
def test_fields_of_other_types_are_named(change, run, monkeypatch):
    content = json.loads((run.path / "head.json").read_text())
    monkeypatch.setattr("cxrfeat._run.own_hash", lambda found: found["sha256"])
    (run.path / "head.json").write_text(json.dumps({**content, **change}))
    if change == {"recipes": []}:
        assert Run.open(run.path).recipes == ()
        return
    with pytest.raises(HeadError, match=next(iter(change))):
        Run.open(run.path)


@pytest.mark.parametrize(
    "text", ["", "[]", "{", "[" * 100_000, '{"format": "cxrfeat-run", "format_version": 2}', "\x00"]
)
def test_what_is_no_run_is_said_in_a_sentence(text, run):
    (run.path / "head.json").write_text(text)
    with pytest.raises(HeadError, match=r"head\.json"):
        Run.open(run.path)


def test_a_missing_field_of_version_1_is_named(run):
    old = {"format": "cxrfeat-run", "format_version": 1, "kind": "logistic", "labels": []}
    (run.path / "head.json").write_text(json.dumps(old))
    with pytest.raises(HeadError, match="'recipes' is missing"):
        Run.open(run.path)


def test_predicting_again_keeps_the_run_whole(run, embeddings):
    predict(run, embeddings=embeddings, save=True)
    assert set(runs.verify(run)["state"]) == {"ok"}
    assert Run.open(run.path).predictions().equals(run.predictions())


@pytest.mark.parametrize(
    "about", [{"stands_on": {"split": "test"}}, {"format_version": 2, "provenance": {"split": "test"}}]
)
def test_runs_are_listed_with_their_macro_auroc(run, monkeypatch, about):
    monkeypatch.chdir(run.path.parents[1])
    assert load_run("a") == load_run() == replace(run, path=load_run().path)
    (run.path.parent / "broken").mkdir()
    (run.path.parent / "broken" / "head.json").write_text("{")
    (run.path.parent / ".a.draft").mkdir()
    (run.path.parent / ".a.draft" / "head.json").write_text("{")
    metrics = {"macro": {"auroc": 0.7, "auroc_bootstrap": [0.6, 0.8]}, **about}
    (run.path / "metrics.json").write_text(json.dumps({**metrics, "sha256": own_hash(metrics)}))
    found = runs.ls()
    assert found["run"].tolist() == ["a", "broken"]
    row = ["small", "svm", 0.7, 0.6, 0.8, "test"]
    assert found.loc[0, ["study", "head", "macro_auroc", "low", "high", "split"]].tolist() == row
    printed = CliRunner().invoke(cli, ["runs", "ls"])
    assert "0.600 to 0.800" in printed.stdout and "damaged" in printed.stdout
    text = (run.path / "metrics.json").read_text()
    (run.path / "metrics.json").write_text(text.replace("0.7", "0.9"))
    printed = CliRunner().invoke(cli, ["runs", "ls"])
    if "format_version" in about:  # the first version has no hash
        assert "0.9" not in printed.stdout and "was changed or damaged" in printed.stderr
