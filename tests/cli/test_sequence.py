"""The project's headline, as the README has it: features, head, ROC curves, with nothing named twice."""

from __future__ import annotations

import pytest
from click.testing import CliRunner
from cxrfeat_cli.main import cli


@pytest.fixture
def project(tmp_path, monkeypatch, make_study):
    """A project folder with a study of the user's own, and embeddings of the sample as `make features` leaves them."""
    monkeypatch.chdir(tmp_path)
    for name in ("ward", "clinic"):
        make_study(6, name=name).save(tmp_path / "studies" / f"{name}.csv")
    return tmp_path


def call(*words: str):
    done = CliRunner().invoke(cli, list(words))
    assert done.exit_code == 0, done.stderr
    return done


def test_head_and_curves_take_the_study_of_the_newest_embeddings(project):
    made = call("extract", "sample", "--weights", "random:0", "--size", "32")
    assert "next: cxrfeat fit-head" in made.stderr
    fitted = call("fit-head", "--weighted")
    assert "study: sample" in fitted.stderr and "next: cxrfeat evaluate" in fitted.stderr
    run = fitted.stdout.splitlines()[-1]
    assert run == "runs/sample-densenet121-logistic-weighted"
    call("roc", "--bootstrap", "0")
    assert (project / run / "figures" / "roc.png").is_file()
    predicted = call("predict")
    assert predicted.stdout.strip() == f"{run}/predictions.csv"
    assert "150 images predicted" in predicted.stderr
