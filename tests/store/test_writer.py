"""Protects: nothing appended is lost, nothing published is touched, and the finished file depends on content alone."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from cxrfeat._store import EmbeddingFile, Writer
from cxrfeat.errors import EmbeddingFileError, LockedError, RecipeError


def everything(path):
    """Every dataset of a file, by h5py alone."""
    with h5py.File(path, "r") as file:
        return {name: file[name][...].tobytes() for name in file} | {"content": bytes(file.attrs["content_sha256"])}


def test_what_is_written_is_read(make_file):
    made = make_file()
    with EmbeddingFile.open(made.path) as file:
        assert file.recipe == made.recipe
        assert (file.dim, file.passes, len(file)) == (8, 2, 600)
        assert file.image_ids.tolist() == made.ids
        assert (file.image_sha256() == made.image_sha256).all()
        assert (file.read(passes=(0, 1)) == made.embeddings).all()
        assert file.failures().to_dict("records") == [
            {"image_id": "unreadable", "path": "images/unreadable.png", "reason": "not an image"}
        ]
        assert file.provenance == {"engine": "none"}
    assert sorted(p.name for p in made.path.parent.iterdir()) == ["a.h5"]  # no journal, no lock, no draft


@pytest.mark.parametrize("segment_rows", [1, 7, 256, 10_000])
def test_interrupted_at_any_batch_equals_uninterrupted(tmp_path, make_file, segment_rows, caplog):
    caplog.set_level("INFO", "cxrfeat")
    made = make_file(n=60)
    for stop in range(0, 60, 20):
        with Writer.open(tmp_path / "b.h5", made.recipe, 8, {"other": "machine"}, segment_rows=segment_rows) as writer:
            todo = [i for i in made.ids if i not in writer.done][: stop or 15]
            for image_id in todo:
                row = made.ids.index(image_id)
                writer.append([image_id], made.image_sha256[[row]], made.embeddings[:, [row]])
    with Writer.open(tmp_path / "b.h5", made.recipe, 8, {"other": "machine"}, segment_rows=segment_rows) as writer:
        assert "rows of an interrupted extraction are kept" in caplog.text
        todo = [row for row, i in enumerate(made.ids) if i not in writer.done]
        # The rest comes in another order: parallel workers finish as they please.
        for row in reversed(todo):
            writer.append([made.ids[row]], made.image_sha256[[row]], made.embeddings[:, [row]])
        writer.fail("unreadable", "images/unreadable.png", "not an image")
        writer.publish(made.ids)
    assert everything(tmp_path / "b.h5") == everything(made.path)


def test_nothing_to_do_leaves_the_file_alone(make_file):
    made = make_file()
    before = made.path.stat()
    with Writer.open(made.path, made.recipe, 8, {"later": True}) as writer:
        assert set(writer.done) == set(made.ids)
        assert writer.done[made.ids[3]] == bytes(made.image_sha256[3])
        writer.fail("unreadable", "images/unreadable.png", "not an image")
        writer.publish(made.ids)
    assert made.path.stat().st_ino == before.st_ino
    assert made.path.stat().st_mtime_ns == before.st_mtime_ns


def test_grows_changes_and_forgets(make_file, rows):
    made = make_file(n=300)
    ids, hashes, embeddings = rows(2, seed=5)
    with Writer.open(made.path, made.recipe, 8, {}) as writer:
        writer.drop([made.ids[0], made.ids[1]])
        assert made.ids[0] not in writer.done
        writer.append([made.ids[0]], hashes[:1], embeddings[:, :1])  # changed
        writer.append([ids[1]], hashes[1:], embeddings[:, 1:])  # new
        writer.append(["unreadable"], hashes[:1], embeddings[:, :1])  # could not be read, and now can
        order = [ids[1], *made.ids[:200], "unreadable"]
        writer.publish(order)
    with EmbeddingFile.open(made.path) as file:
        wanted = [ids[1], made.ids[0], *made.ids[2:200], "unreadable", *made.ids[200:]]
        assert file.image_ids.tolist() == wanted
        assert (file.read([made.ids[0]], (0, 1)) == embeddings[:, :1]).all()
        assert (file.read(made.ids[200:], (1,)) == made.embeddings[1:, 200:]).all()
        assert file.failures().empty


def test_a_dropped_row_is_still_there_if_the_process_dies_before_its_new_one(make_file):
    made = make_file(n=10)
    with Writer.open(made.path, made.recipe, 8, {}) as writer:
        writer.drop(made.ids[:3])
    with Writer.open(made.path, made.recipe, 8, {}) as writer:
        assert set(writer.done) == set(made.ids)


def test_nan_and_infinity_stop_the_batch_and_name_the_images(tmp_path, recipe, rows):
    ids, hashes, embeddings = rows(10)
    embeddings[1, 3, 2] = np.nan
    embeddings[0, 7, 0] = np.inf
    with Writer.open(tmp_path / "a.h5", recipe(), 8, {}) as writer:
        with pytest.raises(EmbeddingFileError, match=r"2 of 10 embeddings .*0-00003.png, 0-00007.png"):
            writer.append(ids, hashes, embeddings)
        assert not writer.done


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda i, h, e: (i, h, e[:1]), "expected"),
        (lambda i, h, e: (i, h, e[..., :3]), "expected"),
        (lambda i, h, e: (i, h, e.astype(np.float64)), "expected"),
        (lambda i, h, e: (i, h[:3], e), "expected"),
        (lambda i, h, e: ([i[0], *i[:-1]], h, e), "already"),
        (lambda i, h, e: (["", *i[1:]], h, e), "cannot be stored"),
        (lambda i, h, e: (["a\0b", *i[1:]], h, e), "cannot be stored"),
    ],
)
def test_wrong_batches_are_refused(tmp_path, recipe, rows, change, sentence):
    with Writer.open(tmp_path / "a.h5", recipe(), 8, {}) as writer:
        with pytest.raises(EmbeddingFileError, match=sentence):
            writer.append(*change(*rows(5)))
        assert not writer.done


def test_two_writers_at_once(make_file):
    made = make_file()
    with Writer.open(made.path, made.recipe, 8, {}), pytest.raises(LockedError, match=r"process \d+ on .+, since 20"):
        Writer.open(made.path, made.recipe, 8, {})
    with Writer.open(made.path, made.recipe, 8, {}):
        pass


def test_another_recipe_is_refused_by_name(tmp_path, make_file, recipe, rows):
    made = make_file()
    with pytest.raises(RecipeError, match=r"size: 224 against 320"):
        Writer.open(made.path, recipe(size=320), 8, {})
    with Writer.open(tmp_path / "b.h5", made.recipe, 8, {}) as writer:
        writer.append(*rows(3))
    with pytest.raises(RecipeError, match=r"unfinished extraction by another recipe"):
        Writer.open(tmp_path / "b.h5", recipe(size=320), 8, {})
    assert not (tmp_path / "b.h5.lock").exists()


def test_a_damaged_segment_is_extracted_again(tmp_path, recipe, rows, caplog):
    caplog.set_level("INFO", "cxrfeat")
    ids, hashes, embeddings = rows(30)
    path = tmp_path / "a.h5"
    with Writer.open(path, recipe(), 8, {}, segment_rows=10) as writer:
        for start in range(0, 30, 10):
            part = slice(start, start + 10)
            writer.append(ids[part], hashes[part], embeddings[:, part])
    damaged = sorted((tmp_path / "a.h5.parts").iterdir())[1]
    data = bytearray(damaged.read_bytes())
    data[700] ^= 4
    damaged.write_bytes(data)
    with Writer.open(path, recipe(), 8, {}) as writer:
        assert set(writer.done) == set(ids[:10] + ids[20:])
        assert "1 unfinished or damaged segments were removed; their images are embedded again." in caplog.messages
        writer.append(ids[10:20], hashes[10:20], embeddings[:, 10:20])
        writer.publish(ids)
    with EmbeddingFile.open(path) as file:
        assert (file.read(ids, (0, 1)) == embeddings).all()


def test_of_two_rows_the_later_part_counts(tmp_path, recipe, rows):
    _, hashes, embeddings = rows(12)
    for start in range(12):  # twelve segments of one image, so that their order is not that of their hashes
        with Writer.open(tmp_path / "a.h5", recipe(), 8, {}) as writer:
            writer.drop(["x"])
            writer.append(["x"], hashes[[start]], embeddings[:, [start]])
    with Writer.open(tmp_path / "a.h5", recipe(), 8, {}) as writer:
        writer.publish(["x"])
    with EmbeddingFile.open(tmp_path / "a.h5") as file:
        assert (file.read(["x"], (0, 1)) == embeddings[:, 11:]).all()


def test_a_damaged_published_row_is_never_copied(make_file, rows):
    made = make_file(n=600)
    needle = made.embeddings[0, 300].tobytes()
    data = bytearray(made.path.read_bytes())
    data[data.find(needle)] ^= 1
    made.path.write_bytes(data)
    ids, hashes, embeddings = rows(1, seed=3)
    with Writer.open(made.path, made.recipe, 8, {}) as writer:
        writer.append(ids, hashes, embeddings)
        with pytest.raises(EmbeddingFileError, match=r"damaged.*rows 256 to 511.*cache repair"):
            writer.publish(made.ids + ids)
    assert made.path.read_bytes() == bytes(data)  # as it was, and the new row waits in its part
    assert len(list(made.path.with_name("a.h5.parts").iterdir())) == 1


def test_parts_of_a_published_file_are_removed_without_writing_it_again(make_file, tmp_path):
    made = make_file(n=40, name="b.h5")
    path = tmp_path / "c.h5"
    with Writer.open(path, made.recipe, 8, {}) as writer:
        writer.append(made.ids, made.image_sha256, made.embeddings)
        writer.fail("unreadable", "images/unreadable.png", "not an image")
    made.path.replace(path)  # as if the process had died between the two
    inode = path.stat().st_ino
    with Writer.open(path, made.recipe, 8, {}) as writer:
        writer.publish(made.ids)
    assert path.stat().st_ino == inode
    assert not (tmp_path / "c.h5.parts").exists()


def test_text_beyond_ascii_and_very_long_reasons(tmp_path, recipe, rows):
    _, hashes, embeddings = rows(2)
    ids = ["Ähre/éé.png", "胸部X線"]
    with Writer.open(tmp_path / "a.h5", recipe(), 8, {"größe": "ß"}) as writer:
        writer.append(ids, hashes, embeddings)
        writer.fail("ü", "päth", "ö" * 5000)
        writer.publish(ids)
    with EmbeddingFile.open(tmp_path / "a.h5") as file:
        assert file.image_ids.tolist() == ids
        assert (file.read(ids[::-1], (1,)) == embeddings[1:, ::-1]).all()
        assert file.failures()["reason"].tolist() == ["ö" * 500]
        assert file.provenance == {"größe": "ß"}


def test_a_file_without_rows_is_a_file(tmp_path, recipe):
    with Writer.open(tmp_path / "a.h5", recipe(), 8, {}) as writer:
        writer.fail("x", "x.png", "not an image")
        writer.publish(["x"])
    with EmbeddingFile.open(tmp_path / "a.h5") as file:
        assert file.read(passes=(0, 1)).shape == (2, 0, 8)
        assert len(file.failures()) == 1
