"""The sample copied out is what it was, in a shape that any reader of a CSV takes, and is still known as the sample."""

from __future__ import annotations

import filecmp

import numpy as np
import pytest

from cxrfeat import _sample as sample
from cxrfeat import copy_sample, read_study
from cxrfeat._labels import NIH_LABELS
from cxrfeat.errors import StudyError

COLUMNS = {"path": "file", "patient": "patient", "findings": "findings", "labels": NIH_LABELS}


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    return copy_sample(tmp_path_factory.mktemp("copy") / "xrays")


def test_a_study_of_the_copy_has_the_sample_s_images_patients_and_labels(copied, sample_study):
    study = read_study(copied, images=copied.parent / "images", **COLUMNS)
    theirs, ours = study.take(np.argsort(study.ids)), sample_study.take(np.argsort(sample_study.ids))
    assert list(theirs.ids) == list(ours.ids)
    np.testing.assert_array_equal(theirs.y, ours.y)
    assert list(theirs.table["patient_id"]) == list(ours.table["patient_id"])
    assert set(theirs.table["split"]) == {"train", "val", "test"}


def test_every_file_is_copied_byte_for_byte(copied):
    names = [path.name for path in (sample.folder() / "images").iterdir()]
    assert len(names) == 150
    assert filecmp.cmpfiles(sample.folder() / "images", copied.parent / "images", names, shallow=False)[0] == names


def test_copies_are_known_as_the_sample_and_a_changed_one_is_not(copied, tmp_path):
    study = read_study(copied, images=copied.parent / "images", **COLUMNS)
    assert sample.holds(study)
    other = copy_sample(tmp_path / "changed")
    image = next((other.parent / "images").iterdir())
    image.write_bytes(image.read_bytes() + b"\0")
    assert not sample.holds(read_study(other, images=other.parent / "images", **COLUMNS))


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(StudyError, match="not an empty folder; name a new one"):
        copy_sample(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_copy_that_was_killed_is_finished_and_a_finished_one_is_left_alone(copied, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "00000001_000.png").write_bytes(b"half")
    assert copy_sample(tmp_path).read_bytes() == copied.read_bytes()
    with pytest.raises(StudyError, match="not an empty folder"):
        copy_sample(tmp_path)
