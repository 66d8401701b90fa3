"""A dataset is one entry: recognised, read, split, with its boxes; also by an entry point of another package."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import cxrfeat as cxr
from cxrfeat._datasets.dataset import DATASETS
from cxrfeat.errors import OutputError, StudyError

PLUGIN = """
import pandas as pd
from cxrfeat import Dataset

def read(source, images):
    table = pd.read_csv(source / "toy.csv", dtype={"who": str})
    table = table.rename(columns={"file": "path", "who": "patient_id"}).assign(image_id=table["file"].str[:-4])
    return table, ["Effusion", "Mass"]

def boxes(source):
    path = source / "toy-boxes.csv"
    if not path.is_file():
        return None
    return pd.read_csv(path).assign(frame_width=2000, frame_height=2500)

TOY = Dataset(title="a toy folder", recognises=lambda s: (s / "toy.csv").is_file(), read=read, boxes=boxes,
              metadata=["scanner"])
"""
SCRIPT = """
import json
import cxrfeat as cxr
from cxrfeat._datasets.boxes import boxes_of
study = cxr.read_study("toy")
boxes = boxes_of(study)
columns, owners, frames = list(study.table), boxes["patient_id"].tolist(), boxes["frame_height"].tolist()
print(json.dumps([repr(study), columns, owners, frames]))
from cxrfeat_cli.main import main
sys.argv[0] = "cxrfeat"
main()
"""


@pytest.fixture
def toy(tmp_path) -> Path:
    """A folder of the toy dataset, and beside it an installed package that declares it."""
    folder = tmp_path / "toy"
    folder.mkdir()
    files = [f"{image}.png" for image in "abcdefghij"]
    for file in files:
        (folder / file).touch()
    columns = {"file": files, "who": [1, 1, 2, 3, 4, 5, 6, 7, 8, 9], "Effusion": [1, 0] * 5, "Mass": [0, None] * 5}
    pd.DataFrame({**columns, "scanner": "x", "note": "private"}).to_csv(folder / "toy.csv", index=False)
    (folder / "toy-boxes.csv").write_text("image_id,label,x,y,width,height\nb,Mass,1,2,3,4\n")
    site = tmp_path / "site"
    (site / "toy_dataset-1.dist-info").mkdir(parents=True)
    (site / "toy_dataset.py").write_text(PLUGIN)
    (site / "toy_dataset-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-dataset\nVersion: 1\n")
    (site / "toy_dataset-1.dist-info" / "entry_points.txt").write_text("[cxrfeat.datasets]\ntoy = toy_dataset:TOY\n")
    return site


def test_a_dataset_of_another_package_is_recognised_with_its_boxes_and_metadata(toy):
    code = f"import sys; sys.path.insert(0, {str(toy)!r})\n{SCRIPT}"
    words = [sys.executable, "-c", code, "study", "build", "toy", "--json"]
    done = subprocess.run(words, cwd=toy.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found, _, built = done.stdout.partition("\n")
    told, columns, patients, frames = json.loads(found)
    assert told.startswith("Study 'toy': 10 images, 9 patients, 2 labels; train 7")
    assert columns == ["image_id", "path", "patient_id", "split", "scanner", "Effusion", "Mass"]
    assert (patients, frames) == (["1"], [2500])
    assert json.loads(built)["images"]["all"] == 10
    assert (toy.parent / "studies" / "toy.csv").is_file()


def test_every_entry_declares_itself():
    for dataset in DATASETS:
        assert dataset.title
        assert set(dataset.options) <= set(cxr.read_study.__kwdefaults__), "a reader takes options of `read_study`"


def test_what_is_read_is_said_or_recognised(tmp_path, sample_study):
    folder = Path(cxr._sample.__file__).parent
    assert cxr.read_study(folder / "Data_Entry_2017_v2020.csv", images=folder / "images").name == folder.name
    with pytest.raises(StudyError, match="a ChestX-ray14 release has no option `path`"):
        cxr.read_study(folder, dataset="nih", path="file")
    with pytest.raises(StudyError, match=r"unknown dataset 'nhi'; choose one of nih, .*, classes, dicom, table"):
        cxr.read_study(folder, dataset="nhi")
    with pytest.raises(StudyError, match=r"is not recognised as a ChestX-ray14 release, .* or a table"):
        cxr.read_study(tmp_path)
    assert cxr.read_study(sample_study) is sample_study
    assert cxr.read_study(sample_study, labels=["mass"]).labels == ("Mass",)


def test_a_finished_study_is_read_as_it_is_and_built_anew_only_when_that_is_asked(make_study, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = make_study(20)
    study.save()
    assert cxr.read_study().sha256 == cxr.read_study("tiny").sha256 == study.sha256
    assert cxr.read_study("tiny", labels=["Mass"]).labels == ("Mass",)
    anew = cxr.read_study("tiny", resplit=True, seed=3)
    assert (anew.name, len(anew)) == ("tiny", 20)
    assert anew.table["split"].tolist() != study.table["split"].tolist()


def test_a_study_of_the_name_of_a_folder_is_used_and_the_folder_is_built(make_study, tmp_path, monkeypatch):
    """`tiny/` holds the images, and no dataset that is known: only the finished study can be read."""
    monkeypatch.chdir(tmp_path)
    make_study(20).save()
    assert (tmp_path / "tiny").is_dir()
    assert len(cxr.read_study("tiny")) == 20
    with pytest.raises(StudyError, match="is not recognised"):
        cxr.read_study("tiny", build=True)


def test_a_study_is_not_written_over_another_file(make_study, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = make_study(20).save()
    assert make_study(20).save() == path, "the same study again is no harm"
    with pytest.raises(StudyError, match="holds another study; replace it with `overwrite=True`"):
        make_study(10).save()
    assert make_study(10).save(overwrite=True) == path
    (tmp_path / "notes.csv").write_text("mine\n")
    with pytest.raises(OutputError, match="is a file of another kind"):
        make_study(10).save(tmp_path / "notes.csv", overwrite=True)
    assert (tmp_path / "notes.csv").read_text() == "mine\n"


def test_only_what_is_needed_and_what_is_named_is_kept(tmp_path):
    for name in "abcdef":
        (tmp_path / f"{name}.png").touch()
    rows = "".join(f"{n}.png,{i},{i % 2},M,long story {i},north,{i % 2}\n" for i, n in enumerate("abcdef"))
    (tmp_path / "t.csv").write_text("path,patient_id,Mass,sex,narrative,site,smoker\n" + rows)
    plain = cxr.read_study(tmp_path / "t.csv", labels=["Mass"])
    assert list(plain.table.columns) == ["image_id", "path", "patient_id", "split", "sex", "Mass"]
    assert "site" in cxr.read_study(tmp_path / "t.csv", labels=["Mass"], keep=["site"]).table
    with pytest.raises(StudyError, match="no column 'town' to `keep`; its columns are"):
        cxr.read_study(tmp_path / "t.csv", keep=["town"])
    with pytest.raises(StudyError, match="'smoker' holds 1, 0 and empty cells"):
        cxr.read_study(tmp_path / "t.csv", labels=["Mass"], keep=["smoker"])
