"""Studies and predictions as Parquet: all that the CSV has, and refused where they are something else."""

import json
import sys

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

import cxrfeat as cxr
from cxrfeat import _parquet as parquet
from cxrfeat._evaluate.scored import scored_run
from cxrfeat._run import Run, write_predictions
from cxrfeat._study import is_study_file, read_study_file
from cxrfeat.errors import HeadError, LeakageError, MissingExtraError, NotFoundError, OutputError, StudyError


@pytest.fixture
def study(films):
    """With a soft label, an unknown one, and a text that looks like a number."""
    n = len(films)
    table = films.table.assign(
        Soft=np.resize([0.0, 0.25, 1.0, np.nan], n), age=np.resize([30.0, np.nan], n), ward=np.resize(["007", ""], n)
    )
    return cxr.Study(table, (*films.labels, "Soft"), "films", films.root, {"dataset": "ours", "soft": ["Soft"]})


def test_a_parquet_study_is_the_csv_study(study, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    csv, other = (study.save(tmp_path / "studies" / f"a{ending}") for ending in (".csv", ".parquet"))
    a, b = cxr.read_study(csv), cxr.read_study(other)
    pd.testing.assert_frame_equal(a.table, b.table)
    assert (a.labels, a.sha256, dict(a.provenance)) == (b.labels, b.sha256, dict(b.provenance))
    assert a.paths() == b.paths() and b.provenance["dataset"] == "ours"
    assert is_study_file(other) and str(pq.read_schema(other).field(a.labels[0]).type) == "int8"
    # The same again is no other study; another one is, and stays.
    study.save(other)
    with pytest.raises(StudyError, match="holds another study"):
        study.split("train").save(other)
    with pytest.raises(NotFoundError, match=r"two studies of the name 'a', .*a\.csv and .*a\.parquet"):
        cxr.read_study("a")
    csv.unlink()
    assert cxr.read_study("a").sha256 == a.sha256 == cxr.read_study().sha256


def test_it_is_checked_as_a_csv_is(study, tmp_path):
    path = study.save(tmp_path / "a.parquet")
    about = tmp_path / "a.parquet.provenance.json"
    assert json.loads(about.read_text())["format"] == "cxrfeat-study"
    leaking = study.table.assign(patient_id="one")
    parquet.write(path, leaking.drop(columns="Soft"), "study", dict.fromkeys(study.labels[:-1], "float64"))
    with pytest.raises(LeakageError):
        cxr.read_study(path)
    path.write_bytes(path.read_bytes()[:300])
    assert not is_study_file(path)
    with pytest.raises(StudyError, match=r"a\.parquet"):
        cxr.read_study(path)


def test_another_table_is_a_source_and_no_study(study, tmp_path):
    path = tmp_path / "ward.parquet"
    study.table.to_parquet(path)
    assert not is_study_file(path)
    with pytest.raises(OutputError, match="file of another kind"):
        study.save(path, overwrite=True)


def test_a_file_that_says_it_has_more_rows_than_it_holds_is_not_read(study, tmp_path, monkeypatch):
    path = study.save(tmp_path / "a.parquet")
    monkeypatch.setattr(parquet, "_MOST", 10)
    monkeypatch.setattr(parquet, "_FACTOR", 0)
    with pytest.raises(StudyError, match="more than a file of its size holds"):
        cxr.read_study(path)


def test_rows_are_written_in_parts(study, tmp_path, monkeypatch):
    whole = study.save(tmp_path / "a.csv").read_bytes(), study.sha256
    monkeypatch.setattr("cxrfeat._study._AT_ONCE", 7)
    monkeypatch.setattr(parquet, "_ROWS", 5)
    assert (study.save(tmp_path / "b.csv").read_bytes(), study.sha256) == whole
    assert cxr.read_study(study.save(tmp_path / "a.parquet")).sha256 == cxr.read_study(tmp_path / "a.csv").sha256
    assert pq.ParquetFile(tmp_path / "a.parquet").num_row_groups == -(-len(study) // 5)


def test_above_so_many_images_a_run_is_parquet_and_evaluated_the_same(make_run, monkeypatch):
    run = Run.open(make_run("a"))
    before, study = scored_run(run), run.study()
    table = run.predictions().reset_index()
    table.insert(1, "split", study.join(table["image_id"].to_numpy(dtype=str)).table["split"])
    monkeypatch.setattr(parquet, "MANY", 10)
    assert parquet.ending_of(len(study)) == ".parquet"
    study.save(run.path / "study.parquet")
    write_predictions(run.path / "predictions.parquet", table)
    for name in ("study.csv", "predictions.csv"):
        (run.path / name).unlink()
    after = scored_run(run)
    assert after.p.dtype == np.float32 and list(after.ids) == list(before.ids)
    np.testing.assert_array_equal(after.truth, before.truth)
    np.testing.assert_array_equal(after.p, before.p.astype(np.float32))
    a, b = (cxr.evaluate(scored, replicates=64) for scored in (before, after))
    assert b.macro["auroc"] == pytest.approx(a.macro["auroc"], abs=1e-6)
    with pytest.raises(HeadError, match="no predictions for split 'dusk'"):
        run.predictions("dusk")


def test_without_pyarrow_the_extra_is_named(study, tmp_path, monkeypatch):
    path = study.save(tmp_path / "a.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'cxrfeat\[parquet\]'"):
        read_study_file(path)
