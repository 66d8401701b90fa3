"""A run on another study: found by recipe and images, joined by names of labels, refused where it was fitted on it."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from cxrfeat_cli.main import cli
from sklearn.metrics import roc_auc_score

import cxrfeat as cxr
from cxrfeat._study import Study
from cxrfeat.errors import EvaluationError, LeakageError

DIM = 12


def hospital(name: str, n: int, labels: list[str], seed: int, strength: float, prevalence: float = 0.3) -> Study:
    """A study of n images without files, and its embeddings in cache/, in which feature j tells label j."""
    rng = np.random.default_rng(seed)
    y = (rng.random((n, len(labels))) < prevalence).astype(float)
    x = rng.normal(size=(n, DIM)).astype(np.float32)
    x[:, : len(labels)] += strength * y
    ids = [f"{name}-{i}.png" for i in range(n)]
    table = pd.DataFrame({"image_id": ids, "path": ids, "patient_id": [f"{name}{i // 2}" for i in range(n)]})
    table["split"] = np.where(np.arange(n) < n // 2, "train", np.where(np.arange(n) < 3 * n // 4, "val", "test"))
    table[labels] = y
    cxr.cache.import_(x, f"cache/of-{name}.h5", ids=ids, backbone="ours").close()
    return Study(table, tuple(labels), name, Path.cwd())


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Two hospitals with a run each; the second one calls the findings otherwise, and its images are harder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("project"))
        home = hospital("home", 480, ["Effusion", "Mass", "Nodule"], 0, 1.5)
        away = hospital("away", 400, ["Pleural Effusion", "Mass", "Fracture"], 1, 0.7, 0.15)
        home.save(), away.save()
        yield {
            "home": cxr.fit_head(home, "cache/of-home.h5", out="runs/home"),
            "away": cxr.fit_head(away, "cache/of-away.h5", out="runs/away"),
        }


@pytest.fixture(scope="module")
def found(project):
    return cxr.evaluate("home", on="away", replicates=200)


def test_labels_are_joined_by_name_and_the_others_listed(found):
    (one,) = found.transfers
    assert one.other.labels == ("Effusion", "Mass") and len(one.other) == 400
    assert one.left_out == {"Fracture": "the run does not predict it", "Nodule": "not in study away"}
    assert any("Nodule (not in study away)" in note for note in found.notes())


def test_the_numbers_are_those_of_the_run_as_it_is(found, project):
    """Predictions by `predict`, scored by scikit-learn; the drop is against the own test split."""
    study = cxr.read_study("away")
    p = cxr.predict("home", study).set_index("image_id").loc[study.ids]
    own = cxr.evaluate("home", replicates=0, shortcuts=False)
    rows = {row["label"]: row for row in found.transfers[0].rows}
    for label, there in (("Effusion", "Pleural Effusion"), ("Mass", "Mass")):
        assert rows[label]["auroc"] == pytest.approx(roc_auc_score(study.table[there], p[label]))
        before = next(row for row in own.rows if row["label"] == label)
        assert rows[label]["auroc_own"] == before["auroc"] and rows[label]["ppv_own"] == before["ppv"]
        assert rows[label]["threshold"] == project["home"].thresholds[label]
    macro = found.transfers[0].rows[-1]
    assert macro["over"] == ["Effusion", "Mass"]
    low, high = macro["auroc_drop_bootstrap"]
    assert 0 < low < macro["auroc_drop"] < high  # the other hospital's images are harder


def test_it_prints_in_every_form_and_draws_a_heat_map(found, tmp_path):
    text = repr(found)
    for part in (
        "home on away",
        "drop",
        "by prevalence",
        "recalibrated",
        "Prevalence does not change AUROC, sens., spec.",
    ):
        assert part in text
    assert "<table>" in found._repr_html_() and found.render("latex").count(r"\begin{table}") == 3
    frame = found.to_frame()
    assert list(frame["label"]) == ["Effusion", "Mass", "macro"] and "ppv_at_own_prevalence" in frame
    names = {path.name for path in found.save(tmp_path)}
    assert names == {"external.json", "external.csv", "external.md", "heatmap.png", "heatmap.svg", "heatmap.csv"}
    assert json.loads((tmp_path / "external.json").read_text())["transfers"][0]["macro"]["auroc_drop"] > 0
    drawn = pd.read_csv(tmp_path / "heatmap.csv", index_col="row")
    assert list(drawn) == ["own test split", "away"] and list(drawn.index) == ["Effusion", "Mass", "macro"]


def test_several_runs_and_studies_make_the_table_of_papers(project):
    found = cxr.evaluate(["home", "away"], on=["home:test", "away:test"], replicates=50)
    rows = found.matrix()
    assert [row["run"] for row in rows] == ["home", "away"] and list(rows[0])[1:] == [
        "own test split",
        "home:test",
        "away:test",
    ]
    # On its own test split a run is what it is; the labels are those that both have.
    assert rows[0]["own test split"].split()[0] == rows[0]["home:test"].split()[0]
    assert rows[1]["own test split"].split()[0] == rows[1]["away:test"].split()[0]
    assert found.labels == ["Effusion", "Mass"]
    assert list(found.plot().data.columns) == ["row", "own test split", "home:test", "away:test"]


def test_what_the_run_was_fitted_on_is_refused(project):
    with pytest.raises(LeakageError, match="360 images of study 'home' were used in fitting run 'home'"):
        cxr.evaluate("home", on="home", replicates=0)
    found = cxr.evaluate("home", on="home", replicates=0, allow_contaminated=True)
    assert "NOT A FAIR TEST" in found.title() and found.problems()


def test_the_same_patient_ids_are_told_and_may_be_chance(project):
    """Two hospitals number their patients from 1; of one dataset the same number is the same patient."""
    study = cxr.read_study("away")
    same = Study(
        study.table.assign(patient_id=[f"home{i // 2}" for i in range(len(study))]), study.labels, "away", study.root
    )
    found = cxr.evaluate("home", on=same, replicates=0)
    assert any("180 patient ids" in text and "by chance" in text for text in found.problems())
    runs = cxr.load_run("home")
    provenance = json.loads((runs.path / "study.provenance.json").read_text())
    assert "dataset" not in provenance  # nothing says that they are of one dataset


def test_identical_images_are_found_under_other_ids(project, make_study):
    """By the hashes that embedding files keep, where neither ids nor patients say anything."""
    study = make_study(20)
    study.save("studies/tiny.csv")
    rng = np.random.default_rng(0)
    cxr.cache.import_(
        rng.normal(size=(20, DIM)),
        "cache/of-tiny.h5",
        ids=study.table["path"].tolist(),
        images=study.root,
        backbone="ours",
    ).close()
    named = Study(study.table.assign(image_id=study.table["path"]), study.labels, "tiny", study.root)
    run = cxr.fit_head(named, "cache/of-tiny.h5", out="runs/tiny", threshold="0.5")
    moved = named.root.parent / "renamed"
    named.root.rename(moved)
    ids = [f"x{name}" for name in named.ids]
    for name in named.ids:
        (moved / name).rename(moved / f"x{name}")
    table = named.table.assign(image_id=ids, path=ids, patient_id=ids)
    cxr.cache.import_(rng.normal(size=(20, DIM)), "cache/x.h5", ids=ids, images=moved, backbone="ours").close()
    with pytest.raises(LeakageError, match="16 images of study 'renamed'"):
        cxr.evaluate(run, on=Study(table, named.labels, "renamed", moved), replicates=0)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"by": ["view"]}, "leave it out with `on`"),
        ({"split": "train"}, "was fitted on split 'train'"),
    ],
)
def test_what_cannot_be_asked_is_a_sentence(project, options, sentence):
    with pytest.raises(EvaluationError, match=sentence):
        cxr.evaluate("home", on="away", replicates=0, **options)


def test_several_runs_without_a_study_are_for_compare(project):
    with pytest.raises(EvaluationError, match="`compare`"):
        cxr.evaluate(["home", "away"])


def test_the_command(project):
    result = CliRunner().invoke(cli, ["evaluate", "--run", "home", "--on", "away", "--bootstrap", "20"])
    assert result.exit_code == 0, result.output
    assert "runs/home/external/external.json" in result.stdout.splitlines()[-1]
    assert "away: macro AUROC" in result.stderr and "was not checked for copies" in result.stderr
    result = CliRunner().invoke(cli, ["evaluate", "--run", "home", "--on", "home"])
    assert result.exit_code == 2 and "--allow-contaminated evaluates it" in result.stderr
    result = CliRunner().invoke(
        cli, ["evaluate", "--run", "home", "--on", "away", "--bootstrap", "0", "--format", "csv"]
    )
    assert result.stdout.startswith("label,") or result.stdout.startswith("run,")


def test_embeddings_are_made_where_there_are_none(trained, make_study, monkeypatch, tmp_path, caplog):
    monkeypatch.chdir(tmp_path)
    study = make_study(12, ("Effusion", "Mass"))
    with caplog.at_level(logging.INFO, "cxrfeat"):
        found = cxr.evaluate(trained.run, on=study, replicates=0)
    assert "has no embeddings by" in caplog.text and len(list(Path("cache").glob("tiny-*.h5"))) == 1
    caplog.clear()
    again = cxr.evaluate(trained.run, on=study, replicates=0)
    assert "has no embeddings by" not in caplog.text and again.records() == found.records()
    assert found.random and "RANDOM WEIGHTS" in found.title()
