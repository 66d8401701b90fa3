"""Protects: a merge holds each image once, says what clashed, and joins nothing of two recipes."""

from __future__ import annotations

import numpy as np
import pytest

from cxrfeat._store import EmbeddingFile, Writer, assembly, hdf5
from cxrfeat._store import merge as merging
from cxrfeat._store.hdf5.table import HDF5Table
from cxrfeat._store.verify import verify
from cxrfeat.cache import merge
from cxrfeat.errors import EmbeddingFileError, RecipeError


def test_rows_of_all_files_in_their_order(make_file, tmp_path, monkeypatch):
    monkeypatch.setattr(assembly, "STRETCHES", (1, 1))  # a block at a time
    a, b = make_file(n=700, name="a.h5"), make_file(n=300, name="b.h5", seed=1)
    found = merge([a.path, b.path], tmp_path / "c.h5")
    assert (found.rows, found.from_each, found.same, found.clashes) == (1000, (700, 300), 0, ())
    with EmbeddingFile.open(tmp_path / "c.h5") as file:
        assert file.image_ids.tolist() == a.ids + b.ids
        assert (file.read(passes=(0, 1)) == np.concatenate([a.embeddings, b.embeddings], axis=1)).all()
        assert (file.image_sha256() == np.concatenate([a.image_sha256, b.image_sha256])).all()
        assert file.failures()["image_id"].tolist() == ["unreadable"]
        assert file.provenance == {"merged": [{"engine": "none"}, {"engine": "none"}]}
    assert verify(tmp_path / "c.h5").ok


def test_many_files_are_open_a_few_at_a_time(make_file, tmp_path, monkeypatch):
    monkeypatch.setattr(merging, "OPEN", 2)
    opened, most = set(), []

    class Watched(HDF5Table):
        def __init__(self, path):
            super().__init__(path)
            opened.add(id(self))
            most.append(len(opened))

        def close(self):
            super().close()
            opened.discard(id(self))

    monkeypatch.setattr(hdf5, "open_sound", Watched)
    made = [make_file(n=300, name=f"{k}.h5", seed=k) for k in range(6)]
    merge([one.path for one in made], tmp_path / "all.h5")
    assert not opened and max(most) <= 4
    with EmbeddingFile.open(tmp_path / "all.h5") as file:
        assert (file.read(passes=(0, 1)) == np.concatenate([one.embeddings for one in made], axis=1)).all()


def test_the_same_image_twice_and_clashes(make_file, tmp_path, rows):
    a, b = make_file(n=10, name="a.h5"), make_file(n=10, name="b.h5", seed=1)
    _, hashes, embeddings = rows(1, seed=3)
    with Writer.open(b.path, b.recipe, 8, {}) as writer:
        writer.append([a.ids[0]], a.image_sha256[:1], a.embeddings[:, :1])  # the same
        writer.append([a.ids[1]], hashes, embeddings)  # another image under this id
        writer.append(["unreadable"], hashes, embeddings)
        writer.publish(b.ids)
    with pytest.raises(EmbeddingFileError, match=f"1 images have different hashes in several files: {a.ids[1]}"):
        merge([a.path, b.path], tmp_path / "c.h5")
    assert not (tmp_path / "c.h5").exists()
    for prefer, wanted in (("first", a.embeddings[:, 1:2]), ("last", embeddings)):
        out = tmp_path / f"{prefer}.h5"
        found = merge([a.path, b.path], out, prefer=prefer)
        assert (found.rows, found.same, found.clashes) == (21, 1, (a.ids[1],))
        with EmbeddingFile.open(out) as file:
            assert (file.read([a.ids[1]], (0, 1)) == wanted).all()
            assert file.failures().empty  # it has a row in the other file


def test_what_cannot_be_merged(make_file, tmp_path):
    a, b = make_file(n=10, name="a.h5"), make_file(n=10, name="b.h5", seed=1, size=320)
    with pytest.raises(RecipeError, match="size: 224 against 320"):
        merge([a.path, b.path], tmp_path / "c.h5")
    with pytest.raises(EmbeddingFileError, match="exists already"):
        merge([a.path, a.path], b.path)
    with pytest.raises(EmbeddingFileError, match="two embedding files"):
        merge([a.path], tmp_path / "c.h5")
