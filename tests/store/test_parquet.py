"""Protects: a Parquet file holds all of an embedding file, for other tools, for shards and for the way back."""

from __future__ import annotations

import json
import sys
import tracemalloc

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cxrfeat import cache
from cxrfeat._store import EmbeddingFile, Writer, parquet, rows
from cxrfeat.errors import EmbeddingFileError, MissingExtraError, RecipeError


@pytest.fixture
def made(make_file):
    return make_file(n=5000)


def test_other_tools_read_every_value(made, tmp_path):
    cache.export(made.path, tmp_path / "a.parquet")
    table = pd.read_parquet(tmp_path / "a.parquet")
    for pass_, found in table.groupby("pass"):
        assert found["image_id"].tolist() == made.ids
        assert b"".join(found["image_sha256"]) == made.image_sha256.tobytes()
        assert np.stack(found["embedding"]).tobytes() == made.embeddings[pass_].tobytes()
    kinds = [pa.string(), pa.int32(), pa.binary(32), pa.list_(pa.field("element", pa.float32(), False), 8)]
    schema = pq.read_schema(tmp_path / "a.parquet")
    assert schema.types == kinds and not any(field.nullable for field in schema)
    assert json.loads(schema.metadata[b"cxrfeat.recipe"])["backbone"] == "densenet121"
    only = pq.ParquetFile(tmp_path / "a.parquet")  # a reader of one pass skips the row groups of the others
    spans = [only.metadata.row_group(k).column(1).statistics for k in range(only.num_row_groups)]
    assert [(s.min, s.max) for s in spans] == [(0, 0), (1, 1)] * 2
    only.close()


def test_the_way_back_gives_the_same_file(made, tmp_path):
    cache.export(made.path, tmp_path / "a.parquet")
    cache.import_(tmp_path / "a.parquet", tmp_path / "b.h5").close()
    with h5py.File(made.path) as one, h5py.File(tmp_path / "b.h5") as other:
        assert {**one.attrs} == {**other.attrs} and one.keys() == other.keys()
        for name in one:
            assert one[name].dtype == other[name].dtype and one[name][...].tobytes() == other[name][...].tobytes()
    cache.export(tmp_path / "a.parquet", tmp_path / "b.parquet")  # a Parquet file is an embedding file where named
    assert (tmp_path / "b.parquet").read_bytes() == (tmp_path / "a.parquet").read_bytes()
    assert cache.verify(tmp_path / "a.parquet").ok
    assert cache.ls(tmp_path)["file"].tolist() == ["b.h5", "a.h5"]  # and nowhere else


def test_some_passes_of_a_file(made, tmp_path):
    cache.export(made.path, tmp_path / "0.parquet", passes=[0])
    with EmbeddingFile(tmp_path / "0.parquet") as file:
        assert file.recipe == made.recipe.pass0
        assert file.to_numpy().tobytes() == made.embeddings[0].tobytes()
    cache.export(made.path, tmp_path / "1.parquet", passes=[1])
    assert pd.read_parquet(tmp_path / "1.parquet")["pass"].unique().tolist() == [1]
    with pytest.raises(EmbeddingFileError, match="has pass 1 of its recipe; an embedding file has pass 0"):
        cache.import_(tmp_path / "1.parquet", tmp_path / "b.h5")


def test_rows_in_any_order_and_an_extraction_into_parquet(tmp_path, recipe, rows):
    ids, hashes, embeddings = rows(1000)
    with Writer.open(tmp_path / "a.parquet", recipe(), 8, {"engine": "none"}) as writer:
        writer.append(ids[:300], hashes[:300], embeddings[:, :300])
    with Writer.open(tmp_path / "a.parquet", recipe(), 8, {"engine": "none"}) as writer:
        writer.append(ids[300:], hashes[300:], embeddings[:, 300:])
        writer.publish(ids)
    some = np.random.default_rng(0).permutation(1000)[:50]
    with EmbeddingFile(tmp_path / "a.parquet") as file:
        assert (file.read([ids[k] for k in some], (1, 0)) == embeddings[::-1, some]).all()


