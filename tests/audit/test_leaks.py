"""Copies of images under other patients are found whatever was done to them; other films are not called copies."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from cxrfeat_cli.main import cli

import cxrfeat as cxr
from cxrfeat import _project as records
from cxrfeat._audit import leaks as searching
from cxrfeat._audit import pixels
from cxrfeat._study import Study
from cxrfeat.errors import StudyError

SIZE = 128


def film(seed: int) -> np.ndarray:
    """A picture with coarse and fine structure of its own on a body that all have in common."""
    rng = np.random.default_rng(seed)
    grey = np.zeros((SIZE, SIZE), np.float32)
    body = np.add.outer(np.hanning(SIZE), np.hanning(SIZE)) * 60
    for cells, strength in ((6, 50), (16, 40), (40, 25)):
        grey += cv2.resize(rng.normal(size=(cells, cells)).astype(np.float32), (SIZE, SIZE)) * strength
    return np.clip(grey + body + 60, 0, 255).astype(np.uint8)


def recoded(grey: np.ndarray) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, 60])[1], cv2.IMREAD_GRAYSCALE)


CHANGES = {
    "recoded": recoded,
    "resized": lambda grey: cv2.resize(grey, (200, 180), interpolation=cv2.INTER_CUBIC),
    "cut": lambda grey: grey[2:, 3:],  # 2 %
    "contrast": lambda grey: np.clip(grey * 0.6 + 20, 0, 255).astype(np.uint8),
    "gamma": lambda grey: (255 * (grey / 255) ** 2).astype(np.uint8),
    "equalised": cv2.equalizeHist,
}


def write_study(folder: Path, films: dict[str, np.ndarray], patients: list[str], splits: list[str]) -> Study:
    folder.mkdir(parents=True, exist_ok=True)
    for name, grey in films.items():
        cv2.imwrite(str(folder / name), grey)
    table = pd.DataFrame({"image_id": list(films), "path": list(films), "patient_id": patients, "split": splits})
    table["Mass"] = [float(i % 2) for i in range(len(table))]
    return Study(table, ("Mass",), folder.name, folder)


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def planted(project) -> Study:
    """40 films in train, and in test a changed copy of six of them under another patient."""
    films = {f"{i:02d}.png": film(i) for i in range(40)}
    copies = {f"{name}.png": change(film(i)) for i, (name, change) in enumerate(CHANGES.items())}
    patients = [f"p{i}" for i in range(40)] + [f"q{i}" for i in range(6)]
    return write_study(project / "planted", films | copies, patients, ["train"] * 40 + ["test"] * 6)


def test_every_kind_of_copy_is_found_and_nothing_else(planted):
    found = cxr.leaks(planted)
    assert {(row["image_a"], row["image_b"]) for row in found.pairs} == {
        (f"{i:02d}.png", f"{name}.png") for i, name in enumerate(CHANGES)
    }
    assert {row["how"] for row in found.pairs} == {"near"}
    assert found.tables()[""] == [{"images in": "train and test", "file": 0, "pixels": 0, "near": 6, "unverified": 0}]
    # A published test set stays as it is: what is fitted on loses the image.
    assert found.drop() == [f"{i:02d}.png" for i in range(6)]


def test_the_same_bytes_and_the_same_pixels_are_told_apart(project):
    films = {f"{i:02d}.png": film(i) for i in range(3)} | {"bytes.png": film(0), "pixels.bmp": film(1)}
    study = write_study(project / "s", films, list("abcde"), ["train"] * 3 + ["val", "test"])
    found = cxr.leaks(study)
    assert [(row["image_a"], row["image_b"], row["how"]) for row in found.pairs] == [
        ("00.png", "bytes.png", "file"),
        ("01.png", "pixels.bmp", "pixels"),
    ]
    assert np.isnan(found.threshold) and "20 patients" in found.notes()[0]


def test_copies_of_one_patient_are_counted_apart(project):
    films = {f"{i:02d}.png": film(i) for i in range(30)} | {"again.png": CHANGES["gamma"](film(4))}
    study = write_study(project / "s", films, [f"p{i}" for i in range(30)] + ["p4"], ["train"] * 31)
    found = cxr.leaks(study)
    assert found.pairs == [] and found.same_patient == 1 and not found.problems()


def test_copies_in_another_study_are_found_and_that_one_loses_them(planted, project):
    films = {f"{i}.png": film(100 + i) for i in range(20)} | {"theirs.png": CHANGES["equalised"](film(30))}
    other = write_study(project / "other", films, [f"p{i}" for i in range(21)], ["test"] * 21)
    found = cxr.leaks(planted, other)
    across = [row for row in found.pairs if row["study_a"] != row["study_b"]]
    assert [(row["image_a"], row["image_b"]) for row in across] == [("30.png", "theirs.png")]
    assert found.drop("other") == ["theirs.png"] and len(found.drop()) == 6
    names = {path.name for path in found.save()}
    assert names == {"pairs.csv", "drop.txt", "drop-other.txt", "pairs.png"}
    with pytest.raises(StudyError, match="different names"):
        cxr.leaks(planted, planted)


def test_embeddings_find_what_pixels_cannot_be_read_for(project):
    """Images that are gone are compared by their embeddings alone, and a pair says that it is not verified."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 64)).astype(np.float32)
    x[299] = x[5] + 0.01 * rng.normal(size=64)
    ids = [f"{i}.png" for i in range(300)]
    table = pd.DataFrame({"image_id": ids, "path": ids, "patient_id": ids, "split": ["train"] * 200 + ["test"] * 100})
    cxr.cache.import_(x, "cache/gone.h5", ids=ids, backbone="ours").close()
    found = cxr.leaks(Study(table, (), "gone", project))
    assert [(row["image_a"], row["image_b"], row["how"]) for row in found.pairs] == [("5.png", "299.png", "unverified")]
    assert found.unread == 300 and found.recipe is not None and found.drop() == ["5.png"]


