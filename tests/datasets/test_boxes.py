"""The box list is read as released: by place, with its empty columns and its other spelling of Infiltration."""

from __future__ import annotations

import csv

import pytest

from cxrfeat import _sample as sample
from cxrfeat._datasets import boxes
from cxrfeat.errors import NotFoundError, StudyError


def test_the_sample_boxes_are_the_numbers_of_the_file(sample_study):
    found = boxes.read(sample.folder())
    with (sample.folder() / boxes.FILE).open() as file:
        raw = list(csv.reader(file))[1:]
    assert found[["x", "y", "width", "height"]].to_numpy().tolist() == [[float(v) for v in row[2:6]] for row in raw]
    assert set(found["image_id"]) <= set(sample_study.split("test").ids)
    assert set(found["label"]) <= set(sample_study.labels), "Infiltrate is Infiltration here too"
    assert (found["x"] + found["width"] <= boxes.SIDE).all()


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
        boxes.read(path)


def test_no_list(tmp_path):
    with pytest.raises(NotFoundError, match="no box list"):
        boxes.read(tmp_path)
