"""Runs of every format version ever written are read for ever; frozen ones were made by the cxrfeat of their day."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxrfeat._heads import predict
from cxrfeat._run import Run

DATA = Path(__file__).parents[1] / "data"
KINDS = {
    "logistic": "logistic",
    "tta": "logistic",
    "keras": "keras",
    "softmax": "keras",
    "bayes": "sklearn.naive_bayes:GaussianNB",
    "knn": "knn",
    "ensemble": "ensemble",
}
TWO_FILES = ("bayes", "ensemble")


@pytest.fixture(params=[(version, name) for version in ("v1",) for name in KINDS], ids="-".join)
def frozen(request, tmp_path):
    """A copy of a frozen run, and the embedding files that it was trained on."""
    version, name = request.param
    folder = DATA / f"runs-{version}"
    shutil.copytree(folder / name, tmp_path / name)
    files = [folder / "a.h5"] + [folder / "b.h5"] * (name in TWO_FILES)
    return tmp_path / name, files


def test_it_opens_and_says_what_it_is(frozen):
    folder, files = frozen
    run = Run.open(folder)
    assert run.kind == KINDS[folder.name]
    assert run.labels == ("Mass", "Edema", "Hernia")
    assert [recipe.backbone for recipe in run.recipes] == ["densenet121", "resnet50"][: len(files)]
    assert run.random
    assert run.study().splits == ("train", "val", "test")
    assert set(run.thresholds) == set(run.labels)
    assert len(run.predictions("test")) == (run.study().table["split"] == "test").sum()


def test_it_predicts_what_it_predicted(frozen):
    folder, files = frozen
    again = predict(folder, files, Run.open(folder).study())
    before = pd.read_csv(folder / "predictions.csv")
    assert again[["image_id", "split"]].equals(before[["image_id", "split"]])
    labels = ["Mass", "Edema", "Hernia"]
    np.testing.assert_allclose(again[labels], before[labels], atol=2e-6)
