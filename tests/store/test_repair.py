"""Protects: repair keeps every sound row and no other, and the next extraction does only what was lost."""

from __future__ import annotations

import hashlib
import json
import shutil
import struct

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


def forged(path, change):
    """Put another recovery index, with a right hash, at the end of a file that HDF5 cannot open."""
    data = path.read_bytes()
    length = struct.unpack("<Q8s", data[-16:])[0]
    index = json.loads(data[-48 - length : -48])
    change(index["datasets"])
    text = json.dumps(index).encode()
    head = bytearray(data[: -48 - length])
    head[30] ^= 1
    path.write_bytes(bytes(head) + text + hashlib.sha256(text).digest() + struct.pack("<Q8s", len(text), b"CXRFINDX"))


FORGED = {
    "many rows": lambda d: d["embeddings"].update(shape=[2, 1 << 50, 8]),
    "many passes": lambda d: d["embeddings"].update(shape=[1 << 40, 1000, 8]),
    "no width": lambda d: d["embeddings"].update(shape=[2, 1 << 50, 0]),
    "chunks of one byte": lambda d: d["image_sha256"].update(chunks=[1, 1]),
    "chunks of nothing": lambda d: d["image_id"].update(chunks=[0]),
    "wide ids": lambda d: d["image_id"].update(dtype="S1000000000"),
    "objects": lambda d: d["image_id"].update(dtype="O"),
    "offsets gone": lambda d: d["embeddings"].update(offsets=[]),
    "far offsets": lambda d: d["embeddings"].update(offsets=[1 << 70] * 8),
    "negative offsets": lambda d: d["image_id"].update(offsets=[-5]),
    "text": lambda d: d.update(embeddings="x"),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_index_ends_in_a_sentence_at_once(made, name):
    forged(made.path, FORGED[name])
    before = made.path.read_bytes()
    with pytest.raises(EmbeddingFileError) as error:
        repair(made.path)
    assert str(error.value).endswith(".")
    assert made.path.read_bytes() == before


def test_an_index_nested_too_deeply(made):
    data = bytearray(made.path.read_bytes())
    text = b"[" * 100_000
    data[30] ^= 1
    made.path.write_bytes(
        bytes(data) + text + hashlib.sha256(text).digest() + struct.pack("<Q8s", len(text), b"CXRFINDX")
    )
    with pytest.raises(EmbeddingFileError):
        repair(made.path)


def test_another_file_is_not_replaced(made, make_file):
    other = make_file(n=10, name="other.h5", seed=1)
    before = other.path.read_bytes()
    with pytest.raises(EmbeddingFileError, match="exists already"):
        repair(made.path, other.path)
    assert other.path.read_bytes() == before
