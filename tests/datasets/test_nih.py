"""The NIH release is read as it is published: both table versions, both image layouts, the official lists."""

from __future__ import annotations

import gzip
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxrfeat import _sample as sample
from cxrfeat._datasets import nih
from cxrfeat._datasets.reading import read_study
from cxrfeat._labels import NIH_LABELS
from cxrfeat._split import VERSION
from cxrfeat.errors import LeakageError, NotFoundError, StudyError

HEADER = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position"


@pytest.fixture
def release(tmp_path: Path):
    """Write a release of given rows; images are empty files, since reading a study opens none."""

    def write(rows: list[str], table: str = nih.TABLES[0], images: str = "images") -> Path:
        folder = tmp_path / "release"
        (folder / images).mkdir(parents=True, exist_ok=True)
        text = "\n".join([HEADER, *rows]) + "\n"
        data = gzip.compress(text.encode()) if table.endswith(".gz") else text.encode()
        (folder / table).write_bytes(data)
        for row in rows:
            (folder / images / row.split(",")[0]).touch()
        return folder

    return write


def rows(n: int = 12, age: str = "{}") -> list[str]:
    found = ["No Finding", "Mass", "Effusion|Mass"]
    return [f"{i:08d}_000.png,{found[i % 3]},0,{i},{age.format(30 + i)},M,PA" for i in range(n)]


def test_the_sample_is_read_with_its_lists_and_its_labels():
    study = read_study(sample.folder())
    folder = sample.folder()
    table = study.table.set_index("image_id")
    raw = pd.read_csv(folder / nih.TABLES[0]).set_index("Image Index")
    assert study.labels == NIH_LABELS
    assert set(table.index[table["split"] == "test"]) == set((folder / "test_list.txt").read_text().split())
    assert set(table.index[table["split"] != "test"]) == set((folder / "train_val_list.txt").read_text().split())
    for label in NIH_LABELS:  # an independent reading of the same cells
        expected = [float(label in cell.split("|")) for cell in raw["Finding Labels"]]
        np.testing.assert_array_equal(table.loc[raw.index, label], expected)
    np.testing.assert_array_equal(table.loc[raw.index, "age"], raw["Patient Age"])
    np.testing.assert_array_equal(table.loc[raw.index, "follow_up"], raw["Follow-up #"])
    assert all(p.is_file() for p in study.paths())


def test_ages_of_the_older_table_are_years(release):
    old = [row.replace(",30,", ",058Y,").replace(",31,", ",006M,").replace(",32,", ",411Y,") for row in rows()]
    study = read_study(release(old, "Data_Entry_2017.csv"))
    assert study.table["age"][:2].tolist() == [58.0, 0.5]
    assert np.isnan(study.table["age"][2]), "no patient is 411 years old"


def test_a_gzipped_table_and_the_folders_of_the_archives(release):
    folder = release(rows(), "Data_Entry_2017_v2020.csv.gz", "images_001/images")
    (folder / "images_002" / "images").mkdir(parents=True)
    moved = folder / "images_001" / "images" / "00000003_000.png"
    moved.rename(folder / "images_002" / "images" / moved.name)
    study = read_study(folder)
    assert len(study) == 12
    assert study.paths()[3].parts[-3] == "images_002"
    assert all(p.is_file() for p in study.paths())


def test_without_lists_the_split_is_by_patient_and_depends_on_the_seed(release):
    many = [row.replace(f",{i},{30 + i},", f",{i // 2},{30 + i},") for i, row in enumerate(rows(60))]
    folder = release(many)
    first, again, other = read_study(folder), read_study(folder), read_study(folder, seed=1)
    assert first.splits == ("train", "val", "test")
    assert first.sha256 == again.sha256 != other.sha256


