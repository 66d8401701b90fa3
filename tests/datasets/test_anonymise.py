"""Ids of patients and studies under hashes: the same in every study of one salt, and nothing else is changed."""

import hashlib
import hmac

import numpy as np
import pandas as pd
import pytest

from cxrfeat import read_study
from cxrfeat.errors import StudyError


@pytest.fixture
def table(tmp_path):
    rows = [(f"x{i}", f"x{i}.png", f"ward-{i // 3}", f"st{i // 2}", i % 2) for i in range(60)]
    frame = pd.DataFrame(rows, columns=["image_id", "path", "patient_id", "study_id", "Mass"])
    frame.to_csv(tmp_path / "ward.csv", index=False)
    for name in frame["path"]:
        (tmp_path / name).touch()
    return tmp_path / "ward.csv"


def test_ids_are_hmac_sha256_and_the_rest_stays(table):
    plain = read_study(table, build=True, keep=["study_id"])
    hidden = read_study(table, build=True, keep=["study_id"], anonymise="s3cret")
    expected = [hmac.new(b"s3cret", one.encode(), hashlib.sha256).hexdigest()[:16] for one in plain.patients]
    assert hidden.patients.tolist() == expected
    assert hidden.table["study_id"].nunique() == plain.table["study_id"].nunique()
    assert not hidden.table["study_id"].str.startswith("st").any()
    same = ["image_id", "path", "split", "Mass"]
    pd.testing.assert_frame_equal(hidden.table[same], plain.table[same])  # the split too: salts do not move patients
    np.testing.assert_array_equal(hidden.patients == hidden.patients[0], plain.patients == plain.patients[0])


def test_studies_of_one_salt_share_patients_and_the_salt_is_not_kept(table, tmp_path):
    first = read_study(table, build=True, anonymise="s3cret")
    again = read_study(first.save(tmp_path / "a.csv"))
    other = read_study(table, build=True, anonymise="another")
    assert not set(first.patients) & set(other.patients)
    assert first.provenance["anonymised"] == again.provenance["anonymised"] != other.provenance["anonymised"]
    assert "s3cret" not in str(dict(first.provenance)) + (tmp_path / "a.csv").read_text()
    assert "ward-" not in (tmp_path / "a.csv").read_text()


def test_ids_that_stay_in_file_names_are_said(table, caplog):
    frame = pd.read_csv(table)
    frame["image_id"] = frame["patient_id"] + "_" + frame["image_id"]
    frame.to_csv(table, index=False)
    read_study(table, build=True, anonymise="s3cret")
    assert "60 of the first 60 cells of `image_id` still hold a patient's id" in caplog.text
    assert "`path`" not in caplog.text
    with pytest.raises(StudyError, match="needs a salt"):
        read_study(table, build=True, anonymise="")
