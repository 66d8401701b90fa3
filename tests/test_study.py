"""The study: what is checked when it is made, how rows are joined, and that it survives being saved and moved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxrfeat._labels import NIH_LABELS
from cxrfeat._study import Study, identical_images, numbers
from cxrfeat._study import read_study_file as read_study
from cxrfeat.errors import LeakageError, NotFoundError, StudyError


def frame(**changes) -> pd.DataFrame:
    columns = {
        "image_id": ["a", "b", "c", "d"],
        "path": ["a.png", "b.png", "c.png", "d.png"],
        "patient_id": ["1", "1", "2", "3"],
        "split": ["train", "train", "val", "test"],
        "Mass": [1.0, 0.0, np.nan, 1.0],
        "Edema": [0.0, 0.0, 1.0, 1.0],
    } | changes
    return pd.DataFrame({k: v for k, v in columns.items() if v is not None})


def study(**changes) -> Study:
    return Study(frame(**changes), ("Mass", "Edema"), "four", Path("/images"))


def test_the_parts_of_a_study():
    four = study()
    assert len(four) == 4
    assert four.splits == ("train", "val", "test")
    assert four.ids.tolist() == ["a", "b", "c", "d"]
    np.testing.assert_array_equal(four.y, [[1, 0], [0, 0], [np.nan, 1], [1, 1]])
    assert four.paths()[0] == Path("/images/a.png")
    assert four.split("val", "test").ids.tolist() == ["c", "d"]
    assert four.take(np.array([True, False, False, True])).ids.tolist() == ["a", "d"]
    with pytest.raises(StudyError, match="no images in split 'holdout'; it has train, val, test"):
        four.split("holdout")


def test_rows_are_joined_by_id_in_the_order_asked():
    four = study()
    np.testing.assert_array_equal(four.join(["d", "a"]).y, four.y[[3, 0]])
    with pytest.raises(StudyError, match="1 of 2 images are not in study 'four', the first is 'x'"):
        four.join(["a", "x"])


def test_labels_are_chosen_by_any_of_their_names():
    table = frame(Infiltration=[0.0, 1.0, 0.0, 1.0])
    three = Study(table, ("Mass", "Edema", "Infiltration"), "four")
    chosen = three.with_labels(["infiltrate", "Mass"])
    assert chosen.labels == ("Infiltration", "Mass")
    assert "Edema" not in chosen.table
    with pytest.raises(StudyError, match="unknown label 'Hernia'"):
        three.with_labels(["Hernia"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Mass": None}, "no column 'Mass'"),
        ({"patient_id": None}, "no column 'patient_id'"),
        ({"image_id": ["a", "b", "a", "d"]}, r"row 4: image_id 'a' is duplicated \(1 duplicated"),
        ({"image_id": ["a", "", "c", "d"]}, "row 3: image_id is empty"),
        ({"patient_id": ["1", "1", "2", " "]}, "row 5: patient_id is empty"),
    ],
)
def test_a_table_that_is_no_study(changes, message):
    with pytest.raises(StudyError, match=message):
        study(**changes)


def test_no_rows():
    with pytest.raises(StudyError, match="has no images"):
        Study(frame().iloc[:0], ("Mass",), "none")


def test_leakage_names_the_patients_and_counts_each_pair_of_splits():
    with pytest.raises(LeakageError) as caught:
        study(patient_id=["1", "2", "2", "1"])
    assert caught.value.patients == ("1", "2")
    assert "test and train: 1" in str(caught.value)
    assert "train and val: 1" in str(caught.value)
    assert "1, 2" in str(caught.value)


def test_images_of_the_same_bytes_in_two_splits_are_named(caplog):
    """Ids and patients differ, so that only the files' hashes show it."""
    four = study()
    sha256 = np.arange(128, dtype=np.uint8).reshape(4, 32) + 1
    assert identical_images(four, sha256) == []
    sha256[3] = sha256[0]
    sha256[1] = sha256[0]  # of the same split
    assert identical_images(four, sha256) == [("a", "d")]
    assert "1 image is byte-identical to one in another split, of another patient: a and d." in caplog.text
    assert identical_images(four, np.zeros((4, 32), np.uint8)) == [], "nothing is known of imported embeddings"
    assert identical_images(study(split=["train"] * 4), sha256) == []
    assert identical_images(study(split=["train", "train", "val", ""]), sha256) == []


def test_images_without_a_split_do_not_leak():
    assert study(patient_id=["1", "1", "2", "1"], split=["train", "train", "val", ""]).splits == ("train", "val")


def test_saved_and_read_it_is_the_same_study_and_its_images_are_found(make_study, tmp_path):
    tiny = make_study(12)
    saved = tiny.save(tmp_path / "studies" / "deep" / "tiny.csv")
    again = read_study(saved)
    assert again.sha256 == tiny.sha256
    assert again.labels == tiny.labels
    assert [p.resolve() for p in again.paths()] == [p.resolve() for p in tiny.paths()]
    assert not any(Path(p).is_absolute() for p in again.table["path"]), "a study can move together with its images"


