"""Studies made of studies: other names of labels, several together, a part, another split; by Python and commands."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner
from cxrfeat_cli.main import cli

import cxrfeat as cxr
from cxrfeat._study import Study
from cxrfeat.errors import LeakageError, StudyError


@pytest.fixture
def table(tmp_path):
    """Write a table and its empty images; return the study."""

    def write(name: str, text: str, **options) -> Study:
        (tmp_path / name).mkdir()
        (tmp_path / name / "t.csv").write_text(text)
        for line in text.splitlines()[1:]:
            (tmp_path / name / line.split(",")[0]).touch()
        return cxr.read_study(tmp_path / name / "t.csv", name=name, val=0, test=0, **options)

    return write


@pytest.fixture
def ours(table) -> Study:
    return table(
        "ours",
        "path,patient_id,view,Edema,Consolidation,Enlarged Cardiomediastinum,Pleural effusion\n"
        "a.png,1,PA,1,0,1,0\nb.png,1,AP,0,0,0,1\nc.png,2,L,,,,\nd.png,2,PA,0,1,0,0\n",
    )


def test_labels_of_another_dataset_are_derived_or_unknown(ours, caplog):
    mapped = cxr.map_study(ours, to=["Lung Opacity", "Cardiomegaly", "Pleural Effusion", "Mass"])
    assert mapped.labels == ("Lung Opacity", "Cardiomegaly", "Effusion", "Mass")
    np.testing.assert_array_equal(
        mapped.y,
        [
            [1, np.nan, 0, np.nan],  # an enlarged mediastinum does not say that the heart is
            [np.nan, 0, 1, np.nan],  # no edema and no consolidation do not exclude other opacities
            [np.nan] * 4,
            [1, 0, 0, np.nan],
        ],
    )
    assert cxr.map_study(ours, to="nih").labels == cxr.read_study("sample").labels
    assert cxr.map_study(ours, to=ours.with_labels(["Edema"])).labels == ("Edema",)
    assert mapped.name == "ours-mapped"
    assert mapped.provenance["derived"][0]["of"] == {"ours": ours.sha256}
    with pytest.raises(StudyError, match="the dataset 'covid-19' has no labels of its own"):
        cxr.map_study(ours, to="covid-19")


def test_a_contradiction_is_unknown(table):
    study = table("odd", "path,patient_id,Lung Opacity,Edema\na.png,1,0,1\nb.png,2,1,0\nc.png,3,0,0\n")
    np.testing.assert_array_equal(cxr.map_study(study, to=["Lung Lesion"]).y[:, 0], [0, np.nan, 0])
    study = table("two", "path,patient_id,Fracture,Rib Fracture\na.png,1,0,1\nb.png,2,1,0\nc.png,3,0,0\n")
    assert np.isnan(cxr.map_study(study, to=["Clavicle Fracture"]).y[1, 0])


def test_labels_are_renamed_and_never_joined_by_mistake(ours):
    mapped = cxr.map_study(ours, rename=["Edema=Wet Lung"])
    assert mapped.labels[0] != "Edema" and "Wet Lung" in mapped.labels and "Effusion" in mapped.labels
    with pytest.raises(StudyError, match="the labels 'Consolidation' and 'Edema' are both 'Consolidation'"):
        cxr.map_study(ours, rename={"Edema": "Consolidation"})
    with pytest.raises(StudyError, match="study 'ours' has no label 'Oedema'"):
        cxr.map_study(ours, rename={"Oedema": "x"})
    with pytest.raises(StudyError, match="`rename` takes OLD=NEW, not 'Edema'"):
        cxr.map_study(ours, rename=["Edema"])


def test_a_label_that_a_study_lacks_is_unknown_in_the_merged_one(ours, table, tmp_path):
    theirs = table("theirs", "path,patient_id,age,Edema,Mass\na.png,1,40,0,1\ne.png,9,50,1,0\n")
    merged = cxr.merge_studies(ours, theirs)
    assert (merged.name, len(merged), merged.labels[:3]) == ("ours+theirs", 6, ("Effusion", "Mass", "Consolidation"))
    assert merged.table["study"].tolist() == ["ours"] * 4 + ["theirs"] * 2
    assert len(set(merged.patients)) == 4, "patient 1 of ours is not patient 1 of theirs"
    assert merged.ids.tolist() == [
        "ours-a.png",
        "ours-b.png",
        "ours-c.png",
        "ours-d.png",
        "theirs-a.png",
        "theirs-e.png",
    ]
    assert np.isnan(merged.y[:4, 1]).all() and np.isnan(merged.y[4:, 0]).all()
    assert merged.table["view"].tolist()[4:] == ["", ""] and merged.table["age"].tolist()[4:] == [40, 50]
    assert all(path.is_file() for path in merged.paths())
    again = cxr.read_study(merged.save(tmp_path / "elsewhere" / "m.csv"))
    assert again.sha256 == merged.sha256 and all(path.is_file() for path in again.paths())
    with pytest.raises(StudyError, match="of different names, not ours, ours"):
        cxr.merge_studies(ours, ours)


def test_merging_never_puts_a_patient_in_two_splits(ours):
    first = cxr.subset_study(ours, where=["view=PA"], name="first").with_splits(["train", "train"])
    second = cxr.subset_study(ours, where={"view": "AP"}, name="second").with_splits(["test"])
    with pytest.raises(LeakageError, match="resplit=True"):
        cxr.merge_studies(first, second, same_patients=True)
    merged = cxr.merge_studies(first, second, same_patients=True, resplit=True, val=0, test=0.5)
    assert len(set(zip(merged.patients, merged.table["split"], strict=True))) == 2
    assert merged.ids.tolist() == ["a.png", "d.png", "b.png"]


def test_the_same_name_for_two_images_of_the_same_patients_is_refused(ours, table):
    theirs = table("theirs", "path,patient_id,Edema\na.png,1,0\n")
    with pytest.raises(StudyError, match=r"the image 'a.png' is another file in each study"):
        cxr.merge_studies(ours, theirs, same_patients=True)


def test_one_image_of_each_patient_is_frontal_and_early_whatever_the_order_of_rows(table):
    text = "path,patient_id,view,follow_up,Mass\n"
    lines = ["a.png,1,L,0,1", "b.png,1,PA,2,1", "c.png,1,AP,1,0", "d.png,2,L,5,0", "e.png,2,LL,4,0", "f.png,3,,,1"]
    study = table("s", text + "\n".join(lines) + "\n")
    assert cxr.subset_study(study, one_per="patient").ids.tolist() == ["c.png", "e.png", "f.png"]
    other = table("t", text + "\n".join(lines[::-1]) + "\n", one_per="patient")
    assert sorted(other.ids) == ["c.png", "e.png", "f.png"]
    assert other.provenance["one_per"] == "patient"
    with pytest.raises(StudyError, match="study 's' has no column 'study_id'"):
        cxr.subset_study(study, one_per="study")


def test_a_part_of_a_study(ours, tmp_path):
    (tmp_path / "ids.txt").write_text("a.png\n\nc.png\r\n")
    assert cxr.subset_study(ours, drop=tmp_path / "ids.txt").ids.tolist() == ["b.png", "d.png"]
    assert cxr.subset_study(ours, only=["d.png"], labels=["Edema"]).y.tolist() == [[0]]
    assert cxr.subset_study(ours, where=["view=PA", "view=AP"], split=["train"]).ids.tolist() == [
        "a.png",
        "b.png",
        "d.png",
    ]
    with pytest.raises(StudyError, match="nothing is left of study 'ours'"):
        cxr.subset_study(ours, only=["z.png"])
    with pytest.raises(StudyError, match="no column 'town'"):
        cxr.subset_study(ours, where=["town=X"])


def test_soft_labels_stay_soft(table):
    study = table("s", "path,patient_id,Edema\na.png,1,1\nb.png,2,-1\nc.png,3,0\n", uncertain=0.4)
    for made in (
        cxr.subset_study(study, where={"patient_id": "2"}),
        cxr.map_study(study, rename={"Edema": "Wet"}).take([1]),
        cxr.merge_studies(study, cxr.subset_study(study, name="t")).take([1]),
        cxr.resplit_study(study, val=0, test=0.5).take([1]),
    ):
        assert made.targets.tolist() == [[0.4]] and np.isnan(made.y).all()
    assert "soft" not in cxr.map_study(study, to=["Mass"]).provenance


def test_the_commands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> dict:
        done = CliRunner().invoke(cli, ["study", *words, "--json"])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    assert run("subset", "sample", "--where", "view=PA", "--one-per", "patient", "--name", "pa")["images"]["all"] == 95
    assert run("map", "pa", "--to", "chexpert")["study"].endswith("pa-mapped.csv")
    assert run("resplit", "pa", "--test", "0.5", "--val", "0")["images"]["test"] in range(45, 51)
    merged = run("merge", "pa", "pa-mapped", "--same-patients", "-o", "studies/both.csv")
    assert merged["images"]["all"] == 95 and "Lung Opacity" in merged["positives"]
    refused = CliRunner().invoke(cli, ["study", "merge", "pa"])
    assert refused.exit_code == 2 and "name two or more studies" in refused.output
    refused = CliRunner().invoke(cli, ["study", "subset", "pa", "--where", "view"])
    assert refused.exit_code == 2 and "--where" in refused.output


def test_a_home_folder_is_found(ours, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(cxr.read_study("~/ours/t.csv", val=0, test=0)) == 4
    assert len(cxr.read_study(tmp_path / "ours" / "t.csv", images="~/ours", val=0, test=0)) == 4


def test_parquet_is_read_as_text(tmp_path):
    pytest.importorskip("pyarrow")
    import pandas as pd

    for name in "abc":
        (tmp_path / f"{name}.png").touch()
    frame = pd.DataFrame(
        {
            "path": ["a.png", "b.png", "c.png"],
            "patient_id": [7, 8, 9],
            "Mass": [1.0, 0.0, None],
            "sex": ["F", None, "M"],
        }
    )
    frame.to_parquet(tmp_path / "t.parquet")
    study = cxr.read_study(tmp_path / "t.parquet", val=0, test=0)
    assert study.patients.tolist() == ["7", "8", "9"]
    np.testing.assert_array_equal(study.y[:, 0], [1, 0, np.nan])
    assert study.table["sex"].tolist() == ["F", "", "M"]
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(StudyError, match="is not a Parquet table"):
        cxr.read_study(tmp_path / "bad.parquet")
