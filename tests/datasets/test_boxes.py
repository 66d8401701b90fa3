"""The box list is read as released: by place, with its empty columns and its other spelling of Infiltration."""

from __future__ import annotations

import csv

import pytest

from cxrfeat import _sample as sample
from cxrfeat._datasets.boxes import boxes_of, read_boxes
from cxrfeat._datasets.nih import BOXES, SIDE
from cxrfeat._study import Study
from cxrfeat.errors import NotFoundError, StudyError


def test_the_sample_boxes_are_the_numbers_of_the_file(sample_study):
    found = read_boxes(sample.folder())
    with (sample.folder() / BOXES).open() as file:
        raw = list(csv.reader(file))[1:]
    assert found[["x", "y", "width", "height"]].to_numpy().tolist() == [[float(v) for v in row[2:6]] for row in raw]
    assert set(found["image_id"]) <= set(sample_study.split("test").ids)
    assert set(found["label"]) <= set(sample_study.labels), "Infiltrate is Infiltration here too"
    assert (found["x"] + found["width"] <= SIDE).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Image Index,Finding Label,Bbox [x,y,w,h]\na.png,Mass,1,2,3,-4\n", "row 2: a box is four numbers"),
        ("Image Index,Finding Label,Bbox [x,y,w,h]\na.png,Mass,1,2,x,4\n", "row 2"),
        ("Image Index,Finding Label\na.png,Mass\n", "2 columns"),
        ("", "not a CSV table"),
    ],
)
def test_a_list_that_cannot_be_used(tmp_path, text, message):
    path = tmp_path / "boxes.csv"
    path.write_text(text)
    with pytest.raises(StudyError, match=message):
        read_boxes(path)


def test_no_list(tmp_path):
    with pytest.raises(NotFoundError, match="no box list"):
        read_boxes(tmp_path)


def test_a_plain_list_with_named_columns_and_frames(tmp_path):
    path = tmp_path / "boxes.csv"
    path.write_text(
        "image_id,label,x,y,width,height,frame_width,frame_height\n"
        "a.png,infiltrate,1,2,3,4,2000,2500\nb.png,Mass,5,6,7,8,600,600\n"
    )
    found = read_boxes(path)
    assert found["label"].tolist() == ["Infiltration", "Mass"]
    assert found["frame_width"].tolist() == [2000, 600] and found["frame_height"].tolist() == [2500, 600]
    assert found["patient_id"].tolist() == ["", ""]
    path.write_text("image_id,label,x,y,width,height\na.png,Mass,1,2,3,4\n")
    with pytest.raises(StudyError, match="no column 'frame_width'"):
        read_boxes(path)


def test_boxes_of_a_study_are_those_beside_its_images_with_the_patients_of_the_study(sample_study, make_study):
    table = sample_study.table.assign(patient_id="ward-" + sample_study.table["patient_id"])
    renamed = Study(table, sample_study.labels, "renamed", sample_study.root)
    found = boxes_of(renamed)
    assert set(found["frame_width"]) == {SIDE}
    assert found["patient_id"].tolist() == ["ward-" + i.split("_")[0].lstrip("0") for i in found["image_id"]]
    assert boxes_of(make_study(4)) is None
    assert len(boxes_of(make_study(4), sample.folder())) == len(found), "a list may be named"


def test_a_box_of_an_image_that_the_study_lacks_keeps_the_dataset_s_patient(sample_study):
    few = sample_study.split("train")
    found = boxes_of(few)
    assert found["patient_id"].tolist() == [i.split("_")[0] for i in found["image_id"]]
