"""A folder per class and a folder of DICOM files are studies without a table."""

from __future__ import annotations

import numpy as np
import pytest

from cxrfeat import read_study
from cxrfeat.errors import StudyError


@pytest.fixture
def classes(tmp_path):
    """Write empty image files by class; reading a study opens none."""

    def write(*names: str):
        for name in names:
            (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "set" / name).touch()
        return tmp_path / "set"

    return write


def test_a_folder_per_class(classes, caplog):
    files = [f"{name}/{name[0]}{i}.jpeg" for name in ("NORMAL", "PNEUMONIA", "Covid") for i in range(5)]
    study = read_study(classes(*files, "notes.txt", "masks/m.png"))
    assert set(study.labels) == {"Pneumonia", "COVID-19"}
    table = study.table.set_index("image_id")
    assert table.loc["P3.jpeg", ["Pneumonia", "COVID-19"]].tolist() == [1, 0]
    assert table.loc["N0.jpeg", ["Pneumonia", "COVID-19"]].tolist() == [0, 0]
    assert (len(study), study.splits, study.name) == (15, ("train", "val", "test"), "set")
    assert "each counts as another patient" in caplog.text
    assert "NOTHING CHECKED" in study.describe().leakage()


def test_splits_and_patients_of_a_folder_per_class(classes):
    """Laid out as a well-known public set of children's films is."""
    folders = {0: "NORMAL", 1: "PNEUMONIA"}
    files = [
        f"{'train' if person < 4 else 'test'}/{folders[person % 2]}/person{person}_bacteria_{k}.jpeg"
        for person in range(6)
        for k in range(2)
    ]
    folder = classes(*files)
    study = read_study(folder, patient=r"person(\d+)", val=0)
    assert sorted(set(study.patients)) == list("012345")
    assert study.splits == ("train", "test")
    assert study.provenance["splits"] == {"origin": "as published"}
    assert study.labels == ("Pneumonia",)
    with pytest.raises(StudyError, match="finds no patient in 'person"):
        read_study(folder, patient=r"nobody(\d+)")
    with pytest.raises(StudyError, match="no regular expression with a group"):
        read_study(folder, patient="person")
    with pytest.raises(StudyError, match="a folder per class has no option `findings`"):
        read_study(folder, findings="x")


def test_names_that_occur_in_two_classes(classes):
    study = read_study(classes(*[f"{name}/images/{i}.png" for name in ("a", "b") for i in range(5)]))
    assert study.ids[0] == "a-images-0.png"
    assert len(set(study.ids)) == 10


def test_datasets_side_by_side_are_no_classes(classes):
    folder = classes(*[f"{name}/images/{i}.png" for name in ("nih", "own") for i in range(3)], "nih/t.csv", "own/t.csv")
    with pytest.raises(StudyError, match="is not recognised"):
        read_study(folder)


def test_a_folder_of_dicom_files(tmp_path):
    pydicom = pytest.importorskip("pydicom")
    from pydicom.dataset import FileDataset, FileMetaDataset

    for i, name in enumerate(["a.dcm", "b.dcm", "deep/c.dcm", "deep/d"]):
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        file = FileDataset(name, {}, file_meta=meta, preamble=b"\0" * 128)
        file.PatientID, file.PatientAge, file.PatientSex = f"p{i // 2}", "058Y" if i else "006M", "F"
        file.PatientOrientation = ["L", "F"]
        file.ViewPosition, file.Manufacturer, file.StudyInstanceUID = "PA", "Acme", f"1.2.{i}"
        (tmp_path / "archive" / name).parent.mkdir(parents=True, exist_ok=True)
        file.save_as(tmp_path / "archive" / name)
    (tmp_path / "archive" / "readme").write_text("none of them")
    (tmp_path / "archive" / "broken.dcm").write_bytes(b"none of them either")
    study = read_study(tmp_path / "archive", keep=["Manufacturer", "PatientOrientation"])
    assert set(study.table["PatientOrientation"]) == {"L\\F"}
    assert (study.labels, study.splits) == ((), ())
    a, *others = study.patients
    assert others[0] == a != others[1] == others[2]
    assert len(a) == 16 and not any(name in str(study.table) for name in ("p0", "p1")), "hashed without being asked"
    np.testing.assert_allclose(study.table["age"], [0.5, 58, 58, 58])
    assert study.table["Manufacturer"].tolist() == ["Acme"] * 4
    assert study.table["view"].tolist() == ["PA"] * 4
    assert all(path.is_file() for path in study.paths())
    assert len(set(read_study(tmp_path / "archive", patient="StudyInstanceUID").patients)) == 4
    with pytest.raises(StudyError, match=r"4 of 4 DICOM files have no AccessionNumber, the first is 'a.dcm'"):
        read_study(tmp_path / "archive", patient="AccessionNumber")
    for attribute in ("PatientName", "ReferringPhysicianName", "PatientAddress"):
        with pytest.raises(StudyError, match=f"{attribute} names a person"):
            read_study(tmp_path / "archive", keep=[attribute])
    salted = read_study(tmp_path / "archive", anonymise="salt", keep=["StudyInstanceUID"])
    (tmp_path / "t.csv").write_text("image_id,path,patient_id\nx,archive/a.dcm,p0\ny,archive/b.dcm,p1\n")
    table = read_study(tmp_path / "t.csv", anonymise="salt")
    assert table.patients.tolist() == salted.patients[[0, 2]].tolist(), "one patient in two studies"
    assert not salted.table["StudyInstanceUID"].str.contains("1.2").any()
