"""A metric of another installed package: in the table, with its interval, in groups, comparisons, CSV and figures."""

from __future__ import annotations

import csv
import io
import json
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from cxrfeat_cli.main import cli
from sklearn.metrics import balanced_accuracy_score

from cxrfeat._evaluate import Metric, scored_run
from cxrfeat._evaluate.bootstrap import bootstrap, draw
from cxrfeat._evaluate.metrics import METRICS
from cxrfeat._run import Run

PLUGIN = """
import numpy as np
from cxrfeat import Metric

YOUDEN = Metric(
    name="youden",
    heading="J",
    about="sensitivity + specificity - 1",
    sums=(
        lambda positive, p, threshold: positive & (p >= threshold),
        lambda positive, p, threshold: ~positive & (p < threshold),
        lambda positive, p, threshold: np.stack([positive, ~positive], axis=1),
    ),
    formula=lambda tp, tn, both: tp / both[..., 0] + tn / both[..., 1] - 1,
    bounds=(-1.0, 1.0),
    digits=2,
    needs_threshold=True,
)
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The other package, where Python looks for packages."""
    site = tmp_path / "site"
    (site / "toy_metric-1.dist-info").mkdir(parents=True)
    (site / "toy_metric.py").write_text(PLUGIN)
    (site / "toy_metric-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-metric\nVersion: 1\n")
    (site / "toy_metric-1.dist-info" / "entry_points.txt").write_text("[cxrfeat.metrics]\nyouden = toy_metric:YOUDEN\n")
    monkeypatch.syspath_prepend(site)
    monkeypatch.delitem(vars(METRICS), "_places", raising=False)  # is looked up once in a process
    yield
    METRICS._loaded.pop("youden", None)
    sys.modules.pop("toy_metric", None)


def call(*words):
    done = CliRunner().invoke(cli, list(map(str, words)))
    assert done.exit_code == 0, done.output
    return done.stdout


def test_it_has_a_column_with_its_interval_and_is_compared(installed, make_run):
    a, b = make_run("a"), make_run("b", strength=1.5)
    shown = call("evaluate", "--run", a, "--bootstrap", 64, "--no-figures", "--format", "markdown")
    compared = call("compare", a, b, "--metric", "youden", "--bootstrap", 64, "--format", "csv")
    heading, _, few, enough = [line.split("|") for line in shown.splitlines() if line.startswith("|")][:4]
    column = [name.strip() for name in heading].index("J")
    assert heading[column + 1].strip() == "J 95 %"
    assert few[column + 1].strip() == "-" and " to " in enough[column + 1]  # 5 and 10 positive patients
    read = json.loads((a / "metrics.json").read_text())
    scored = scored_run(Run.open(a))
    for j, row in enumerate(read["labels"][:13]):
        wanted = balanced_accuracy_score(scored.y[:, j], scored.p[:, j] >= scored.thresholds[j], adjusted=True)
        assert row["youden"] == pytest.approx(wanted)
        low, high = row["youden_bootstrap"]
        assert low <= row["youden"] <= high if scored.fewest_patients[j] >= 10 else low is None
    assert "youden" in read["groups"][0]["macro"]
    rows = list(csv.DictReader(io.StringIO(compared)))
    after, before = float(rows[3]["youden"]), float(rows[3]["youden_baseline"])
    assert float(rows[3]["difference"]) == pytest.approx(after - before, abs=1e-5)
    assert rows[3]["difference_bootstrap_low"] and "p_patients_holm" not in rows[3]


def test_its_replicates_are_those_of_repeated_rows():
    """A metric with several sums in one term, beside scikit-learn on the rows that were drawn."""
    space: dict = {}
    exec(PLUGIN, space)
    rng = np.random.default_rng(0)
    y, patients = (rng.random((120, 2)) < 0.4).astype(float), rng.integers(0, 40, 120)
    p = np.clip(0.3 * y + 0.7 * rng.random(y.shape), 0, 1)
    found = bootstrap(y, p, patients, [0.5, np.nan], 5, seed=1, metrics=[space["YOUDEN"]])
    names, of = np.unique(patients, return_inverse=True)
    for b in range(5):
        rows = np.repeat(np.arange(120), draw(len(names), 1, 0)[of, b].astype(int))
        wanted = balanced_accuracy_score(y[rows, 0], p[rows, 0] >= 0.5, adjusted=True)
        assert found.draws["youden"][b, 0] == pytest.approx(wanted)
    assert np.isnan(found.draws["youden"][:, 1]).all(), "no threshold"


def test_a_metric_of_ranks_is_a_formula_over_pairs():
    gini = Metric("gini", "Gini", "2 AUROC - 1", Metric.RANKS, lambda right, _, m, n: 2 * right / (m * n) - 1)
    assert gini([1, 0, 1, 0], [0.9, 0.1, 0.4, 0.5]) == pytest.approx(2 * 0.75 - 1)
