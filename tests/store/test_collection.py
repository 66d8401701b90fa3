"""Protects: a folder of embedding files is read as one file, and what does not belong together is refused."""

from __future__ import annotations

import json
import tracemalloc

import h5py
import numpy as np
import pytest

import cxrfeat as cxr
from cxrfeat import cache
from cxrfeat._store import EmbeddingFile, Writer, collection, disk
from cxrfeat._store.ids import Ids
from cxrfeat._store.rows import encode_ids
from cxrfeat.errors import EmbeddingFileError, NotFoundError, OutputError, RecipeError


@pytest.fixture
def parts(make_file):
    """Three files of 300, 1 and 700 rows, one of them Parquet."""
    return [make_file(n, name, seed=k) for k, (n, name) in enumerate([(300, "a.h5"), (1, "b.parquet"), (700, "c.h5")])]


@pytest.fixture
def whole(parts, tmp_path):
    cache.collect([part.path for part in parts], tmp_path / "all")
    with EmbeddingFile(tmp_path / "all") as file:
        yield file


def _together(parts):
    return [i for part in parts for i in part.ids], np.concatenate([part.embeddings for part in parts], axis=1)


def test_it_reads_as_one_file(parts, whole, monkeypatch):
    monkeypatch.setattr(collection, "OPEN", 1)
    ids, embeddings = _together(parts)
    assert whole.image_ids.tolist() == ids and len(whole) == 1001 and ids[500] in whole and "x" not in whole
    rng = np.random.default_rng(0)
    orders = [np.arange(1001), rng.permutation(1001), rng.integers(0, 1001, 1500), np.arange(290, 310), np.arange(0)]
    for rows in orders:
        asked = np.array(ids)[rows]
        assert (whole.read(asked, (1, 0)) == embeddings[::-1, rows]).all()
        hashes = np.concatenate([part.image_sha256 for part in parts])
        assert (whole.image_sha256(asked) == hashes[rows]).all()
        for where, x in whole.batches(asked, rows=130):
            assert (x[0] == embeddings[0][rows][where]).all()
    blocks = list(whole.blocks(1, rows=64))
    assert np.concatenate([i for i, _ in blocks]).tolist() == ids
    assert (np.concatenate([x for _, x in blocks]) == embeddings[1]).all()
    assert whole.failures()["image_id"].tolist() == ["unreadable"]
    with pytest.raises(EmbeddingFileError, match=r"1 of 2 images are not in .*all, the first is 'nope'"):
        whole.read([ids[0], "nope"])


def test_whatever_takes_a_file_takes_a_collection(parts, whole, tmp_path):
    ids, embeddings = _together(parts)
    assert repr(whole).startswith("<Collection all: 1,001 images, 2 passes, dim 8, 1 failures; densenet121")
    found = cache.ls(tmp_path).set_index("file").loc["all"]
    assert (found["images"], found["note"]) == (1001, "a collection of 3 files")
    assert cache.info(whole.path)["content_sha256"] == whole.content_sha256
    assert cache.verify(whole.path).ok and cache.verify(whole.path).sound == 1001
    cache.merge([whole.path], tmp_path / "merged.h5")
    cache.export(whole.path, tmp_path / "all.parquet")
    cache.import_(tmp_path / "all.parquet", tmp_path / "back.h5").close()
    with EmbeddingFile(tmp_path / "merged.h5") as merged, EmbeddingFile(tmp_path / "back.h5") as back:
        assert merged.content_sha256 == back.content_sha256
        assert (back.read(ids, (0, 1)) == embeddings).all() and back.failed == whole.failed


def test_members_are_added_and_linked_and_kept(parts, make_file, tmp_path):
    made = cache.collect([parts[0].path], tmp_path / "all")
    assert str(made) == f"{tmp_path / 'all'}: 300 rows in 1 files, 1 added."
    assert (tmp_path / "all" / "a.h5").samefile(parts[0].path)
    (tmp_path / "other").mkdir()
    other = make_file(20, "other/a.h5", seed=9)  # of the same name
    made = cache.collect([parts[0].path, tmp_path / "all", other.path], tmp_path / "all")
    assert (made.rows, made.members, made.added) == (320, 2, ("a-2.h5",))
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == ["a-2.h5", "a.h5", "collection.json"]
    with EmbeddingFile(tmp_path / "all") as file:
        assert (file.read(other.ids, (0, 1)) == other.embeddings).all()
    inside = cache.collect((tmp_path / "all").glob("*.h5"), tmp_path / "all")
    assert inside.added == ()


def test_files_are_copied_where_they_cannot_be_linked(parts, tmp_path, monkeypatch):
    def link(source, target):
        raise OSError(18, "cross-device link")

    monkeypatch.setattr(disk.system, "link", link)
    cache.collect([parts[0].path], tmp_path / "all")
    assert not (tmp_path / "all" / "a.h5").samefile(parts[0].path)
    assert cache.verify(tmp_path / "all").ok


