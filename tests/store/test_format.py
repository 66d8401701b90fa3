"""Protects: versions 1 and 2 stay readable for ever, and docs/embedding-file.md suffices to write a reader.

`read_by_the_book` is written from that page alone, with h5py, hashlib and NumPy and nothing of ours.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
import subprocess
from pathlib import Path

import h5py
import numpy as np
import pytest

from cxrfeat import cache
from cxrfeat._store import EmbeddingFile, Writer
from cxrfeat._store.verify import verify
from cxrfeat.errors import RecipeError

FROZEN = Path(__file__).parents[1] / "data" / "embeddings-v1.h5"
HALF = FROZEN.with_name("embeddings-v2.h5")
IDS = [f"{i:08d}_{i % 3:03d}.png" for i in range(259)] + ["Übung/胸部.dcm"]
EMBEDDINGS = np.arange(3 * 260 * 4, dtype=np.float32).reshape(3, 260, 4) / 8 - 100


def read_by_the_book(path):
    with h5py.File(path, "r") as file:
        about = {name: value.decode() if isinstance(value, bytes) else int(value) for name, value in file.attrs.items()}
        version = {"<f4": 1, "<f2": 2}[file["embeddings"].dtype.str]
        assert (about["format"], about["format_version"]) == ("cxrfeat-embeddings", version)
        ids, hashes = file["image_id"][...], file["image_sha256"][...]
        embeddings, table = file["embeddings"][...], file["block_sha256"][...]
        failures = [[text.decode() for text in row] for row in file["failures"][...].tolist()]
        for name in ("image_id", "image_sha256", "embeddings", "block_sha256", "failures"):
            assert file[name].fletcher32
    passes, n, dim = embeddings.shape
    assert hashlib.sha256(about["recipe"].encode()).hexdigest() == about["recipe_sha256"]
    assert hashlib.sha256(about["provenance"].encode()).hexdigest() == about["provenance_sha256"]
    for block in range(-(-n // 256)):
        rows = slice(256 * block, 256 * (block + 1))
        assert hashlib.sha256(ids[rows].tobytes() + hashes[rows].tobytes()).digest() == table[0, block].tobytes()
        for k in range(passes):
            found = hashlib.sha256(embeddings[k, rows].astype("<f4").tobytes()).digest()
            assert found == table[1 + k, block].tobytes()
    compact = json.dumps(failures, separators=(",", ":"))  # non-ASCII escaped, as Python does by default
    text = f"cxrfeat-embeddings\n1\n{about['recipe']}\n{passes} {n} {dim}\n{compact}\n"
    assert hashlib.sha256(text.encode() + table.tobytes()).hexdigest() == about["content_sha256"]
    return about, [i.decode() for i in ids.tolist()], hashes, embeddings, failures


def test_a_reader_written_from_the_page_reads_the_frozen_file():
    about, ids, hashes, embeddings, failures = read_by_the_book(FROZEN)
    assert ids == IDS
    assert hashes.tobytes() == b"".join(hashlib.sha256(i.encode()).digest() for i in IDS)
    assert (embeddings == EMBEDDINGS).all()
    assert failures == [["dark.png", "images/dark.png", "not an image"], ["ü.png", "images/ü.png", "cut short"]]
    assert json.loads(about["recipe"])["augmentation"] == {"name": "mild"}
    assert json.loads(about["provenance"])["engine"] == "none"


def test_the_frozen_file_is_read_for_ever():
    assert verify(FROZEN).ok
    with EmbeddingFile.open(FROZEN) as file:
        assert file.image_ids.tolist() == IDS
        assert (file.read(IDS[::-1], (2, 0)) == EMBEDDINGS[[2, 0]][:, ::-1]).all()
        assert file.recipe.seed == 7 and file.recipe.passes == 2
        assert file.content_sha256 == "a24e392150e4c365b7dcb5947e016550277562a99dad0eaacb49a8e315c3fbb5"
        assert file.failures()["image_id"].tolist() == ["dark.png", "ü.png"]


def test_what_is_written_today_is_the_frozen_content(tmp_path):
    """A new version of this code writes what the frozen file holds, unless the format's number changes."""
    with EmbeddingFile.open(FROZEN) as frozen, Writer.open(tmp_path / "a.h5", frozen.recipe, 4, {}) as writer:
        writer.append(frozen.image_ids, frozen.image_sha256(), frozen.read(passes=range(3)))
        for failure in frozen.failed:
            writer.fail(*failure)
        writer.publish([*IDS, "dark.png", "ü.png"])
        wanted = frozen.content_sha256
    with EmbeddingFile.open(tmp_path / "a.h5") as file:
        assert file.content_sha256 == wanted
    read_by_the_book(tmp_path / "a.h5")