def test_how_a_study_was_made_stays_with_it_until_its_table_is_edited(make_study, tmp_path, caplog):
    tiny = make_study(12).with_splits(["train"] * 8 + ["test"] * 4, origin="by hand", version=7)
    saved = tiny.save(tmp_path / "tiny.csv")
    again = read_study(saved)
    assert again.provenance == tiny.provenance == {"splits": {"origin": "by hand", "version": 7}}
    assert again.split("test").with_labels(["Mass"]).provenance == tiny.provenance
    saved.write_text(saved.read_text().replace("train", "val"))
    assert read_study(saved).provenance == {} and "how the study was made is not known" in caplog.text
    caplog.clear()
    (tmp_path / "tiny.provenance.json").write_text("[1]")
    assert read_study(saved).provenance == {} and "or is damaged" in caplog.text
    saved = tiny.save(tmp_path / "again.csv")
    beside = tmp_path / "again.provenance.json"
    beside.write_text(beside.read_text().replace("by hand", "by hamd"))
    assert read_study(saved).provenance == {}, "one letter of it"
    with pytest.raises(LeakageError):
        tiny.with_splits(["train", "test"] * 6)


def test_saving_keeps_absolute_and_nested_paths_right(tmp_path):
    table = frame(path=[str(tmp_path / "far" / "a.png"), "b.png", "sub/c.png", "../d.png"])
    four = Study(table, ("Mass", "Edema"), "four", tmp_path / "root")
    again = read_study(four.save(tmp_path / "studies" / "four.csv"))
    assert [p.resolve() for p in again.paths()] == [p.resolve() for p in four.paths()]


def test_the_hash_is_of_labels_and_sides_and_not_of_paths_or_row_order():
    four = study()
    assert study(path=["x", "y", "z", "w"]).sha256 == four.sha256
    assert four.take([3, 2, 1, 0]).sha256 == four.sha256
    assert study(Mass=[0.0, 0.0, np.nan, 1.0]).sha256 != four.sha256
    assert study(split=["train", "train", "test", "val"]).sha256 != four.sha256


def test_what_is_a_label_when_a_file_is_read(tmp_path):
    (tmp_path / "s.csv").write_text(
        "image_id,path,patient_id,split,sex,ward,Zebra,Mass,Edema,empty\n"
        "a,a.png,1,train,0,3,1,,1.0,\n"
        "b,b.png,2,test,1,4,0, 1 ,0,\n"
    )
    found = read_study(tmp_path / "s.csv")
    assert found.labels == ("Mass", "Edema", "Zebra"), "the 14 findings first, in their order"
    np.testing.assert_array_equal(found.y, [[np.nan, 1, 1], [1, 0, 0]])
    assert found.table["sex"].tolist() == ["0", "1"], "a reserved column is never a label"
    assert read_study(tmp_path / "s.csv", labels=["Zebra"]).labels == ("Zebra",)
    with pytest.raises(StudyError, match="unknown label 'Lion'; the labels are Mass, Edema, Zebra"):
        read_study(tmp_path / "s.csv", labels=["Lion"])


def test_one_stray_cell_does_not_drop_a_label_of_a_study_file(tmp_path):
    rows = [f"{n},{n}.png,{i},train,{i % 2}" for i, n in enumerate("abcdef")]
    rows[2] = rows[2][:-1] + "-1"
    (tmp_path / "s.csv").write_text("\n".join(["image_id,path,patient_id,split,Mass", *rows]))
    with pytest.raises(StudyError, match="row 4, column 'Mass': '-1' is not a label"):
        read_study(tmp_path / "s.csv")


def test_files_that_are_no_study(tmp_path):
    with pytest.raises(NotFoundError, match="there is no file"):
        read_study(tmp_path / "nowhere.csv")
    (tmp_path / "x.csv").write_text("image_id,path,split,Mass\na,a.png,train,1\n")
    with pytest.raises(StudyError, match="no column 'patient_id'"):
        read_study(tmp_path / "x.csv")
    (tmp_path / "y.csv").write_bytes(b"\x89PNG\r\n\x1a\n\xff\xfe\x00")
    with pytest.raises(StudyError):
        read_study(tmp_path / "y.csv")


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.one_of(st.floats(-1e6, 1e6).map(str), st.integers(-9, 9).map(str), st.sampled_from(["", "x", " 7 "])))
)
def test_numbers_reads_what_pandas_reads(texts):
    column = pd.Series(texts, dtype=object)
    np.testing.assert_array_equal(
        numbers(column), pd.to_numeric(column.str.strip() if texts else column, errors="coerce")
    )


def test_the_sample_is_whole(sample_study):
    assert len(sample_study) == 150
    assert len(set(sample_study.patients)) == 136
    assert sample_study.labels == NIH_LABELS
    assert (sample_study.y.sum(axis=0) >= 14).all()
