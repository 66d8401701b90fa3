"""Protects: what workers elsewhere wrote counts once, survives its writer, and is not written for one that is gone."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from cxrfeat._store import EmbeddingFile, Writer
from cxrfeat._store.rows import Rows, encode_ids
from cxrfeat.errors import EmbeddingFileError, LockedError, RecipeError

pytest.importorskip("pyarrow")


def write(shards, made, rows):
    """What a worker does, on a copy that came to it as a pickle."""
    found = Rows(encode_ids([made.ids[k] for k in rows]), made.image_sha256[rows], made.embeddings[:, rows])
    elsewhere = pickle.loads(pickle.dumps(shards))
    elsewhere.check()
    return elsewhere.write(made.recipe, '{"engine": "w"}', found)


def take(writer, path, made, rows):
    writer.take(path, [made.ids[k] for k in rows], made.image_sha256[rows])


def test_shards_make_the_file_that_a_single_writer_makes(make_file, tmp_path):
    made, out = make_file(n=700), tmp_path / "b.h5"
    parts = np.array_split(np.random.default_rng(0).permutation(700), 5)
    with Writer.open(out, made.recipe, 8, {"engine": "driver"}) as writer:
        shards = writer.shards()
        for part in parts:
            take(writer, write(shards, made, part), made, part)
        take(writer, write(shards, made, parts[0]), made, parts[0])  # a batch that was done twice
        write(shards, made, parts[1])  # and one whose second worker told nobody
        writer.fail("unreadable", "images/unreadable.png", "not an image")
        writer.publish(made.ids)
    with EmbeddingFile.open(out) as file, EmbeddingFile.open(made.path) as whole:
        assert file.content_sha256 == whole.content_sha256
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.h5", "b.h5"]


def test_a_dead_writers_shards_are_kept_and_a_damaged_one_is_not(make_file, tmp_path, caplog):
    made, out = make_file(n=300), tmp_path / "b.h5"
    first, second, third = np.arange(100), np.arange(100, 200), np.arange(200, 300)
    writer = Writer.open(out, made.recipe, 8, {})
    shards = writer.shards()
    take(writer, write(shards, made, first), made, first)
    write(shards, made, second)  # the writer dies before it hears of it
    damaged = write(shards, made, third)
    data = bytearray(damaged.read_bytes())
    data[data.index(made.embeddings[1, 250].tobytes())] ^= 1
    damaged.write_bytes(data)
    left = damaged.with_suffix(f".{shards.token}.tmp")
    left.write_bytes(b"half")
    writer._lock.release()
    with Writer.open(out, made.recipe, 8, {}) as again:
        assert set(again.done) == set(made.ids[:200])
        assert not damaged.exists() and not left.exists()
        assert again.shards().number > shards.number
        take(again, write(again.shards(), made, third), made, third)
        again.publish(made.ids)
    with EmbeddingFile.open(out) as file:
        assert (file.read(made.ids, (0, 1)) == made.embeddings).all()
        assert file.provenance["earlier"] == [{"engine": "w"}]


def test_nothing_is_written_for_a_writer_that_is_gone_or_not_seen(make_file, tmp_path):
    made, out = make_file(n=10), tmp_path / "b.h5"
    rows = np.arange(10)
    with Writer.open(out, made.recipe, 8, {}) as writer:
        shards = writer.shards()
        with pytest.raises(EmbeddingFileError, match="must be on a disk that all nodes"):
            writer.take(tmp_path / "b.h5.parts/000001-absent.parquet", made.ids, made.image_sha256)
    with pytest.raises(EmbeddingFileError, match="must be on a disk that all nodes"):
        write(shards, made, rows)
    with Writer.open(out, made.recipe, 8, {}) as other:  # another process has the lock
        other.shards()
        with pytest.raises(LockedError):
            write(shards, made, rows)
        assert not any(out.with_name("b.h5.parts").iterdir())
    bad = made.embeddings.copy()
    bad[0, 3, 0] = np.nan
    with Writer.open(out, made.recipe, 8, {}) as writer, pytest.raises(EmbeddingFileError, match="NaN or infinity"):
        writer.shards().write(made.recipe, "{}", Rows(encode_ids(made.ids), made.image_sha256, bad))


def test_shards_of_another_recipe(make_file, recipe, tmp_path):
    made, out = make_file(n=10), tmp_path / "b.h5"
    writer = Writer.open(out, made.recipe, 8, {})
    write(writer.shards(), made, np.arange(10))
    writer._lock.release()
    with pytest.raises(RecipeError, match=r"unfinished extraction by another recipe .*size: 224 against 320"):
        Writer.open(out, recipe(size=320), 8, {})
