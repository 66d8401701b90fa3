"""A checkpoint's own classifier is a run: its probabilities are the package's, and its first study can be evaluated."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import cxrfeat as cxr
from cxrfeat._backbones import library
from cxrfeat._backbones.checkpoints.layouts import LAYOUTS
from cxrfeat._backbones.library import Card
from cxrfeat._heads.decision import Calibration, Step
from cxrfeat._heads.imported import save_run
from cxrfeat._heads.prediction import load_head
from cxrfeat._heads.registry import HEADS
from cxrfeat._recipe import Recipe
from cxrfeat._run import Run
from cxrfeat.errors import HeadError, NotFoundError, OutputError, WeightsError

TRUTH = Path(__file__).parents[1] / "data" / "pytorch-2.15" / "embeddings.npz"


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("CXRFEAT_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def keep():
    """Keep weights with a classifier of these labels, and give the card and a recipe of them."""

    def make(labels, points=(), dim=12, kernel=None, bias=None, name="theirs"):
        rng = np.random.default_rng(0)
        kernel = rng.standard_normal((dim, len(labels))) if kernel is None else kernel
        bias = rng.standard_normal(len(labels)) if bias is None else bias
        card = Card(name, "densenet121", "", labels=labels, op_threshs=points, source="best.pt", trained_on="films")
        card = library.save_arrays(card, {"conv1_conv/kernel": np.ones((1, 1, 1, 1))}, {"kernel": kernel, "bias": bias})
        recipe = Recipe("densenet121", name, card.values_sha256, "relu", "torch", 224, weights_by="values")
        return card, recipe

    return make


@pytest.mark.parametrize(
    ("key", "layout", "state"),
    [("densenet121", "chexnet-weng", {}), ("xrv-nih", "xrv-nih", {"channels": 1, "outputs": 18})],
)
def test_probabilities_are_those_of_the_original_package(tmp_path, checkpoints, keep, key, layout, state):
    truth, of, state = np.load(TRUTH), LAYOUTS[layout], checkpoints.state_dict(**state)
    top = state["classifier.weight"].T, state["classifier.bias"]
    card, recipe = keep(of.labels, of.op_threshs, 1024, *top)
    head = load_head(save_run(card, recipe, tmp_path / "run"))
    named = [i for i, label in enumerate(of.labels) if label]
    assert head.labels == tuple(of.labels[i] for i in named)
    np.testing.assert_allclose(head.probabilities(truth[key]), truth[f"{key}/probability"][:, named], atol=1e-5)


def test_an_operating_point_becomes_one_half():
    """TorchXRayVision's `op_norm`, by hand: 0.1 of 0.2 is 0.25; 0.6 is half way from 0.2 to 1."""
    step = Step("operating-point", point=0.2)
    z = np.log(np.array([0.1, 0.2, 0.6]) / np.array([0.9, 0.8, 0.4]))
    np.testing.assert_allclose(step.apply(z), [0.25, 0.5, 0.75])
    assert np.isnan(step.apply(np.array([np.nan]))).all()
    whole = Calibration("operating-point", (step, Step()))
    assert Calibration.from_dict(whole.to_dict(), 2) == whole


def test_thresholds_are_the_operating_points_and_untrained_outputs_are_nan(tmp_path, keep):
    card, recipe = keep(("Mass", "", "Edema", "Hernia"), (0.25, None, 0.5, None))
    run = save_run(card, recipe, tmp_path / "run")
    assert run.labels == ("Mass", "Edema", "Hernia")
    assert run.unfitted == ("Hernia",)
    assert {k: v for k, v in run.thresholds.items() if v == v} == {"Mass": 0.5, "Edema": 0.5}
    assert run.notes["op_threshs"] == {"Mass": 0.25, "Edema": 0.5}
    p = load_head(run).probabilities(np.random.default_rng(1).standard_normal((5, 12)).astype(np.float32))
    assert np.isnan(p[:, 2]).all()
    assert not np.isnan(p[:, :2]).any()
    without, recipe = keep(("Mass", "Edema"), name="plain")
    assert np.isnan(list(save_run(without, recipe, tmp_path / "plain").thresholds.values())).all()


def test_the_first_study_becomes_the_runs_own(tmp_path, keep, make_study, write_file, caplog):
    card, recipe = keep(("Mass", "Edema", "Fracture"))
    run = save_run(card, recipe, tmp_path / "runs" / "theirs")
    with pytest.raises(NotFoundError, match="imported classifier without a study"):
        cxr.evaluate(run)
    study, other = make_study(), make_study(name="other", seed=3)
    changes = {field: getattr(recipe, field) for field in ("weights", "weights_sha256", "weights_by")}
    file = write_file(tmp_path / "a.h5", study, **changes)
    predicted = cxr.predict(run, study, embeddings=file, save=True)
    run = Run.open(run.path)
    assert (run.study_name, run.study().labels) == ("small", ("Mass", "Edema", "Fracture"))
    assert predicted.attrs["path"] == run.path / "predictions.csv"
    found = cxr.evaluate(run, replicates=0)
    frame = found.to_frame().set_index("label")
    assert np.isnan(frame.loc["Fracture", "auroc"])  # the study says nothing of it
    truth = study.split("test")
    rows = predicted.set_index("image_id").loc[truth.ids]
    from sklearn.metrics import roc_auc_score

    assert frame.loc["Mass", "auroc"] == pytest.approx(roc_auc_score(truth.y[:, 0], rows["Mass"]))
    cxr.predict(run, other, embeddings=write_file(tmp_path / "b.h5", other, **changes), save=True)
    assert Run.open(run.path).study_name == "small"
    assert (run.path / "predictions-other.csv").is_file()
    again = cxr.predict(run, study, embeddings=file, save=True)
    pd.testing.assert_frame_equal(again, predicted)
    fitted = cxr.fit_head(study, file, out=tmp_path / "runs" / "ours", labels=["Mass", "Edema"])
    compared = cxr.compare(run, fitted, replicates=0, intersection=True)
    assert {"Mass", "Edema"} <= {row["label"] for row in compared.rows}
    assert "imported head on densenet121, theirs" in run.describe()


def test_a_study_without_its_labels_is_predicted_and_does_not_become_its_own(tmp_path, keep, make_study, write_file):
    card, recipe = keep(("Fracture",))
    run = save_run(card, recipe, tmp_path / "run")
    changes = {field: getattr(recipe, field) for field in ("weights", "weights_sha256", "weights_by")}
    study = make_study()
    cxr.predict(run, study, embeddings=write_file(tmp_path / "a.h5", study, **changes), save=True)
    assert Run.open(run.path).study_name == ""
    assert (run.path / "predictions-small.csv").is_file()


def test_a_run_is_never_replaced_by_accident(tmp_path, keep):
    card, recipe = keep(("Mass",))
    save_run(card, recipe, tmp_path / "run")
    with pytest.raises(OutputError, match="exists already"):
        save_run(card, recipe, tmp_path / "run")
    save_run(card, recipe, tmp_path / "run", overwrite=True)
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="exists already"):
        save_run(card, recipe, tmp_path / "folder", overwrite=True)
    nameless, recipe = keep((), name="none")
    with pytest.raises(WeightsError, match="no classifier"):
        save_run(nameless, recipe, tmp_path / "none")


def test_an_imported_head_cannot_be_fitted(study, embeddings, tmp_path):
    assert "imported" not in HEADS.names
    with pytest.raises(HeadError, match="is not fitted; choose another kind"):
        cxr.fit_head(study, embeddings, head="imported", out=tmp_path / "run")
