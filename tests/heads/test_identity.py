"""A study is joined to embeddings of its own images, whatever the images and the study are called."""

from __future__ import annotations

import hashlib
import shutil

import numpy as np
import pandas as pd
import pytest

from cxrfeat import _manifest as manifest
from cxrfeat._heads import fit_head, predict
from cxrfeat._images import decode
from cxrfeat._recipe import Recipe
from cxrfeat._store import Writer
from cxrfeat._study import Study, read_study_file
from cxrfeat.errors import EmbeddingFileError

N = 40


def hospital(folder, seed, n=N):
    """A study `ward` of images `1.png`...; every hospital has one."""
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    ids = [f"{k}.png" for k in range(n)]
    for image_id in ids:
        (folder / "images" / image_id).write_bytes(rng.bytes(100))
    table = pd.DataFrame({"image_id": ids, "path": [f"images/{i}" for i in ids], "patient_id": ids})
    table["split"] = ["train"] * (n - 15) + ["val"] * 8 + ["test"] * 7
    table["Mass"] = [float(k % 2) for k in range(n)]
    return Study(table, ("Mass",), "ward", folder)


def embed(study, path, seen=True):
    x = np.random.default_rng(0).random((1, len(study), 8)).astype(np.float32)
    hashes = [np.frombuffer(hashlib.sha256(p.read_bytes()).digest(), np.uint8) for p in study.paths()]
    with Writer.open(path, Recipe("densenet121", "random:0", "0" * 64, "relu", "torch", 224), 8, {}) as writer:
        writer.append(study.ids.tolist(), np.array(hashes), x)
        writer.publish(study.ids.tolist())
    if seen:
        manifest.write(path, manifest.look(study))
    return path


@pytest.fixture
def a(tmp_path):
    return hospital(tmp_path / "a", 1)


def test_another_hospitals_study_of_the_same_name_and_ids_is_refused(a, tmp_path):
    b = hospital(tmp_path / "b", 2)
    file = embed(a, tmp_path / "ward.h5")
    run = fit_head(a, file, out=tmp_path / "run")
    with pytest.raises(EmbeddingFileError, match=r"40 of 40 images compared of study 'ward'.*'0\.png'"):
        fit_head(b, file, out=tmp_path / "other")
    with pytest.raises(EmbeddingFileError, match="another study's"):
        predict(run, file, b)
    assert len(predict(run, file, a)) == N


def test_images_that_moved_are_compared_by_their_bytes(a, tmp_path):
    file = embed(a, tmp_path / "ward.h5")
    shutil.move(tmp_path / "a", tmp_path / "moved")
    moved = Study(a.table, a.labels, a.name, tmp_path / "moved")
    for path in moved.paths():
        shutil.copy(path, path.with_suffix(".new"))
        path.with_suffix(".new").replace(path)
    assert fit_head(moved, file, out=tmp_path / "run").labels == ("Mass",)
    (moved.root / "images" / "7.png").write_bytes(b"another film")
    with pytest.raises(EmbeddingFileError, match=r"1 of 1 images compared.*'7\.png'"):
        fit_head(moved, file, out=tmp_path / "again")


def test_unchanged_files_are_not_read(a, tmp_path, monkeypatch):
    file = embed(a, tmp_path / "ward.h5")
    monkeypatch.setattr(decode, "read_bytes", lambda path: pytest.fail(f"{path} was read"))
    fit_head(a, file, out=tmp_path / "run")


def test_without_a_manifest_all_files_are_read_once_and_remembered(a, tmp_path, monkeypatch):
    """Not some of them: one other film among 112,120 is one patient's wrong row."""
    file, read = embed(a, tmp_path / "ward.h5", seen=False), []
    original = decode.read_bytes
    monkeypatch.setattr(decode, "read_bytes", lambda path: read.append(path) or original(path))
    fit_head(a, file, out=tmp_path / "run")
    assert sorted(read) == sorted(a.paths())
    fit_head(a, file, out=tmp_path / "again")
    assert len(read) == N
    (a.root / "images" / "39.png").write_bytes(b"another film")
    with pytest.raises(EmbeddingFileError, match=r"1 of 1 images compared.*'39\.png'"):
        predict(tmp_path / "run", file, a)


def test_one_other_film_among_many_is_found_wherever_it_is(tmp_path):
    """As many images as were once compared at most, and one."""
    many = hospital(tmp_path / "many", 1, 1001)
    file = embed(many, tmp_path / "ward.h5", seen=False)
    for changed in ("1.png", "999.png"):
        path = many.root / "images" / changed
        kept = path.read_bytes()
        path.write_bytes(b"another film")
        with pytest.raises(EmbeddingFileError, match=f"1 of .*'{changed}'"):
            fit_head(many, file, out=tmp_path / "run")
        path.write_bytes(kept)


def test_what_was_compared_is_forgotten_of_no_other_image(a, tmp_path):
    """A part of the study is joined: what the manifest knows of the rest stays."""
    file = embed(a, tmp_path / "ward.h5")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    half = Study(a.table.iloc[:33].reset_index(drop=True), a.labels, a.name, tmp_path / "b")
    fit_head(half, file, out=tmp_path / "run")
    known = manifest.read(file)
    assert sorted(known.image_ids) == sorted(a.ids)
    assert manifest.look(half).same_as(known).all()
    assert manifest.look(a).same_as(known)[33:].all()


def test_a_study_without_its_images_is_joined_by_id(a, tmp_path):
    file = embed(a, tmp_path / "ward.h5")
    a.save(tmp_path / "table" / "ward.csv")
    shutil.rmtree(tmp_path / "a")
    fit_head(read_study_file(tmp_path / "table" / "ward.csv"), file, out=tmp_path / "run")


def test_the_same_film_of_two_patients_in_two_splits_is_named(a, tmp_path, caplog):
    paths = a.paths()
    paths[39].write_bytes(paths[0].read_bytes())
    fit_head(a, embed(a, tmp_path / "ward.h5"), out=tmp_path / "run")
    assert "0.png and 39.png" in caplog.text
