"""Any CSV becomes a study once it is said which column is which; what cannot be used is named by row and column."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cxrfeat import _sample as sample
from cxrfeat._datasets.reading import read_study
from cxrfeat.errors import LeakageError, NotFoundError, StudyError

PLAIN = """file,mrn,Effusion,Infiltrate,sex,ward
a.png,1,1,0,M,A
b.png,2,0,1,F,A
c.png,3,,yes,M,B
d.png,4,0,no,F,B
"""


@pytest.fixture
def ward(tmp_path: Path):
    def write(text: str = PLAIN, name: str = "ward.csv") -> Path:
        for image in "abcdefgh":
            (tmp_path / f"{image}.png").touch()
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def test_named_columns_become_a_study_that_reads_back(ward, tmp_path):
    study = read_study(ward(), path="file", patient="mrn", keep=["ward"])
    assert study.labels == ("Effusion", "Infiltration")
    np.testing.assert_array_equal(study.y, [[1, 0], [0, 1], [np.nan, 1], [0, 0]])
    assert study.ids.tolist() == ["a.png", "b.png", "c.png", "d.png"]
    assert study.splits == ("train", "val", "test")
    assert study.table["ward"].tolist() == ["A", "A", "B", "B"]
    again = read_study(study.save(tmp_path / "elsewhere" / "ward.csv"))
    assert (again.sha256, again.labels) == (study.sha256, study.labels)
    assert all(p.is_file() for p in again.paths())


def test_a_cell_of_findings_with_its_separator(ward):
    text = "image_id,patient_id,found\na.png,1,Effusion; Mass\nb.png,2,No Finding\nc.png,3,\nd.png,4,Infiltrate\n"
    study = read_study(ward(text), findings="found", separator=";")
    assert study.labels == ("Effusion", "Infiltration", "Mass")
    np.testing.assert_array_equal(study.y, [[1, 0, 1], [0, 0, 0], [np.nan] * 3, [0, 1, 0]])
    with pytest.raises(StudyError, match=r"row 2: unknown label 'Mass'; the labels are Effusion, Infiltration"):
        read_study(ward(text), findings="found", separator=";", labels=["Effusion", "Infiltrate"])


def test_semicolons_and_a_byte_order_mark_as_spreadsheets_write_them(ward):
    study = read_study(ward("\ufeff" + PLAIN.replace(",", ";")), path="file", patient="mrn")
    assert study.labels == ("Effusion", "Infiltration")


def test_labels_that_are_chosen_are_the_only_ones_when_it_is_read_again(ward, tmp_path):
    study = read_study(ward(), path="file", patient="mrn", labels=["Effusion"])
    assert read_study(study.save(tmp_path / "one.csv")).labels == ("Effusion",)


def test_a_split_column_is_kept_and_validation_carved_only_where_it_is_missing(ward):
    splits = ["Training"] * 4 + ["test"] * 2
    lines = [f"{image}.png,{n},{splits[n]},{n % 2}\n" for n, image in enumerate("abcdef")]
    text = "image_id,patient_id,split,Mass\n" + "".join(lines)
    study = read_study(ward(text), val=0.2)
    assert (study.table["split"] == "test").tolist() == [False] * 4 + [True] * 2
    assert set(study.table["split"][:4]) == {"train", "val"}
    with_val = read_study(ward(text.replace("d.png,3,Training", "d.png,3,valid")))
    assert with_val.table["split"].tolist() == ["train"] * 3 + ["val"] + ["test"] * 2
    assert set(read_study(ward(text), resplit=True).table["split"][4:]) != {"test"}


def test_a_split_column_that_leaks(ward):
    with pytest.raises(LeakageError, match="1 patient in more than one split"):
        read_study(ward("image_id,patient_id,split,Mass\na.png,1,train,1\nb.png,1,test,0\n"), val=0)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (PLAIN, {}, "neither a column 'image_id' nor 'path'"),
        (PLAIN, {"path": "file"}, "no column 'patient_id'; name it with `patient`"),
        (PLAIN, {"path": "files", "patient": "mrn"}, "no column 'files'; its columns are file, mrn"),
        (PLAIN, {"path": "file", "patient": "mrn", "labels": ["Mass"]}, "no label column 'Mass'"),
        (PLAIN, {"path": "file", "patient": "mrn", "findings": "x"}, "no column 'x'"),
        (PLAIN.replace("a.png,1,1", "a.png,1,-1"), {"path": "file", "patient": "mrn", "labels": ["Effusion"]},
         "row 2, column 'Effusion': '-1' is not a label"),
        ("image_id,patient_id,Mass\n", {}, "has no rows"),
        ("image_id,patient_id,Mass\na.png,1,1\na.png,2,0\nb.png,3,0\n", {}, "'a.png' is duplicated"),
        ("image_id,patient_id,Mass\na.png,,1\nb.png,2,0\nc.png,3,0\n", {}, "row 2: patient_id is empty"),
        ("image_id,patient_id,Mass\na.png,1,1\nb.png,2,0\n", {}, "2 patients cannot be split"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_told_in_a_sentence(ward, text, options, message):
    with pytest.raises(StudyError, match=message):
        read_study(ward(text), **options)


def test_missing_images_are_counted_and_can_be_skipped(ward, tmp_path):
    path = ward()
    (tmp_path / "b.png").unlink()
    with pytest.raises(NotFoundError, match=r"1 of 4 images are not under .* 'b.png'.*`missing=skip`"):
        read_study(path, path="file", patient="mrn")
    assert len(read_study(path, path="file", patient="mrn", missing="skip")) == 3
    with pytest.raises(NotFoundError, match="no image folder"):
        read_study(path, path="file", patient="mrn", images=tmp_path / "nowhere")
    with pytest.raises(NotFoundError, match="no study, folder or table"):
        read_study(tmp_path / "nowhere.csv")


def test_read_tells_the_release_from_any_other_table(ward):
    assert len(read_study(sample.folder())) == 150
    assert len(read_study(sample.folder() / "Data_Entry_2017_v2020.csv", images=sample.folder() / "images")) == 150
    assert read_study(ward(), path="file", patient="mrn").name == "ward"
    with pytest.raises(NotFoundError):
        read_study("nowhere")
