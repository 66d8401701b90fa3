"""Fitting a head from a study and its embedding files: who learns, who is tuned on, and what is written."""

from __future__ import annotations

import json
import shutil
import warnings

import numpy as np
import pandas as pd
import pytest

from cxrfeat._heads import estimators, fit_head, load_head, predict
from cxrfeat._heads.features import Features
from cxrfeat._heads.solver import path as solver
from cxrfeat._recipe import Recipe
from cxrfeat._run import Run
from cxrfeat._store import Writer
from cxrfeat._study import Study
from cxrfeat.errors import EmbeddingFileError, HeadError, NotFoundError, RecipeError

LABELS, DIM = ("Mass", "Edema", "Hernia"), 12


def with_column(study, label, values):
    table = study.table.copy()
    table[label] = values
    return Study(table, study.labels, study.name, study.root)


def test_a_run_holds_what_the_contract_says(study, embeddings, tmp_path):
    run = fit_head(study, embeddings, out=tmp_path / "run", weighting="paper")
    assert run.kind == "logistic"
    assert run.labels == LABELS
    assert run.study().sha256 == study.sha256 == run.study_sha256
    assert run.converged is True
    assert run.fitted_on.passes == (0, 1, 2)
    train = study.split("train")
    assert run.fitted_on.rows == 3 * len(train)
    assert run.class_weights[0]["positives"] == int(train.y[:, 0].sum())
    assert set(run.predictions().index) == set(study.ids)
    assert not list((tmp_path / "run").glob(".*"))


def test_predictions_are_the_heads_on_pass_0_joined_by_id(study, embeddings, tmp_path):
    run = fit_head(study, embeddings, out=tmp_path / "run")
    head = load_head(run)
    with Features([embeddings]) as features:
        x = features.matrix(study.ids)
    table = run.predictions().loc[study.ids]
    assert table.to_numpy() == pytest.approx(head.probabilities(x), rel=1e-8)
    coef, intercept = head.linear
    assert head.logits(x) == pytest.approx(x.astype(float) @ coef.T + intercept)


def test_passes_train_and_tta_predicts_by_their_mean(study, embeddings, tmp_path):
    run = fit_head(study, embeddings, out=tmp_path / "run", tta=True, calibration="none")
    head = load_head(run)
    with Features([embeddings]) as features:
        x = features.matrix(study.ids, (0, 1, 2))
    mean = head.logits(x).reshape(3, len(study), -1).mean(axis=0)
    assert run.predictions().loc[study.ids].to_numpy() == pytest.approx(1 / (1 + np.exp(-mean)), rel=1e-7)


def test_nothing_is_learnt_from_test_or_validation_labels(study, embeddings, tmp_path):
    table = study.table.copy()
    test = table["split"] == "test"
    table.loc[test, list(LABELS)] = 1 - table.loc[test, list(LABELS)]
    turned = Study(table, LABELS, study.name)
    one = fit_head(study, embeddings, out=tmp_path / "one")
    two = fit_head(turned, embeddings, out=tmp_path / "two")
    assert one.predictions().equals(two.predictions())
    assert one.decision == two.decision


def test_validation_is_carved_by_patient_where_there_is_none(make_study, write_file, tmp_path):
    study = make_study(val=False)
    run = fit_head(study, write_file(tmp_path / "e.h5", study), out=tmp_path / "run")
    sides = run.study()
    assert "carved from train by patient with seed 0" in run.validation
    assert not set(sides.split("val").patients) & set(sides.split("train").patients)
    assert set(sides.split("test").ids) == set(study.split("test").ids)
    assert run.decision.split == "val"


def test_a_label_without_positives_is_nan_and_named(study, embeddings, tmp_path):
    values = study.y[:, 2] * (study.table["split"] != "train")
    run = fit_head(with_column(study, "Hernia", values), embeddings, out=tmp_path / "run")
    assert run.unfitted == ("Hernia",)
    assert run.predictions()["Hernia"].isna().all()
    assert run.predictions()["Mass"].notna().all()
    assert np.isnan(load_head(run).logits(np.zeros((2, DIM), np.float32))[:, 2]).all()
    assert np.isnan(run.thresholds["Hernia"])


def test_unknown_labels_are_left_out_and_not_taken_for_negatives(study, embeddings, tmp_path):
    values = study.y[:, 1].copy()
    values[::3] = np.nan
    unknown = with_column(study, "Edema", values)
    known = fit_head(unknown, embeddings, out=tmp_path / "a", calibration="none")
    assert known.class_weights[1]["positives"] == int(np.nansum(unknown.split("train").y[:, 1]))
    zero = fit_head(
        with_column(study, "Edema", np.nan_to_num(values)), embeddings, out=tmp_path / "b", calibration="none"
    )
    assert not np.allclose(known.predictions()["Edema"], zero.predictions()["Edema"])