@pytest.mark.parametrize("n", [0, 1, 257])
def test_any_number_of_rows(tmp_path, recipe, rows, n):
    ids, hashes, embeddings = rows(n)
    with Writer.open(tmp_path / "a.parquet", recipe(), 8, {"engine": "none"}) as writer:
        writer.append(ids, hashes, embeddings)
        writer.fail("dark", "dark.png", "not an image")
        writer.publish(ids)
    with EmbeddingFile(tmp_path / "a.parquet") as file:
        assert file.failed == [("dark", "dark.png", "not an image")]
        assert file.image_ids.tolist() == list(ids) and (file.image_sha256() == hashes).all()
        assert file.read(passes=(0, 1)).tobytes() == embeddings.tobytes()


@pytest.mark.parametrize("storage", ["float32", "float16"])
def test_shards_are_whole_or_not_there_and_are_merged_into_one_file(tmp_path, recipe, rows, monkeypatch, storage):
    ids, hashes, embeddings = rows(600)
    first, second = (_rows(ids[part], hashes[part], embeddings[:, part]) for part in (slice(250), slice(250, 600)))
    with Writer.open(tmp_path / "journal.h5", recipe(storage=storage), 8, {}) as writer:
        written = [writer.shards().write(writer.recipe, "{}", shard) for shard in (first, second)]
        with monkeypatch.context() as patch, pytest.raises(EmbeddingFileError, match="No space"):
            patch.setattr(parquet.disk.system, "write", _full)
            writer.shards().write(writer.recipe, "{}", second)
        assert sorted(written[0].parent.iterdir()) == sorted(written)
        cache.merge(written, tmp_path / "a.h5")
    with EmbeddingFile(tmp_path / "a.h5") as file:
        assert (file.read(ids, (0, 1)) == embeddings.astype(storage)).all()


def test_every_damage_is_found_and_ends_in_a_sentence(make_file, tmp_path):
    made = make_file(n=600)
    whole = cache.export(made.path, tmp_path / "a.parquet").read_bytes()
    path, rng, unseen = tmp_path / "d.parquet", np.random.default_rng(0), 0
    for k in range(200):
        damaged = bytearray(whole[: int(rng.integers(len(whole)))] if k % 4 == 0 else whole)
        for at in rng.integers(0, max(1, len(damaged)), 1 + k % 3).tolist():
            if damaged:
                damaged[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        report = cache.verify(path)
        unseen += report.ok
        try:
            with EmbeddingFile(path) as file:
                same = file.read(passes=(0, 1)).tobytes() == made.embeddings.tobytes()
                assert same and file.recipe == made.recipe and file.image_ids.tolist() == made.ids
        except EmbeddingFileError as error:
            assert str(error).endswith((".", "sound.")) and not report.ok
    assert unseen < 30  # bytes that no reader uses: page statistics, names of columns


def test_rows_that_other_tools_would_join_to_other_images(made, tmp_path):
    cache.export(made.path, tmp_path / "a.parquet")
    table = pq.read_table(tmp_path / "a.parquet")
    whole = pq.ParquetFile(tmp_path / "a.parquet")
    about = {k: v for k, v in whole.metadata.metadata.items() if k.startswith(b"cxrfeat.")}
    ids = table["image_id"].to_pylist()
    ids[4096 + 7] = "another"  # of pass 1
    options = {"compression": "none", "use_dictionary": False}
    with pq.ParquetWriter(tmp_path / "b.parquet", table.schema, **options) as out:
        forged, at = table.set_column(0, table.schema.field(0), pa.array(ids)), 0
        for k in range(whole.num_row_groups):
            count = whole.metadata.row_group(k).num_rows
            out.write_table(forged.slice(at, count))
            at += count
        out.add_key_value_metadata(about)
    whole.close()
    found = cache.verify(tmp_path / "b.parquet").findings
    assert [f.kind for f in found] == ["content"] and "row groups 1 are other ones" in found[0].text


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("shape", "[2, 1000000000000000, 8]"),
        ("shape", "[1000000000000, 600, 8]"),
        ("shape", "[2, 600, 0]"),
        ("shape", "[2, -1, 8]"),
        ("passes", "[0]"),
        ("id_bytes", "1000000000"),
        ("failures", json.dumps([["a", "b" * 5000, "c"]])),
        ("failures", "[" * 100_000),
        ("block_sha256", "AAAA"),
        ("recipe", "{}"),
        ("provenance", "{}"),
        ("format_version", "9"),
    ],
)
def test_what_a_file_says_of_itself_is_checked_before_memory_is_taken(make_file, tmp_path, key, text):
    cache.export(make_file(n=600).path, tmp_path / "a.parquet")
    with pq.ParquetFile(tmp_path / "a.parquet") as file:
        about = {k: v for k, v in file.metadata.metadata.items() if k.startswith(b"cxrfeat.")}
        with pq.ParquetWriter(
            tmp_path / "b.parquet", file.schema_arrow, compression="none", use_dictionary=False
        ) as out:
            for k in range(file.num_row_groups):
                out.write_table(file.read_row_group(k))
            out.add_key_value_metadata(about | {f"cxrfeat.{key}".encode(): text.encode()})
    tracemalloc.start()
    with pytest.raises(EmbeddingFileError):
        EmbeddingFile(tmp_path / "b.parquet")
    assert tracemalloc.get_traced_memory()[1] < 10 << 20
    tracemalloc.stop()