def test_where_the_splits_come_from_is_recorded():
    splits = read_study(sample.folder()).provenance["splits"]
    assert splits["origin"] == "as published, val carved from train by patient"
    assert splits["version"] == VERSION
    assert read_study(sample.folder(), val=0).provenance["splits"] == {"origin": "as published"}
    anew = read_study(sample.folder(), resplit=True, seed=5)
    assert anew.provenance["splits"]["seed"] == 5
    assert "splits: stratified by patient, version 2, val 0.1, test 0.2, seed 5" in anew.describe().notes()


def test_resplit_leaves_the_lists_aside():
    official, anew = read_study(sample.folder()), read_study(sample.folder(), resplit=True)
    assert (official.table["split"] == "test").sum() == 57
    assert (anew.table["split"] == "test").sum() == 30


def test_a_missing_image_is_named_and_can_be_skipped(release, caplog):
    folder = release(rows())
    (folder / "images" / "00000004_000.png").unlink()
    with pytest.raises(NotFoundError, match=r"1 of 12 images are not under .*'00000004_000.png'.*`missing=skip`"):
        read_study(folder)
    assert "00000004_000.png" not in read_study(folder, missing="skip").ids
    assert [r.getMessage().startswith("1 of 12 images are not under") for r in caplog.records] == [True]
    shutil.rmtree(folder / "images")
    with pytest.raises(StudyError, match="none of the 12 images"):
        read_study(folder, missing="skip")
    assert len(read_study(folder, missing="keep")) == 12, "the table alone needs no images"


def test_lists_that_leak_are_refused_with_the_patient(release):
    leaking = [row.replace(f",{i},{30 + i},", f",{i // 2},{30 + i},") for i, row in enumerate(rows(6))]
    folder = release(leaking)
    names = [row.split(",")[0] for row in leaking]
    (folder / "train_val_list.txt").write_text("\n".join(names[:3]))
    (folder / "test_list.txt").write_text("\n".join(names[3:]))
    with pytest.raises(LeakageError) as caught:
        read_study(folder, val=0)
    assert caught.value.patients == ("1",)


def test_lists_that_do_not_fit_the_table(release):
    folder = release(rows())
    (folder / "train_val_list.txt").write_text("00000000_000.png\n")
    with pytest.raises(NotFoundError, match=r"test_list\.txt is missing"):
        read_study(folder)
    (folder / "test_list.txt").write_text("00000001_000.png\n")
    with pytest.raises(StudyError, match=r"10 of 12 images are in neither.*'00000002_000.png'.*`resplit=True`"):
        read_study(folder)
    (folder / "test_list.txt").write_text("00000000_000.png\n")
    with pytest.raises(StudyError, match=r"'00000000_000\.png' is in both"):
        read_study(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEADER.replace("Patient ID", "Patient"), "no column 'Patient ID'"),
        (HEADER, "has no rows"),
        ("", "not a CSV table"),
        (HEADER + "\na.png,Mass|Scoliosis,0,1,30,M,PA", "row 2: unknown label 'Scoliosis'; the labels are Atelectasis"),
        (HEADER + "\na.png,Mass,0,1,30,M,PA\na.png,Mass,0,1,30,M,PA", "'a.png' is duplicated"),
    ],
)
def test_a_table_that_cannot_be_used_is_told_in_a_sentence(tmp_path, text, message):
    (tmp_path / nih.TABLES[0]).write_text(text)
    with pytest.raises(StudyError, match=message.replace("|", r"\|")):
        read_study(tmp_path, missing="keep", val=0, test=0)


def test_a_folder_that_is_no_release(tmp_path):
    with pytest.raises(StudyError, match=r"is not recognised as a ChestX-ray14 release, .* or a table"):
        read_study(tmp_path)
    with pytest.raises(NotFoundError, match="no study, folder or table"):
        read_study(tmp_path / "nowhere")


def test_reading_a_study_brings_no_tensorflow():
    code = "import sys; from cxrfeat import _sample; _sample.study(); print('tensorflow' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "False"