def test_what_does_not_belong_together(parts, make_file, tmp_path):
    out = tmp_path / "all"
    again = make_file(10, "again.h5", seed=0)  # ids of the first
    with pytest.raises(EmbeddingFileError, match=r"'0-0000\d.png' is in .*a.h5 and in .*again.h5; .* has one row"):
        cache.collect([parts[0].path, again.path], out)
    other = make_file(10, "other.h5", seed=5, size=96)
    with pytest.raises(RecipeError, match=r"different recipes .*size: 224 against 96"):
        cache.collect([parts[0].path, other.path], out)
    with pytest.raises(NotFoundError, match="No embedding file found at"):
        cache.collect([tmp_path / "none.h5"], out)
    assert not out.exists()
    out.mkdir()
    with pytest.raises(NotFoundError, match=r"no collection. `cxrfeat cache collect` makes one"):
        EmbeddingFile(out)
    (out / "film.png").touch()
    with pytest.raises(OutputError, match="name a new folder"):
        cache.collect([parts[0].path], out)


def test_a_member_that_is_missing_or_another_one(parts, whole, make_file, tmp_path):
    with pytest.raises(EmbeddingFileError, match=r"is a folder. Name a new file"):
        Writer.open(whole.path, whole.recipe, 8, {})
    make_file(300, "all/c.h5", seed=7)
    with pytest.raises(EmbeddingFileError, match=r"member c.h5 is not the file that was collected"):
        EmbeddingFile(whole.path)
    assert "member c.h5" in cache.verify(whole.path).findings[0].text
    assert cache.collect([whole.path / "c.h5"], whole.path).rows == 1301  # named again: taken as it is
    (whole.path / "a.h5").unlink()
    with pytest.raises(EmbeddingFileError, match=r"its member a.h5 is missing"):
        EmbeddingFile(whole.path)
    assert not cache.verify(whole.path).ok


def test_a_damaged_member_and_manifest(whole):
    with h5py.File(whole.path / "c.h5", "r+") as file:
        file["embeddings"][1, 300, 2] += 1
    report = cache.verify(whole.path)
    assert report.sound == 1001 - 256 and report.findings[0].text.startswith("c.h5: rows 256 to 511")
    path = whole.path / "collection.json"
    found = json.loads(path.read_text())
    for change in ({"members": []}, {"format_version": 2}, {"format": "x"}, {"recipe": "{}"}, {"members": "x"}):
        path.write_text(json.dumps(found | change))
        with pytest.raises(EmbeddingFileError, match=r"collection.json (is damaged|has format version 2)"):
            EmbeddingFile(whole.path)
    path.write_text(path.read_text()[:100])
    assert [one.kind for one in cache.verify(whole.path).findings] == ["file"]


def test_memory_is_of_what_is_asked_for(make_file, tmp_path):
    files = [make_file(2000, f"{k}.h5", dim=256, passes=0, seed=k).path for k in range(4)]
    cache.collect(files, tmp_path / "all")
    tracemalloc.start()
    with EmbeddingFile(tmp_path / "all") as file:
        for _ in file.blocks(rows=512):
            pass
        assert tracemalloc.get_traced_memory()[1] < sum(path.stat().st_size for path in files) / 3
    tracemalloc.stop()


@pytest.mark.parametrize("name", ["{}", "{:06d}.png", "{:02d}-ø", "{:024x}"])
def test_ids_are_found_as_by_a_dict(name):
    rng = np.random.default_rng(0)
    there = [name.format(k) for k in rng.permutation(2000)]
    ids, places = Ids(encode_ids(there)), {one: k for k, one in enumerate(there)}
    assert not len(ids.twice)
    for asked in (there, there[700:900], rng.permutation(there).tolist(), [*there[::7], "x", "", "y" * 500, there[3]]):
        assert ids.find(asked).tolist() == [places.get(one, -1) for one in asked]
        assert ids.find(np.array(asked, object)).tolist() == ids.find(asked).tolist()
    assert Ids(encode_ids([*there, there[5]])).twice.tolist() == [5, 2000]
    assert Ids(encode_ids([])).find(["a"]).tolist() == [-1]


def test_ids_with_one_hash_are_told_apart(monkeypatch):
    from cxrfeat._store import ids

    monkeypatch.setattr(ids, "_hash", lambda texts: np.full(len(texts), 7, np.uint64))
    found = Ids(encode_ids(["a", "b", "c"]))
    assert found.find(["c", "x", "a", "b"]).tolist() == [2, -1, 0, 1] and not len(found.twice)
    assert Ids(encode_ids(["a", "b", "c", "b"])).twice.tolist() == [1, 3]


def test_a_head_is_fitted_and_applied_to_a_collection(make_study, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = make_study(60)
    x = np.random.default_rng(0).standard_normal((60, 16), dtype=np.float32)
    for k, part in enumerate((slice(0, 20), slice(20, 60))):
        cache.import_(x[part], f"{k}.h5", ids=study.ids[part], images=study.root, backbone="densenet121").close()
    cache.collect(["0.h5", "1.h5"], "cache/both")
    cache.import_(x, "one.h5", ids=study.ids, images=study.root, backbone="densenet121").close()
    both = "cache/both", "one.h5"
    ours, theirs = (cxr.fit_head(study, file, out=f"runs/{k}") for k, file in enumerate(both))
    assert str(cxr.evaluate(ours)).splitlines()[1:] == str(cxr.evaluate(theirs)).splitlines()[1:]
    tables = [cxr.predict(run, study, embeddings=file) for run, file in ((ours, None), (theirs, "one.h5"))]
    assert tables[0].equals(tables[1])