def test_a_damaged_block_is_left_out_by_a_repair(make_file, tmp_path):
    made = make_file(n=600)
    path = cache.export(made.path, tmp_path / "a.parquet")
    data = bytearray(path.read_bytes())
    data[data.find(made.embeddings[1, 300].tobytes())] ^= 16
    path.write_bytes(data)
    assert (cache.repair(path).kept, cache.verify(path).ok) == (344, True)


@pytest.mark.parametrize("kind", [pa.list_(pa.float64()), pa.list_(pa.float32(), 3), pa.large_list(pa.float16())])
def test_another_tools_table(tmp_path, kind):
    x = np.arange(12, dtype=np.float16).reshape(4, 3)
    table = {
        "image_id": pa.array(list("abcd")),
        "features": pa.array(list(x.astype(kind.value_type.to_pandas_dtype())), kind),
    }
    pq.write_table(pa.table(table), tmp_path / "t.parquet", compression="zstd")
    with pytest.raises(EmbeddingFileError, match="give its `backbone`"):
        cache.import_(tmp_path / "t.parquet", tmp_path / "a.h5")
    with cache.import_(tmp_path / "t.parquet", tmp_path / "a.h5", backbone="theirs") as file:
        assert (file.to_numpy(list("dcba")) == x[::-1]).all()


def test_tables_that_are_refused(tmp_path):
    def refused(match, table, **options):
        pq.write_table(pa.table(table), tmp_path / "t.parquet")
        with pytest.raises((EmbeddingFileError, RecipeError), match=match):
            cache.import_(tmp_path / "t.parquet", tmp_path / "a.h5", backbone="theirs", **options)
        assert not (tmp_path / "a.h5").exists()

    x = pa.array([[1.0, 2.0], [3.0, 4.0]])
    refused("no column 'embedding' with lists", {"image_id": ["a", "b"]})
    refused("name one of x, y with `array`", {"x": x, "y": x})
    refused("not all of one length", {"x": [[1.0], [2.0, 3.0]]})
    refused("not all of one length", {"x": [[1.0], None]})
    refused("several passes", {"image_id": ["a", "a"], "pass": [0, 1], "x": x})
    refused("no array 'image_id'; give `ids`", {"x": x})
    refused("NaN", {"image_id": ["a", "b"], "x": [[1.0], [float("nan")]]})
    refused("an image_id of more than 1024 bytes", {"image_id": ["a" * 5000] * 2, "x": x})
    refused("would take .* bytes", {"image_id": ["a"] * 60_000, "x": [np.zeros(200)] * 60_000})


def _rows(ids, hashes, embeddings):
    return rows.Rows(rows.encode_ids(ids), hashes, embeddings)


def _full(*_):
    raise OSError(28, "disk full")


def test_without_pyarrow_the_extra_is_named(made, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "cxrfeat._store.parquet")
    monkeypatch.delattr("cxrfeat._store.parquet")
    with pytest.raises(MissingExtraError, match=r"pip install 'cxrfeat\[parquet\]'"):
        cache.export(made.path, tmp_path / "a.parquet")
