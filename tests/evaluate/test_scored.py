"""Predictions joined to the truth by id, and refused where they would flatter or mislead."""

import numpy as np
import pandas as pd
import pytest

from cxrfeat._evaluate import warnings
from cxrfeat._evaluate.scored import Scored, scored_run
from cxrfeat._run import Run
from cxrfeat.errors import EvaluationError, HeadError, LeakageError, StudyError


def edit(run, change):
    file = run / "predictions.csv"
    change(pd.read_csv(file)).to_csv(file, index=False)


def test_rows_and_columns_are_joined_by_name(make_run):
    run = make_run("a")
    before = scored_run(Run.open(run))
    edit(run, lambda t: t.sample(frac=1, random_state=0)[[*t.columns[:2], *t.columns[:1:-1]]])
    after = scored_run(Run.open(run))
    assert (before.ids == after.ids).all()
    np.testing.assert_array_equal(before.p, after.p)
    np.testing.assert_array_equal(before.y, after.y)


def test_it_says_where_its_numbers_come_from(make_run):
    scored = scored_run(Run.open(make_run("a", weights="random:7")))
    stands = scored.facts()
    assert stands["random_weights"] is True and stands["weights"] == ["random:7"]
    assert stands["n"] == len(scored) and stands["positives"]["Hernia"] == 0
    for part in ("split test", "made-up", f"n = {len(scored)}", "RANDOM"):
        assert part in scored.caption()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda t: t.assign(Mass=t["Mass"] + 0.9), r"not probabilities in \[0, 1\]; the first is .* for Mass of image"),
        (lambda t: t.assign(Mass=t["Mass"].where(t.index % 9 > 0)), r"the first is nan for Mass of image '0"),
        (lambda t: t.assign(image_id="x" + t["image_id"]), "are not in that split of study 'made-up'"),
        (lambda t: pd.concat([t, t.tail(1)]), "is duplicated"),
    ],
)
def test_bad_predictions_are_refused_in_a_sentence(make_run, change, sentence):
    run = make_run("a")
    edit(run, change)
    with pytest.raises(EvaluationError, match=sentence):
        scored_run(Run.open(run))


def test_images_without_a_prediction_are_left_out_and_counted(make_run):
    run = make_run("a")
    n = len(scored_run(Run.open(run)))
    edit(run, lambda t: t.drop(index=t.index[t["split"] == "test"][3:5]))
    scored = scored_run(Run.open(run))
    assert len(scored) == n - 2 and scored.facts()["without_prediction"] == 2
    (found,) = [w for w in warnings.of_scores(scored) if w.kind == "missing"]
    assert found.message.startswith("2 images of the split have no prediction")


def test_a_missing_label_column_is_named(make_run):
    run = make_run("a")
    edit(run, lambda t: t.drop(columns="Edema"))
    with pytest.raises(HeadError, match="no column 'Edema'"):
        scored_run(Run.open(run))


def test_predictions_that_are_no_numbers_are_refused(make_run):
    run = make_run("a")
    edit(run, lambda t: t.assign(Mass="high"))
    with pytest.raises(HeadError, match=r"values that are not probabilities: .*'high'"):
        scored_run(Run.open(run))
    (run / "predictions.csv").write_text("")
    with pytest.raises(HeadError, match="not a CSV table"):
        scored_run(Run.open(run))


def test_an_empty_split_is_refused(make_run):
    with pytest.raises(StudyError, match="no images in split 'holdout'"):
        scored_run(Run.open(make_run("a")), "holdout")


def test_a_label_without_a_head_is_nan_and_not_an_error(make_run):
    run = make_run("a")
    edit(run, lambda t: t.assign(Hernia=np.nan))
    scored = scored_run(Run.open(run))
    assert not scored.defined[-1] and scored.defined[0]


def test_the_training_split_is_refused_unless_asked_for(make_run):
    run = Run.open(make_run("a"))
    with pytest.raises(EvaluationError, match="was fitted on split 'train'"):
        scored_run(run, "train")
    assert "seen in training" in scored_run(run, "train", allow_contaminated=True).provenance["not_fair"][0]


def test_thresholds_from_the_evaluated_split_are_refused(make_run):
    with pytest.raises(EvaluationError, match=r"thresholds .* were chosen on split 'val' itself"):
        scored_run(Run.open(make_run("a")), "val")


def test_patients_seen_in_training_are_refused(make_run):
    run = make_run("a")
    study = pd.read_csv(run / "study.csv", dtype={"patient_id": str})
    trained = study.loc[study["split"] == "train", "patient_id"].iloc[0]
    study.loc[(study["split"] == "test").idxmax(), "patient_id"] = trained
    study.to_csv(run / "study.csv", index=False)
    with pytest.raises(LeakageError, match="test and train: 1"):
        scored_run(Run.open(run))


def test_arrays_must_fit_together():
    with pytest.raises(EvaluationError, match="do not fit together"):
        Scored(("a",), np.zeros((3, 1)), np.zeros((2, 1)), np.array(["1", "2", "3"]), np.array(list("abc")), np.ones(1))
    with pytest.raises(EvaluationError, match="1, 0 or NaN"):
        Scored(("a",), np.full((2, 1), 2.0), np.zeros((2, 1)), np.array(["1", "2"]), np.array(list("ab")), np.ones(1))
