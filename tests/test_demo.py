"""The demo, as a newcomer meets it: a real process that leaves what it says it leaves, and repeats no work."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from cxrfeat_cli.main import cli
from sklearn.metrics import roc_auc_score

from cxrfeat import _sample as sample


@pytest.fixture(scope="module")
def done(demo_run):
    """The folder it ran in, the process, and what it printed."""
    return demo_run.folder, demo_run, json.loads(demo_run.stdout)


def test_every_file_it_names_is_there_and_every_picture_can_be_read(done):
    folder, _, told = done
    assert {"study", "class frequencies", "embeddings", "run", "ROC curves", "metrics"} <= set(told["made"])
    assert sum(name.startswith("Grad-CAM of") for name in told["made"]) == 3
    for path in told["made"].values():
        assert (folder / path).exists(), path
        if path.endswith(".png"):
            assert cv2.imread(str(folder / path)).std() > 1, path


def test_its_numbers_are_those_of_scikit_learn_on_its_predictions(done):
    folder, _, told = done
    predictions = pd.read_csv(folder / told["made"]["run"] / "predictions.csv").set_index("image_id")
    test = sample.study().split("test")
    p = predictions.loc[test.ids, list(test.labels)].to_numpy()
    expected = [roc_auc_score(test.y[:, j], p[:, j]) for j in range(14)]
    np.testing.assert_allclose([row["auroc"] for row in told["rows"][:14]], expected, atol=1e-12)
    assert told["macro_auroc"] == pytest.approx(np.mean(expected))
    assert told["accuracy"] == pytest.approx(((p >= 0.5) == test.y).mean())
    assert told["all_negative"] == pytest.approx((test.y == 0).mean())


def test_it_says_that_random_weights_are_no_result_and_that_nothing_leaks(done):
    _, result, told = done
    assert told["random"] is True
    assert "leakage check: passed" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_second_time_nothing_is_embedded_or_fitted_again(done, monkeypatch):
    folder, _, told = done
    embeddings = folder / told["made"]["embeddings"]
    head = folder / told["made"]["run"] / "head.json"
    before = embeddings.stat().st_mtime_ns, head.stat().st_mtime_ns
    monkeypatch.chdir(folder)
    again = CliRunner().invoke(cli, done[1].words)
    assert again.exit_code == 0, again.stderr
    assert "150 images are embedded already" in again.stderr
    assert "the head is fitted already" in again.stderr
    assert (embeddings.stat().st_mtime_ns, head.stat().st_mtime_ns) == before
    assert json.loads(again.stdout)["rows"] == told["rows"], (
        "the same embeddings give the same head and the same numbers"
    )
