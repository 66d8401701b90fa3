"""Protects: repair keeps every sound row and no other, and the next extraction does only what was lost."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from cxrfeat._store import EmbeddingFile, Writer
from cxrfeat._store.repair import repair
from cxrfeat._store.verify import verify
from cxrfeat.errors import EmbeddingFileError, NotFoundError


@pytest.fixture
def made(make_file):
    return make_file(n=1000)


def damage(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_damaged_then_repaired_then_extracted_equals_the_original(made):
    with EmbeddingFile.open(made.path) as file:
        content = file.content_sha256
    data = made.path.read_bytes()
    damage(made.path, data.find(made.embeddings[0, 300].tobytes()))
    damage(made.path, data.find(made.embeddings[1, 999].tobytes()))
    found = repair(made.path)
    assert (found.kept, found.lost) == (512, 488)
    assert list(found.lost_ids) == made.ids[256:512] + made.ids[768:]
    with Writer.open(made.path, made.recipe, 8, {}) as writer:
        again = [k for k, i in enumerate(made.ids) if i not in writer.done]
        assert [made.ids[k] for k in again] == list(found.lost_ids)
        writer.append(found.lost_ids, made.image_sha256[again], made.embeddings[:, again])
        writer.publish(made.ids)
    with EmbeddingFile.open(made.path) as file:
        assert file.content_sha256 == content


def test_a_sound_file_is_left_alone(made):
    inode = made.path.stat().st_ino
    assert not repair(made.path).changed
    assert made.path.stat().st_ino == inode


def test_ids_damaged(made):
    damage(made.path, made.path.read_bytes().find(made.ids[300].encode()))
    found = repair(made.path)
    assert (found.kept, found.lost) == (744, 256)
    assert verify(made.path).ok


@pytest.mark.parametrize("at", [9, 30, 40])  # HDF5's superblock: nothing opens any more
def test_rows_are_found_where_hdf5_finds_nothing(made, at):
    damage(made.path, at)
    with pytest.raises(EmbeddingFileError):
        EmbeddingFile.open(made.path)
    found = repair(made.path)
    assert (found.kept, found.lost) == (1000, 0)
    with EmbeddingFile.open(made.path) as file:
        assert (file.read(made.ids, (0, 1)) == made.embeddings).all()


def test_a_file_cut_short(made):
    data = made.path.read_bytes()
    made.path.write_bytes(data[: data.find(made.embeddings[0, 512].tobytes())])
    found = repair(made.path)
    assert (found.kept, found.lost) == (512, 488)
    assert list(found.lost_ids) == made.ids[512:]
    with EmbeddingFile.open(made.path) as file:
        assert (file.read(passes=(0, 1)) == made.embeddings[:, :512]).all()


def test_elsewhere_the_damaged_file_is_kept(made, tmp_path):
    damage(made.path, made.path.read_bytes().find(made.embeddings[0, 0].tobytes()))
    before = made.path.read_bytes()
    assert repair(made.path, tmp_path / "b.h5").kept == 744
    assert made.path.read_bytes() == before
    assert verify(tmp_path / "b.h5").ok


def test_nothing_to_save(tmp_path, made):
    with pytest.raises(NotFoundError):
        repair(tmp_path / "none.h5")
    (tmp_path / "x.h5").write_bytes(b"hello")
    with pytest.raises(EmbeddingFileError, match="no HDF5 at all"):
        repair(tmp_path / "x.h5")
    shutil.copy(made.path, tmp_path / "b.h5")
    data = bytearray(made.path.read_bytes())
    start = data.find(made.embeddings[0, 0].tobytes())
    data[start:-4000] = np.random.default_rng(0).bytes(len(data) - 4000 - start)
    made.path.write_bytes(data)
    with pytest.raises(EmbeddingFileError, match="extract again"):
        repair(made.path)
    assert made.path.read_bytes() == bytes(data)
    assert not made.path.with_name("a.h5.lock").exists()
