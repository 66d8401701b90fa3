"""The Keras head: its loss by hand, exact resumption, and a file that cannot carry code."""

from __future__ import annotations

import json
import shutil
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from cxrfeat._files import sha256
from cxrfeat._heads import fit_head, load_head
from cxrfeat._run import Run
from cxrfeat.errors import HeadError

keras = pytest.importorskip("keras")


@pytest.fixture(scope="module")
def fitted(study, embeddings, tmp_path_factory):
    """Six epochs in one go, with dropout and a hidden layer: everything that draws at random."""
    out = tmp_path_factory.mktemp("keras") / "run"
    return fit_head(study, embeddings, "keras", out=out, weighting="paper", settings=SETTINGS)


SETTINGS = {"epochs": 6, "hidden": 5, "dropout": 0.3, "patience": 100}


def test_history_and_head_are_there(fitted):
    history = np.genfromtxt(fitted.path / "history.csv", delimiter=",", names=True)
    assert history.dtype.names == ("epoch", "loss", "val_loss")
    assert len(history) == 6
    assert history["loss"][-1] < history["loss"][0]


def test_the_loss_is_the_papers_computed_by_hand(study, embeddings, tmp_path):
    """One step over all rows: the first epoch's loss is that of the untrained head."""
    from cxrfeat._heads.keras_head import build

    table = {"epochs": 1, "batch": 10_000}
    run = fit_head(study, embeddings, "keras", out=tmp_path / "run", weighting="paper", settings=table, passes="0")
    untrained = build(12, 3, (), 0.0, "sigmoid", 0)
    from cxrfeat._heads.features import Features

    train = study.split("train")
    with Features([embeddings]) as features:
        p = np.asarray(untrained(features.matrix(train.ids)), dtype=float)
    share = train.y.mean(axis=0)  # w_p is the share of negatives, w_n that of positives
    loss = -(1 - share) * train.y * np.log(p) - share * (1 - train.y) * np.log(1 - p)
    history = np.genfromtxt(run.path / "history.csv", delimiter=",", names=True)
    assert float(history["loss"]) == pytest.approx(loss.mean(), rel=1e-4)


def test_the_loss_of_a_probability_is_its_share_of_both_classes(study, embeddings, tmp_path):
    """As above, with a label that is uncertain in every third row; it is unknown to everything but the loss."""
    from cxrfeat._heads.features import Features
    from cxrfeat._heads.keras_head import build

    label = study.labels[0]
    table = study.table.assign(**{label: study.table[label].mask(np.arange(len(study)) % 3 == 0, 0.3)})
    soft = replace(study, table=table, provenance={"soft": [label]})
    settings = {"epochs": 1, "batch": 10_000}
    run = fit_head(soft, embeddings, "keras", out=tmp_path / "run", weighting="paper", settings=settings, passes="0")
    train = soft.split("train")
    with Features([embeddings]) as features:
        p = np.asarray(build(12, 3, (), 0.0, "sigmoid", 0)(features.matrix(train.ids)), dtype=float)
    share, t = np.nanmean(train.y, axis=0), train.targets
    loss = -(1 - share) * t * np.log(p) - share * (1 - t) * np.log(1 - p)
    history = np.genfromtxt(run.path / "history.csv", delimiter=",", names=True)
    assert float(history["loss"]) == pytest.approx(loss.mean(), rel=1e-4)
    assert run.study().provenance["soft"] == [label]
    assert np.isnan(run.study().y[:, 0]).sum() == np.isnan(soft.y[:, 0]).sum() > 0


def test_stopped_and_resumed_is_the_same_to_the_last_bit(fitted, study, embeddings, tmp_path):
    options = {"out": tmp_path / "run", "weighting": "paper"}
    fit_head(study, embeddings, "keras", settings={**SETTINGS, "epochs": 2}, **options)
    (tmp_path / "run" / "head.json").unlink()  # as if it had been killed after the second epoch
    resumed = fit_head(study, embeddings, "keras", settings=SETTINGS, resume=True, **options)
    assert (resumed.path / "history.csv").read_bytes() == (fitted.path / "history.csv").read_bytes()
    assert (resumed.path / "predictions.csv").read_bytes() == (fitted.path / "predictions.csv").read_bytes()


def test_a_checkpoint_of_other_settings_is_refused(fitted, study, embeddings, tmp_path):
    shutil.copytree(fitted.path, tmp_path / "run")
    with pytest.raises(HeadError, match="other data or settings"):
        fit_head(
            study, embeddings, "keras", out=tmp_path / "run", weighting="paper",
            settings={**SETTINGS, "dropout": 0.1}, resume=True,
        )  # fmt: skip


def test_training_stops_early_and_keeps_the_best_epoch(study, embeddings, tmp_path):
    settings = {"epochs": 60, "patience": 2, "learning_rate": 0.3, "batch": 64}
    run = fit_head(study, embeddings, "keras", out=tmp_path / "run", settings=settings, calibration="none")
    history = np.genfromtxt(run.path / "history.csv", delimiter=",", names=True)
    best = int(history["val_loss"].argmin())
    assert len(history) == best + 3 < 60
    val = run.study().split("val")
    p = run.predictions().loc[val.ids].to_numpy()
    loss = -(val.y * np.log(p) + (1 - val.y) * np.log(1 - p)).mean()
    assert loss == pytest.approx(history["val_loss"][best], rel=1e-4)


