"""From a folder of DICOM films to embeddings, a head and maps: by the recipe's window, and without a name anywhere."""

import logging
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from cxrfeat import explain, extract, fit_head, read_study
from cxrfeat._images import decode
from cxrfeat._store import EmbeddingFile

pydicom = pytest.importorskip("pydicom")

NAMES = {
    "PatientName": "Quillfeather^Ottoline", "PatientID": "MRN-90017", "OtherPatientNames": "Quillfeather",
    "ReferringPhysicianName": "Quillfeather^B", "AccessionNumber": "ACC90017", "PatientComments": "Quillfeather",
    "InstitutionName": "Quillfeather Ward", "StudyDescription": "Quillfeather", "PatientAddress": "Quillfeather Lane",
}  # fmt: skip


@pytest.fixture
def ward(tmp_path):
    """24 films of 12 patients, half with a window; the last one cannot be decoded."""
    from pydicom.dataset import FileDataset, FileMetaDataset

    rng = np.random.default_rng(0)
    (tmp_path / "ward").mkdir()
    for i in range(24):
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID = pydicom.uid.DigitalXRayImageStorageForPresentation
        film = FileDataset("x", {}, file_meta=meta, preamble=b"\0" * 128)
        for name, value in NAMES.items():
            setattr(film, name, value if name != "PatientID" else f"{value}{i // 2}")
        pixels = rng.integers(0, 4096, (60, 44)).astype(np.uint16)
        film.SOPClassUID, film.ViewPosition, film.PatientAge = meta.MediaStorageSOPClassUID, "PA", "Quillfeather"
        film.Rows, film.Columns, film.SamplesPerPixel, film.PhotometricInterpretation = 60, 44, 1, "MONOCHROME2"
        film.BitsAllocated, film.BitsStored, film.HighBit, film.PixelRepresentation = 16, 12, 11, 0
        film.PixelSpacing, film.ImageLaterality = [0.2, 0.1], "U"
        if i % 2:
            film.WindowCenter, film.WindowWidth = 2000, 1500
        film.RescaleSlope, film.RescaleIntercept = (2, 0) if i == 0 else (1, 0)
        film.PixelData = pixels.tobytes() if i < 23 else pixels.tobytes()[:100]
        film.save_as(tmp_path / "ward" / f"f{i:02d}.dcm")
    return tmp_path / "ward"


@pytest.mark.filterwarnings("ignore")
def test_no_name_reaches_a_study_log_cache_run_or_map(ward, small, tmp_path, caplog, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    logging.getLogger("pydicom").setLevel(logging.NOTSET)
    with caplog.at_level(logging.DEBUG):
        study = read_study(ward, anonymise="salt", keep=["AccessionNumber"])
        saved = study.save(tmp_path / "studies" / "ward.csv")
        labelled = pd.read_csv(saved).assign(Mass=np.arange(24) // 2 % 2)
        labelled["split"] = np.repeat(np.array(["train"] * 8 + ["val"] * 2 + ["test"] * 2), 2)
        labelled.to_csv(tmp_path / "studies" / "labelled.csv", index=False)
        study = read_study(tmp_path / "studies" / "labelled.csv")
        done = extract(study, backbone="small", weights="random:0", size=32, geometry="pad", cache=tmp_path / "cache")
        run = fit_head(study, done.path)
        found = explain(run, [study.paths()[0]], labels=["Mass"])
    assert list(done.failed) == [study.ids[-1]] and "cannot be decoded (ValueError)" in done.failed[study.ids[-1]]
    with EmbeddingFile.open(done.path) as file:
        assert file.provenance["voi"] == {"window": 11, "bits": 11, "range": 1}
    assert "1 DICOM files have no window" in caplog.text
    one = next(iter(found))
    one.save(tmp_path / "map.npz")
    assert one.film == {
        "spacing_mm": [0.2, 0.1],
        "spacing": "PixelSpacing",
        "laterality": "U",
        "view": "PA",
        "voi": "range",
    }
    assert type(one).load(tmp_path / "map.npz").film == one.film
    said = caplog.text + "".join(capfd.readouterr()) + repr(done) + str(study.table)
    kept = b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file() and p.suffix != ".dcm")
    assert saved.is_file() and len(kept) > 10_000
    for secret in ("Quillfeather", "MRN-9", "ACC9"):
        assert secret not in said
        assert secret.encode() not in kept


@pytest.mark.filterwarnings("ignore")
def test_maps_decode_a_film_by_the_rule_of_the_recipe(ward, small, tmp_path):
    """The probability of the full graph must be the one of the embeddings, which other grey values would change."""
    study = read_study(ward)
    split = np.repeat(["train"] * 8 + ["val"] * 2 + ["test"] * 2, 2)
    study = replace(study, table=study.table.assign(Mass=np.arange(24.0) // 2 % 2, split=split), labels=("Mass",))
    done = extract(study, backbone="small", weights="random:0", size=32, voi="full", cache=tmp_path / "cache")
    with EmbeddingFile.open(done.path) as file:
        assert file.provenance["voi"] == {"bits": 23} and file.recipe.voi == "full"
    run = fit_head(study, done.path, out=tmp_path / "run")
    (one,) = explain(run, ["f21.dcm"])
    np.testing.assert_array_equal(one.pixels(), decode.read_grey(ward / "f21.dcm", "full"))
    assert np.abs(one.pixels().astype(int) - decode.read_grey(ward / "f21.dcm")).mean() > 20, "its window is narrower"
    np.testing.assert_array_equal(replace(one, grey=None).pixels(), one.pixels())