def test_a_head_that_takes_no_probabilities_says_so_and_takes_them_for_unknown(study, embeddings, tmp_path, caplog):
    values = study.y[:, 1].copy()
    values[::3] = 0.4
    table = study.table.assign(Edema=values)
    soft = Study(table, study.labels, study.name, study.root, {"soft": ["Edema"]})
    values[::3] = np.nan
    hard = with_column(study, "Edema", values)
    lda = [fit_head(one, embeddings, "lda", out=tmp_path / f"lda-{k}") for k, one in enumerate((soft, hard))]
    assert "The lda head does not learn from them: they are unknown." in caplog.text
    pd.testing.assert_frame_equal(lda[0].predictions(), lda[1].predictions())
    logistic = [fit_head(one, embeddings, out=tmp_path / f"logistic-{k}") for k, one in enumerate((soft, hard))]
    assert logistic[0].class_weights == logistic[1].class_weights
    assert not np.allclose(logistic[0].predictions()["Edema"], logistic[1].predictions()["Edema"])


def test_two_files_are_joined_side_by_side_whatever_their_order_of_rows(study, embeddings, write_file, tmp_path):
    other = write_file(tmp_path / "r.h5", study, seed=5, dim=7, backbone="resnet50")
    run = fit_head(study, [embeddings, other], out=tmp_path / "run")
    assert [recipe.backbone for recipe in run.recipes] == ["densenet121", "resnet50"]
    assert load_head(run).dim == DIM + 7
    assert run.fitted_on.passes == (0,)
    with pytest.raises(RecipeError, match="differs"):
        predict(run, [other, embeddings], study)
    with pytest.raises(RecipeError, match="2 joined"):
        predict(run, embeddings, study)


def test_another_recipe_is_refused_and_the_field_named(study, embeddings, write_file, tmp_path):
    run = fit_head(study, embeddings, out=tmp_path / "run")
    other = write_file(tmp_path / "o.h5", study, size=320)
    with pytest.raises(RecipeError, match=r"size: 224 against 320"):
        predict(run, other, study)


def test_more_passes_are_no_other_recipe(study, embeddings, write_file, tmp_path):
    run = fit_head(study, embeddings, out=tmp_path / "run")
    plain = write_file(tmp_path / "plain.h5", study)
    assert list(predict(run, plain, study)["image_id"]) == study.ids.tolist()


def test_a_file_of_another_study_and_a_lacking_image_are_told(study, embeddings, tmp_path):
    table = study.table.copy()
    table["image_id"] = "x" + table["image_id"]
    with pytest.raises(EmbeddingFileError, match="none of the 240 images"):
        fit_head(Study(table, LABELS, "other"), embeddings, out=tmp_path / "a")
    table = study.table.copy()
    table.loc[0, "image_id"] = "new.png"
    with pytest.raises(EmbeddingFileError, match=r"lacks 1 of the 240 images.*new\.png"):
        fit_head(Study(table, LABELS, "other"), embeddings, out=tmp_path / "b")


@pytest.mark.parametrize("memory", [1, 40_000])
def test_reading_in_chunks_gives_the_same_bits(memory, study, embeddings, tmp_path, monkeypatch):
    monkeypatch.setattr(solver, "DENSE_BYTES", 0)
    monkeypatch.setattr("cxrfeat._heads.solver.rows.BLOCK", 64)
    whole = fit_head(study, embeddings, out=tmp_path / "whole", weighting="paper")
    parts = fit_head(study, embeddings, out=tmp_path / "parts", weighting="paper", memory=memory)
    assert (tmp_path / "whole/predictions.csv").read_bytes() == (tmp_path / "parts/predictions.csv").read_bytes()
    assert (load_head(whole).linear[0] == load_head(parts).linear[0]).all()


def test_an_existing_run_is_not_replaced_unasked(study, embeddings, tmp_path):
    fit_head(study, embeddings, out=tmp_path / "run")
    with pytest.raises(HeadError, match="`overwrite=True`"):
        fit_head(study, embeddings, out=tmp_path / "run")
    fit_head(study, embeddings, out=tmp_path / "run", overwrite=True)


def test_an_unconverged_fit_warns_and_is_marked(study, embeddings, tmp_path):
    with pytest.warns(UserWarning, match="did not reach"):
        run = fit_head(study, embeddings, out=tmp_path / "run", settings={"steps": 1, "tol": 1e-12})
    assert run.converged is False


@pytest.mark.parametrize("head", ["svm", "lda", "knn", "random-forest", "mlp", "sklearn.naive_bayes:GaussianNB"])
def test_every_kind_predicts_the_same_after_loading_elsewhere(head, study, embeddings, tmp_path):
    settings = {"random-forest": {"n_estimators": 5}, "mlp": {"max_iter": 5}}.get(head, {})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a network of five epochs has not converged, and says so
        run = fit_head(study, embeddings, head, out=tmp_path / "run", settings=settings)
    moved = shutil.move(tmp_path / "run", tmp_path / "elsewhere")
    again = predict(moved, embeddings, study).set_index("image_id")[list(LABELS)]
    assert again.to_numpy() == pytest.approx(Run.open(moved).predictions().to_numpy(), abs=1e-8)
    assert run.kind == head