def test_half_precision_is_read_for_ever_by_the_page_and_by_us(tmp_path):
    """Of 26 November 2026: the rows of the other frozen file in float16."""
    about, ids, _, embeddings, _ = read_by_the_book(HALF)
    assert embeddings.dtype == np.float16 and ids == IDS and json.loads(about["recipe"])["storage"] == "float16"
    assert (embeddings == EMBEDDINGS.astype(np.float16)).all() and (embeddings != EMBEDDINGS).any()
    assert verify(HALF).ok
    with EmbeddingFile.open(HALF) as half, EmbeddingFile.open(FROZEN) as whole:
        assert half.read(IDS[::-1], (2, 0)).dtype == np.float32
        assert (half.read(IDS[::-1], (2, 0)) == embeddings[[2, 0]][:, ::-1]).all()
        assert half.recipe != whole.recipe and half.recipe.describe().endswith(
            "stored as float16, pass 0 + 2 augmented"
        )
        assert half.content_sha256 == "84bd3fe39ba901c619f02746b1d1f8289934f4886496906a8ee8fa387d73fd59"
        with Writer.open(tmp_path / "a.h5", half.recipe, 4, {}) as writer:  # what is written today is that content
            writer.append(IDS, whole.image_sha256(), whole.read(passes=range(3)))
            for failure in whole.failed:
                writer.fail(*failure)
            writer.publish([*IDS, "dark.png", "ü.png"])
    with EmbeddingFile.open(tmp_path / "a.h5") as file:
        assert file.content_sha256 == about["content_sha256"]


def test_half_precision_is_exchanged_repaired_and_refused_where_it_overflows(tmp_path, make_file):
    made = make_file(600, storage="float16", dim=64)
    whole = make_file(600, "b.h5", dim=64)
    assert made.path.stat().st_size < 0.65 * whole.path.stat().st_size
    rounded = made.embeddings.astype(np.float16).astype(np.float32)
    cache.export(made.path, tmp_path / "a.parquet")
    cache.import_(tmp_path / "a.parquet", tmp_path / "back.h5").close()
    with EmbeddingFile(tmp_path / "back.h5") as back, EmbeddingFile(made.path) as file:
        assert back.content_sha256 == file.content_sha256
        assert (back.read(passes=(0, 1)) == rounded).all()
    with h5py.File(tmp_path / "back.h5") as back:
        assert back["embeddings"].dtype == np.float16
    data = made.path.read_bytes()
    made.path.write_bytes(b"\0" * 64 + data[64:])  # HDF5 cannot open it: rows are found by the index behind it
    assert cache.repair(made.path).kept == 600 and cache.verify(made.path).ok
    with Writer.open(tmp_path / "c.h5", made.recipe, 64, {}) as writer:
        large = made.embeddings.copy()
        large[1, 3, 5] = 70_000
        with pytest.raises(RecipeError, match=r"1 of 600 .* beyond 65,504, .* 0-00003.png. Use `storage=float32`"):
            writer.append(made.ids, made.image_sha256, large)
        assert not writer.done


def test_the_recovery_index_is_as_the_page_says():
    data = FROZEN.read_bytes()
    length, magic = struct.unpack("<Q8s", data[-16:])
    assert magic == b"CXRFINDX"
    text = data[-48 - length : -48]
    assert hashlib.sha256(text).digest() == data[-48:-16]
    about = json.loads(text)["datasets"]["embeddings"]
    first = np.frombuffer(data, "<f4", 256 * 4, about["offsets"][0]).reshape(256, 4)
    assert (first == EMBEDDINGS[0, :256]).all()
    # C order of the chunk grid: (pass 0, block 0), (pass 0, block 1), (pass 1, block 0), ...
    third = np.frombuffer(data, "<f4", 256 * 4, about["offsets"][2]).reshape(256, 4)
    assert (third == EMBEDDINGS[1, :256]).all()


@pytest.mark.skipif(shutil.which("h5dump") is None, reason="h5dump is not installed")
def test_h5dump_reads_it():
    done = subprocess.run(["h5dump", "-d", "/image_id", str(FROZEN)], capture_output=True, text=True, check=True)
    assert "00000000_000.png" in done.stdout


UNFINISHED = Path(__file__).parents[1] / "data" / "unfinished-v1"
THEIR_IDS = [f"{i:08d}_000.png" for i in range(10)] + ["Übung/胸部.dcm"]
THEIR_EMBEDDINGS = np.arange(2 * 11 * 4, dtype=np.float32).reshape(2, 11, 4) / 8 - 5


def test_a_frozen_file_that_grew_names_its_sessions():
    assert verify(UNFINISHED / "a.h5").ok
    with EmbeddingFile.open(UNFINISHED / "a.h5") as file:
        assert file.image_ids.tolist() == THEIR_IDS[:6]
        assert (file.read(passes=(0, 1)) == THEIR_EMBEDDINGS[:, :6]).all()
        assert file.provenance["engine"] == "one" and file.provenance["earlier"][0]["engine"] == "none"


def test_a_frozen_unfinished_extraction_is_resumed(tmp_path):
    """Of 24 November 2026: a file of six images, segments of four more, and drafts of a killed process."""
    shutil.copytree(UNFINISHED, tmp_path / "cache")
    path = tmp_path / "cache" / "a.h5"
    with EmbeddingFile.open(path) as file:
        recipe = file.recipe
    with Writer.open(path, recipe, 4, {"engine": "three"}) as writer:
        assert set(writer.done) == set(THEIR_IDS[:10])
        assert writer.failed == {"dark.png": "not an image"}
        writer.append(THEIR_IDS[10:], np.zeros((1, 32), np.uint8), THEIR_EMBEDDINGS[:, 10:])
        writer.publish(THEIR_IDS)
    with EmbeddingFile.open(path) as file:
        assert (file.read(THEIR_IDS, (0, 1)) == THEIR_EMBEDDINGS).all()
        assert [session["engine"] for session in file.provenance["earlier"]] == ["none", "one", "two"]
    assert [p.name for p in path.parent.iterdir()] == ["a.h5"]
