"""Protects: `verify` says exactly what is wrong, and nothing where nothing is."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from cxrfeat._store import EmbeddingFile, Writer
from cxrfeat._store.verify import find_images, verify
from cxrfeat.errors import EmbeddingFileError, NotFoundError


def flip(path, needle, bit=1):
    data = bytearray(path.read_bytes())
    at = data.find(needle)
    assert at > 0
    data[at] ^= bit
    path.write_bytes(data)


@pytest.fixture
def pictured(tmp_path, recipe, rows):
    """A file of 40 images that are on disk; its embeddings are made from their first bytes."""
    folder = tmp_path / "images"
    (folder / "deep").mkdir(parents=True)
    ids = [f"i{k}" for k in range(40)]
    paths = {i: folder / ("deep" if k % 2 else "") / f"{i}.png" for k, i in enumerate(ids)}
    for k, path in enumerate(paths.values()):
        path.write_bytes(bytes([k + 1]) * 50)
    hashes = np.array([list(hashlib.sha256(p.read_bytes()).digest()) for p in paths.values()], np.uint8)
    embeddings = np.stack([recompute(recipe(), list(paths.values())), rows(40)[2][1]])
    with Writer.open(tmp_path / "a.h5", recipe(), 8, {}) as writer:
        writer.append(ids, hashes, embeddings)
        writer.publish(ids)
    return tmp_path / "a.h5", folder, paths


def recompute(recipe, paths):
    return np.array([np.full(8, path.read_bytes()[0]) for path in paths], np.float32)


def test_a_sound_file(make_file):
    report = verify(make_file().path)
    assert report.ok and report.sound == report.rows == 600


def test_a_flipped_value_names_its_block(make_file):
    made = make_file()
    flip(made.path, made.embeddings[1, 300].tobytes())
    report = verify(made.path)
    assert [finding.kind for finding in report.findings] == ["content"]
    assert report.findings[0].image_ids == tuple(made.ids[256:512])
    assert report.sound == 600 - 256


def test_a_flipped_id(make_file):
    made = make_file()
    flip(made.path, made.ids[300].encode())
    assert "checksum" in verify(made.path).findings[0].text


def test_values_that_are_not_finite(make_file, monkeypatch):
    from cxrfeat._store import rows

    monkeypatch.setattr(rows, "checked", lambda ids, embeddings, storage: embeddings)  # as a foreign writer might
    made = make_file()
    with Writer.open(made.path, made.recipe, 8, {}) as writer:
        writer.append(["bad"], np.ones((1, 32), np.uint8), np.full((2, 1, 8), np.nan, np.float32))
        writer.publish([*made.ids, "bad"])
    report = verify(made.path)
    assert [(f.kind, f.image_ids) for f in report.findings] == [("values", ("bad",))]
    assert report.sound == 600


def test_images_found_changed_and_gone(pictured):
    path, folder, paths = pictured
    assert find_images(folder, list(paths)) == paths
    assert verify(path, paths).ok
    paths["i3"].write_bytes(b"other")
    paths["i4"].unlink()
    found = {finding.image_ids: finding for finding in verify(path, find_images(folder, list(paths))).findings}
    assert set(found) == {("i3",), ("i4",)}
    assert "extract" in found[("i3",)].text
    with pytest.raises(NotFoundError, match="none of the 1 images"):
        find_images(folder, ["x"])
    with pytest.raises(NotFoundError, match="no folder"):
        find_images(folder / "x", ["x"])


def test_deep_finds_embeddings_that_come_out_differently(pictured):
    path, _, paths = pictured
    asked = []

    def drifted(recipe, files):
        asked.append(len(files))
        values = recompute(recipe, files)
        values[:, 3] *= 1 + 3e-4 * (values[:, 3] % 2)  # every other image by more than the tolerance
        return values

    assert verify(path, paths, recompute, sample=10).ok
    assert verify(path, paths, lambda r, f: recompute(r, f) * np.float32(1 + 5e-5)).ok
    report = verify(path, paths, drifted, sample=40)
    assert asked == [40]
    (finding,) = report.findings
    assert finding.kind == "recomputed"
    assert sorted(finding.image_ids) == sorted(f"i{k}" for k in range(0, 40, 2))
    with pytest.raises(EmbeddingFileError, match="needs the images"):
        verify(path, None, recompute)


def test_deep_allows_float16_to_fall_to_either_side(tmp_path, recipe):
    (tmp_path / "i.png").write_bytes(b"i")
    hashes = np.frombuffer(hashlib.sha256(b"i").digest(), np.uint8)[None]
    with Writer.open(tmp_path / "a.h5", recipe(0, storage="float16"), 8, {}) as writer:
        writer.append(["i"], hashes, np.full((1, 1, 8), 1.0, np.float32))
        writer.publish(["i"])
    for steps, ok in ((0, True), (1, True), (2, False)):
        again = np.full((1, 8), 1 + steps / 1024, np.float32)
        report = verify(tmp_path / "a.h5", {"i": tmp_path / "i.png"}, lambda *_, again=again: again)
        assert report.ok == ok


def test_an_unfinished_extraction_is_a_note(make_file, rows):
    made = make_file()
    ids, hashes, embeddings = rows(3, seed=9)
    with Writer.open(made.path, made.recipe, 8, {}) as writer:
        writer.append(ids, hashes, embeddings)
    report = verify(made.path)
    assert report.ok and "unfinished" in report.notes[0]
    with EmbeddingFile.open(made.path) as file:
        assert len(file) == 600