@pytest.mark.parametrize("head", ["knn", "lda"])
def test_a_head_without_sample_weights_refuses_class_weights(head, study, embeddings, tmp_path):
    with pytest.raises(HeadError, match="takes no sample weights"):
        fit_head(study, embeddings, head, out=tmp_path / "run", weighting="paper")
    assert not (tmp_path / "run" / "head.json").exists()


@pytest.mark.parametrize(
    ("head", "settings", "message"),
    [
        ("forest", {}, "unknown head"),
        ("sklearn.nowhere:Class", {}, "cannot be imported"),
        ("sklearn.svm:SVC", {"c": 1}, "no setting 'c'"),
        ("logistic", {"penalty": "l1"}, "it has C, tol"),
        ("logistic", {"C": "much"}, "is like"),
    ],
)
def test_what_cannot_be_fitted_is_said_in_a_sentence(head, settings, message, study, embeddings, tmp_path):
    with pytest.raises(HeadError, match=message):
        fit_head(study, embeddings, head, out=tmp_path / "run", settings=settings)


def test_numbers_in_head_json_are_json(study, embeddings, tmp_path):
    values = np.zeros(len(study))
    run = fit_head(with_column(study, "Hernia", values), embeddings, out=tmp_path / "run")
    text = (run.path / "head.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail)["decision"]["thresholds"]["Hernia"] is None
    assert pd.read_csv(run.path / "predictions.csv").columns.tolist() == ["image_id", "split", *LABELS]


def test_labels_fitted_side_by_side_are_the_same_as_one_after_the_other(study, embeddings, tmp_path, monkeypatch):
    alone = fit_head(study, embeddings, "svm", out=tmp_path / "alone")
    monkeypatch.setattr(estimators, "PARALLEL_BYTES", 0)
    together = fit_head(study, embeddings, "svm", out=tmp_path / "together")
    assert (load_head(alone).linear[0] == load_head(together).linear[0]).all()


def test_a_column_of_texts_is_not_copied_into_the_run(study, embeddings, tmp_path, caplog):
    table = study.table.assign(
        report=[f"narrative {k}" for k in range(len(study))], site=["a", "b"] * (len(study) // 2)
    )
    with caplog.at_level("INFO", logger="cxrfeat"):
        run = fit_head(Study(table, LABELS, "small", study.root), embeddings, out=tmp_path / "run")
    assert "report" not in run.study().table and "site" in run.study().table
    assert "report" in caplog.text and "narrative" not in (run.path / "study.csv").read_text()


def test_a_fit_of_scikit_learns_that_did_not_converge_is_one_sentence(study, embeddings, tmp_path):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        run = fit_head(study, embeddings, "mlp", out=tmp_path / "run", settings={"max_iter": 1}, weighting="balanced")
    assert [str(w.message) for w in said] == [
        "the mlp head stopped before it converged; raise its iterations, such as max_iter."
    ]
    assert not run.converged


def test_embeddings_are_chosen_by_backbone(study, write_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_file(tmp_path / "cache/small-densenet121-1.h5", study)
    write_file(tmp_path / "cache/small-resnet50-1.h5", study, dim=7, backbone="resnet50")
    dims = [fit_head(study, backbone=name).dims for name in ("densenet121", "resnet50", ("resnet50", "densenet121"))]
    assert dims == [(12,), (7,), (7, 12)]
    with pytest.raises(NotFoundError, match="vgg"):
        fit_head(study, backbone="vgg")
    with pytest.raises(HeadError, match="give one of them"):
        fit_head(study, tmp_path / "cache/small-resnet50-1.h5", backbone="resnet50")


def test_a_file_of_two_patients_in_two_splits_is_named_once(study, tmp_path, caplog):
    path, sha256 = tmp_path / "e.h5", np.zeros((len(study), 32), np.uint8)
    first, other = (int(np.flatnonzero(study.table["split"] == split)[0]) for split in ("train", "test"))
    sha256[[first, other]] = 7
    with Writer.open(path, Recipe("densenet121", "random:0", "0" * 64, "relu", "torch", 224), 4, {}) as writer:
        writer.append(study.ids.tolist(), sha256, np.random.default_rng(0).random((1, len(study), 4), np.float32))
        writer.publish(study.ids)
    fit_head(study, path, out=tmp_path / "run")
    found = [record.getMessage() for record in caplog.records if "byte-identical" in record.getMessage()]
    assert len(found) == 1 and study.ids[first] in found[0] and study.ids[other] in found[0]