def test_the_papers_training_stops_by_keras_accuracy_and_keeps_the_last_epoch(study, embeddings, tmp_path):
    """With a rate of almost nothing the accuracy never rises: patience + 1 epochs, and what Keras itself would show."""
    settings = {"epochs": 20, "patience": 3, "learning_rate": 1e-30, "activation": "softmax", "monitor": "accuracy"}
    run = fit_head(study, embeddings, "keras", out=tmp_path / "run", settings=settings, passes="0", calibration="none")
    history = np.genfromtxt(run.path / "history.csv", delimiter=",", names=True)
    train = study.split("train")
    metric = keras.metrics.CategoricalAccuracy()
    metric.update_state(train.y, run.predictions().loc[train.ids].to_numpy())
    assert len(history) == 4 and history["accuracy"][-1] == pytest.approx(float(metric.result()), abs=1e-6)
    stopped = fit_head(
        study, embeddings, "keras", out=tmp_path / "resumed", settings={**settings, "epochs": 2}, passes="0",
        calibration="none",
    )  # fmt: skip
    (stopped.path / "head.json").unlink()  # as if it had been killed after the second epoch
    resumed = fit_head(
        study, embeddings, "keras", out=stopped.path, settings=settings, passes="0", calibration="none", resume=True
    )
    assert (resumed.path / "history.csv").read_bytes() == (run.path / "history.csv").read_bytes()


def test_a_head_without_hidden_layers_is_linear(study, embeddings, tmp_path):
    run = fit_head(study, embeddings, "keras", out=tmp_path / "run", settings={"epochs": 1, "batch": 64})
    head = load_head(shutil.move(run.path, tmp_path / "moved"))
    coef, intercept = head.linear
    x = np.random.default_rng(0).random((9, 12), dtype=np.float32)
    assert head.logits(x) == pytest.approx(x @ coef.T + intercept, abs=1e-5)
    assert np.asarray(head.model(x)) == pytest.approx(1 / (1 + np.exp(-head.logits(x))), abs=1e-6)


def test_softmax_outputs_share_one(study, embeddings, tmp_path):
    settings = {"epochs": 2, "batch": 64, "activation": "softmax"}
    run = fit_head(study, embeddings, "keras", out=tmp_path / "run", settings=settings)
    p = run.predictions().to_numpy()
    assert p.sum(axis=1) == pytest.approx(1.0)
    assert run.calibration["method"] == "none"


def test_a_lambda_layer_is_refused_and_not_run(fitted, tmp_path):
    witness = tmp_path / "payload-was-run"
    shutil.copytree(fitted.path, tmp_path / "run")
    path = tmp_path / "run" / "head.keras"
    inputs = keras.Input((12,), name="embedding")
    logits = keras.layers.Dense(3, name="logits")(inputs)
    evil = keras.layers.Lambda(lambda z, w=str(witness): (__import__("os").mkdir(w), z)[1])(logits)
    keras.Model(inputs, keras.layers.Activation("sigmoid", name="probability")(evil)).save(path)
    witness.rmdir()  # building the model has run it once
    replace(Run.open(tmp_path / "run"), files={"head.keras": sha256(path)}).save()
    with pytest.raises(HeadError, match="not loaded"):
        load_head(tmp_path / "run")
    assert not witness.exists()


def test_a_model_that_is_no_head_is_refused(fitted, tmp_path):
    shutil.copytree(fitted.path, tmp_path / "run")
    path = tmp_path / "run" / "head.keras"
    inputs = keras.Input((12,))
    keras.Model(inputs, keras.layers.BatchNormalization()(inputs)).save(path)
    replace(Run.open(tmp_path / "run"), files={"head.keras": sha256(path)}).save()
    with pytest.raises(HeadError, match="BatchNormalization"):
        load_head(tmp_path / "run")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c["layers"][1].update(class_name="TFSMLayer"), "TFSMLayer"),
        (lambda c: c["layers"][1].update(module="os", class_name="system"), "os.system"),
        (lambda c: c["layers"][1]["config"].update(units=10**9), "larger than its weights"),
        (lambda c: c.update(layers="none"), "not loaded"),
    ],
)
def test_a_network_that_is_no_head_is_refused_before_keras_sees_it(change, words, fitted, tmp_path, monkeypatch):
    shutil.copytree(fitted.path, tmp_path / "run")
    path = tmp_path / "run" / "head.keras"
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    change(config["config"])
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in {**members, "config.json": json.dumps(config).encode()}.items():
            archive.writestr(name, data)
    replace(Run.open(tmp_path / "run"), files={"head.keras": sha256(path)}).save()
    monkeypatch.setattr(keras.saving, "load_model", lambda *args, **options: pytest.fail("Keras was asked"))
    with pytest.raises(HeadError, match=words):
        load_head(tmp_path / "run")
