"""Studies whose images, or whose table, are at addresses."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import cxrfeat as cxr
from cxrfeat._remote import Url, place
from cxrfeat.errors import NotFoundError, StorageError, StudyError


@pytest.fixture
def table(store, film):
    """Eight images at s3://films/xrays, and their table, as a frame."""
    ids = [f"i{k}" for k in range(8)]
    store.fs.pipe({f"films/xrays/{i}.png": film(k) for k, i in enumerate(ids)})
    rows = {"image_id": ids, "path": [f"xrays/{i}.png" for i in ids], "patient_id": [f"p{k // 2}" for k in range(8)]}
    return pd.DataFrame({**rows, "Effusion": [0, 1] * 4, "split": ["train"] * 4 + ["test"] * 4})


def test_a_study_file_at_an_address(store, table, tmp_path):
    table.to_csv(tmp_path / "ward.csv", index=False)
    local = cxr.read_study(tmp_path / "ward.csv")
    store.fs.put_file(str(tmp_path / "ward.csv"), "films/ward.csv")
    study = cxr.read_study("s3://films/ward.csv")
    assert study.name == "ward"
    assert study.sha256 == local.sha256
    assert study.root == place("s3://films")
    assert study.paths()[0] == place("s3://films/xrays/i0.png")
    saved = study.save(tmp_path / "studies" / "ward.csv")
    assert cxr.read_study(saved).paths() == study.paths()
    assert cxr.read_study(saved).paths()[0] == place("s3://films/xrays/i0.png")
    store.fs.pipe("films/ward.csv", store.fs.cat("films/ward.csv").replace(b"p0", b"px"))
    assert cxr.read_study("s3://films/ward.csv").sha256 != study.sha256  # the copy is not older than the object


def test_how_a_study_was_made_is_read_with_it(store, table, tmp_path):
    table.to_csv(tmp_path / "raw.csv", index=False)
    study = cxr.read_study(tmp_path / "raw.csv", images="s3://films", build=True, resplit=True)
    study.save(tmp_path / "built.csv")
    for name in ("built.csv", "built.provenance.json"):
        store.fs.put_file(str(tmp_path / name), f"films/{name}")
    assert cxr.read_study("s3://films/built.csv").provenance == dict(study.provenance)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_table_at_an_address_is_built(store, table, tmp_path, ending):
    table = table.rename(columns={"patient_id": "mrn"})
    table.to_csv(tmp_path / "t.csv", index=False) if ending == "csv" else table.to_parquet(tmp_path / "t.parquet")
    store.fs.put_file(str(tmp_path / f"t.{ending}"), f"films/t.{ending}")
    study = cxr.read_study(f"s3://films/t.{ending}", patient="mrn")
    assert study.paths()[7] == place("s3://films/xrays/i7.png")
    assert study.provenance["source"] == f"t.{ending}"


def test_images_at_an_address_beside_a_table_here(store, table, tmp_path):
    table["path"] = [Path(path).stem for path in table["path"]]  # without their ending: the folder is listed
    table.to_csv(tmp_path / "t.csv", index=False)
    study = cxr.read_study(tmp_path / "t.csv", images="s3://films/xrays", build=True)
    assert study.paths()[0] == place("s3://films/xrays/i0.png")
    table.loc[0, "path"] = "none"
    table.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(NotFoundError, match=r"1 of 8 images are not under s3://films/xrays, the first is 's3://films"):
        cxr.read_study(tmp_path / "t.csv", images="s3://films/xrays", build=True)
    assert len(cxr.read_study(tmp_path / "t.csv", images="s3://films/xrays", missing="skip")) == 7


def test_addresses_in_the_table_and_their_credentials(store, table, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    sign = "X-Amz-Credential=AKIDX&X-Amz-Signature=s3cr3t"
    table["url"] = [f"{store.url}/films/{path}?{sign}" for path in table["path"]]
    table["url"] = table["url"].where(table.index > 0, "s3://AKIDX:s3cr3t@films/xrays/i0.png")
    table.drop(columns=["path", "image_id"]).to_csv(tmp_path / "signed.csv", index=False)
    study = cxr.read_study(tmp_path / "signed.csv", path="url", image_id="url", keep=["url"])
    assert study.ids[1] == f"{store.url}/films/xrays/i1.png"
    assert [path.is_file() for path in study.paths()] == [True] * 8  # still with them
    study.save(tmp_path / "out" / "signed.csv")
    for one in (study, cxr.merge_studies(study, cxr.read_study("sample"), val=0.1)):
        one.save(tmp_path / "out" / f"{one.name}-2.csv")
    written = "".join(path.read_text() for path in (tmp_path / "out").iterdir())
    assert f"{store.url}/films/xrays/i1.png" in written
    for text in (written, repr(study), str(study.paths()), caplog.text, study.describe()._repr_html_()):
        assert "s3cr3t" not in text


def test_a_release_with_its_films_in_a_bucket(store, film, tmp_path):
    names = [f"0000000{k}_000.png" for k in range(1, 7)]
    store.fs.pipe({f"films/nih/images_00{1 + k % 2}/images/{n}": film(k) for k, n in enumerate(names)})
    frame = pd.DataFrame({"Image Index": names, "Finding Labels": ["Mass", "No Finding"] * 3})
    frame["Follow-up #"], frame["Patient ID"], frame["Patient Age"] = 0, range(1, 7), 50
    frame["Patient Gender"], frame["View Position"] = "F", "PA"
    frame.to_csv(tmp_path / "Data_Entry_2017_v2020.csv", index=False)
    study = cxr.read_study(tmp_path, images="s3://films/nih", dataset="nih")
    assert study.paths()[0] == place("s3://films/nih/images_001/images/00000001_000.png")
    assert study.paths()[1] == place("s3://films/nih/images_002/images/00000002_000.png")
    store.fs.put_file(str(tmp_path / "Data_Entry_2017_v2020.csv"), "films/nih/Data_Entry_2017_v2020.csv")
    with pytest.raises(StudyError, match=r"is of a ChestX-ray14 release, which has other tables beside it"):
        cxr.read_study("s3://films/nih/Data_Entry_2017_v2020.csv")
    with pytest.raises(StudyError, match=r"s3://films/nih is a folder: name its table"):
        cxr.read_study("s3://films/nih")


def test_what_is_not_there(store):
    with pytest.raises(NotFoundError, match=r"there is no file s3://films/none.csv"):
        cxr.read_study("s3://films/none.csv")
    with pytest.raises(StorageError, match="there is no bucket s3://nowhere"):
        cxr.read_study("s3://nowhere/t.csv")


def test_a_picture_of_a_film_at_an_address(store, table, film):
    from cxrfeat._images import decode

    url = place("s3://films/xrays/i3.png")
    assert isinstance(url, Url)
    np.testing.assert_array_equal(decode.read_grey(url), decode.decode_grey(film(3)))
    np.testing.assert_array_equal(decode.read_grey("s3://films/xrays/i3.png"), decode.read_grey(url))


def test_images_and_folders_named_to_predict(store, table):
    from cxrfeat._predict import _files

    store.fs.pipe("films/xrays/notes.txt", b"")
    one, folder = "s3://films/xrays/i1.png", "s3://films/"
    assert [path.name for path in _files([one, folder, one])][:3] == ["i1.png", "i0.png", "i2.png"]
    assert len(_files(folder)) == 8
    with pytest.raises(NotFoundError, match="no image files in s3://films/none"):
        _files("s3://films/none")