def test_the_check_is_recorded_and_holds_for_parts_of_the_study(planted, caplog):
    with caplog.at_level(logging.INFO, "cxrfeat"):
        records.remind(planted)
    assert "was not checked" in caplog.text
    found = cxr.leaks(planted)
    caplog.clear()
    records.remind(planted)
    assert "6 pairs of copies are in two splits, such as 00.png and recoded.png" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO, "cxrfeat"):
        records.remind(planted.take(~np.isin(planted.ids, found.drop())).with_labels(["Mass"]))
    assert caplog.text == ""


@pytest.mark.parametrize("change", ["patient", "damaged"])
def test_a_record_of_other_patients_or_a_damaged_one_is_none(planted, caplog, change):
    cxr.leaks(planted)
    file = records.leaks_folder(planted) / "leaks.json"
    if change == "damaged":
        file.write_text(json.dumps(json.loads(file.read_text()) | {"images": "?"}))
    table = planted.table.assign(patient_id=["new" if change == "patient" else "p0", *planted.patients[1:]])
    with caplog.at_level(logging.INFO, "cxrfeat"):
        records.remind(Study(table, planted.labels, planted.name, planted.root))
    assert "was not checked" in caplog.text


def test_the_threshold_is_exceeded_by_no_more_false_pairs_than_it_says():
    """Against a normal law on Fisher's scale, whose tail is known."""
    z = np.random.default_rng(0).normal(0.2, 0.07, 4000)
    found = np.arctanh(searching.threshold(np.tanh(z[:1000]), 10_000, 0.05))
    from scipy.stats import norm

    assert 10_000 * norm.sf((found - 0.2) / 0.07) <= 0.05
    assert found < 0.2 + 12 * 0.07


def test_similarity_does_not_depend_on_brightness_and_an_empty_picture_is_like_nothing():
    small = cv2.resize(film(0), (pixels.SIDE, pixels.SIDE), interpolation=cv2.INTER_AREA)
    assert pixels.similarity(small, (small * 0.5 + 30).astype(np.uint8)) > 0.9
    assert pixels.similarity(small, np.zeros_like(small)) == 0.0


def test_the_command_writes_pairs_ids_and_a_contact_sheet(planted, project):
    planted.save("studies/planted.csv")
    result = CliRunner().invoke(cli, ["study", "leaks", "planted"])
    assert result.exit_code == 0, result.output
    assert "train and test" in result.stdout and "pairs: 6; images to drop: 6." in result.stderr
    folder = project / "studies" / "planted.leaks"
    assert {path.name for path in folder.iterdir()} == {"pairs.csv", "drop.txt", "pairs.png", "leaks.json"}
    assert folder.joinpath("drop.txt").read_text().split() == [f"{i:02d}.png" for i in range(6)]
    result = CliRunner().invoke(cli, ["study", "leaks", "nowhere"])
    assert result.exit_code == 2
