"""A run evaluated: rows, macro, groups, and what of it is written down."""

import cv2
import numpy as np
import pytest

from cxrfeat._evaluate import METRICS, delong, evaluate, scored_run
from cxrfeat._evaluate.metrics import AUROC
from cxrfeat._run import Run


def test_rows_hold_every_metric_with_its_intervals(make_run):
    run = Run.open(make_run("a"))
    scored = scored_run(run)
    found = evaluate(run, replicates=200, by=[])
    assert [row["label"] for row in found.rows] == [*run.labels, "macro", "micro"]
    for j, row in enumerate(found.rows[:13]):
        y, p = scored.y[:, j], scored.p[:, j]
        assert row["auroc"] == pytest.approx(AUROC(y, p))
        assert row["auroc_delong"] == pytest.approx(delong.interval(y, p)[1:])
        assert row["auroc_interval"] == pytest.approx(delong.over_patients(y, p, scored.patients)[1:])
        assert row["positive_patients"] == len(set(scored.patients[y == 1]))
        assert (row["n"], row["positives"]) == (len(y), int(y.sum()))
        assert row["patients"] == len(set(scored.patients))
        assert row["threshold"] == pytest.approx(run.thresholds[row["label"]])
        for metric in METRICS:
            low, high = row[f"{metric.name}_bootstrap"]
            shown = metric.interval and scored.fewest_patients[j] >= 10  # the ECE has none: it would not cover
            assert low <= row[metric.name] <= high if shown else np.isnan(low), metric.name
        assert np.isnan(row["ece_bootstrap"]).all()
    assert found.macro["over"] == list(run.labels[:13])
    assert found.macro["auroc"] == pytest.approx(np.mean([row["auroc"] for row in found.rows[:13]]))
    assert np.isnan(found.rows[13]["auroc"]) and found.accuracy["at_half"] == pytest.approx(
        np.mean((scored.p >= 0.5) == scored.y)
    )


def test_a_group_is_evaluated_as_if_alone(make_run):
    run = Run.open(make_run("a"))
    scored = scored_run(run)
    found = evaluate(run, replicates=0)
    assert [(g.column, g.name) for g in found.groups] == [("view", "AP"), ("view", "PA")]
    for group in found.groups:
        mask = (scored.table["view"] == group.name).to_numpy()
        assert group.rows[5]["auroc"] == pytest.approx(AUROC(scored.y[mask, 5], scored.p[mask, 5]))
        assert group.images == mask.sum()
    assert set(found.alone) == {"view"}


def test_progress_counts_every_replicate_of_every_group(make_run):
    seen = []
    evaluate(Run.open(make_run("a")), replicates=100, progress=lambda *args: seen.append(args))
    assert seen[-1] == (300, 300, "view PA") and [t[0] for t in seen] == sorted(t[0] for t in seen)


def test_without_a_bootstrap_there_are_no_bootstrap_columns(make_run):
    found = evaluate(Run.open(make_run("a")), replicates=0, by=[])
    assert not any("bootstrap" in key for row in found.rows for key in row)


def test_the_training_split_carries_its_warning_into_every_output(make_run):
    found = evaluate(Run.open(make_run("a")), "train", replicates=0, by=[], allow_contaminated=True)
    assert found.warnings[0].kind == "not_fair"
    assert "seen in training" in found.to_dict()["provenance"]["not_fair"][0]


def test_a_label_that_the_size_of_files_gives_away_is_shown_beside_the_model_and_warned_of(make_run):
    """The width of the file alone predicts Fibrosis, which no interval and no group shows."""
    run = Run.open(make_run("a"))
    test = run.study().split("test")
    fibrosis, rng = test.labels.index("Fibrosis"), np.random.default_rng(0)
    for path, y in zip(test.paths(), test.y[:, fibrosis], strict=True):
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), rng.integers(0, 256, (32, 40 if y else 32), np.uint8))
    found = evaluate(run, replicates=0, by=[])
    rows = {row["label"]: row for row in found.rows}
    assert rows["Fibrosis"]["auroc_shortcuts"] == 1.0
    assert [w.labels for w in found.warnings if w.kind == "shortcut"] == [("Fibrosis",)]
    assert "it may have learnt nothing else" in next(
        message for message in found.problems() if message.startswith("Fibrosis: size")
    )
    assert found.rows_to_read()[fibrosis]["not looking"] == 1.0
    assert "not looking" not in evaluate(run, replicates=0, by=[], shortcuts=False).rows_to_read()[0]
