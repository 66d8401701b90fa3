"""Protects: rows are joined by id in any order, by a path that holds one block and the result and nothing more."""

from __future__ import annotations

import time
import tracemalloc

import h5py
import numpy as np
import pytest

from cxrfeat._store import EmbeddingFile, Writer
from cxrfeat._store import rows as rows_module
from cxrfeat.errors import EmbeddingFileError, NotFoundError


@pytest.fixture
def made(make_file):
    return make_file(n=1000)


@pytest.mark.parametrize(
    "choose",
    [
        lambda n, rng: np.arange(n),
        lambda n, rng: rng.permutation(n),
        lambda n, rng: np.arange(n)[::-1],
        lambda n, rng: np.arange(100, 900),
        lambda n, rng: np.array([5]),
        lambda n, rng: np.array([256, 255, 511, 512, 0, 999]),
        lambda n, rng: rng.integers(0, n, 1500),  # the same image more than once
        lambda n, rng: np.array([], dtype=int),
        lambda n, rng: np.sort(rng.choice(n, 300, replace=False)),
    ],
)
def test_rows_come_in_the_order_asked(made, choose):
    rows = choose(1000, np.random.default_rng(0))
    ids = np.array(made.ids)[rows]
    with EmbeddingFile.open(made.path) as file:
        for passes in [(0,), (1,), (0, 1), (1, 0, 1)]:
            assert (file.read(ids, passes) == made.embeddings[list(passes)][:, rows]).all()
        there = np.empty((1, len(rows), 8), np.float32)
        for where, values in file.batches(ids, (1,), rows=130):
            there[:, where] = values
        assert (there == made.embeddings[[1]][:, rows]).all()


def test_blocks_checked_before_are_read_beside_new_ones(make_file, monkeypatch):
    """A block is hashed while the next ones are read: none is read to the place of one that is still being hashed."""
    made = make_file(n=256 * 12)
    order = np.random.default_rng(0).permutation(made.ids)
    digest = rows_module.digest

    def slow(*arrays):
        time.sleep(0.01)
        return digest(*arrays)

    with EmbeddingFile.open(made.path) as file:
        monkeypatch.setattr(rows_module, "digest", slow)
        for start in range(0, 12, 3):  # every third block is known
            file.read(made.ids[start * 256 : start * 256 + 256])
        rows = [made.ids.index(i) for i in order.tolist()]
        assert (file.read(order, (0, 1)) == made.embeddings[:, rows]).all()


@pytest.mark.parametrize("storage", ["float32", "float16"])
def test_what_is_read_again_past_hdf5_is_the_same(make_file, storage):
    made = make_file(600, storage=storage, dim=5)  # the third block is a short one
    written = made.embeddings.astype(storage).astype(np.float32)
    with EmbeddingFile.open(made.path) as file:
        for _ in range(2):
            np.testing.assert_array_equal(file.read(made.ids, (1, 0)), written[[1, 0]])


def test_unknown_ids_and_passes(made):
    with EmbeddingFile.open(made.path) as file:
        with pytest.raises(EmbeddingFileError, match=r"2 of 3 images are not in .*the first is 'nope'"):
            file.read([made.ids[0], "nope", "neither"])
        with pytest.raises(EmbeddingFileError, match="pass 2 is not in"):
            file.read(passes=(2,))
        with pytest.raises(EmbeddingFileError, match="pass -1"):
            file.read(passes=(-1,))


def test_memory_stays_at_the_result_and_one_block(make_file):
    made = make_file(n=6000, dim=256, passes=0)
    size = made.path.stat().st_size
    order = np.random.default_rng(0).permutation(made.ids)
    for ids in (None, order):
        tracemalloc.start()
        with EmbeddingFile.open(made.path) as file:
            file.read(ids)
        assert tracemalloc.get_traced_memory()[1] < 1.3 * size
        tracemalloc.stop()
    tracemalloc.start()
    with EmbeddingFile.open(made.path) as file:
        for _ in file.batches(rows=512):
            assert tracemalloc.get_traced_memory()[0] < 0.5 * size
    tracemalloc.stop()


def test_a_damaged_row_is_refused_when_it_is_read_and_no_other(made):
    data = bytearray(made.path.read_bytes())
    data[data.find(made.embeddings[1, 600].tobytes())] ^= 16
    made.path.write_bytes(data)
    with EmbeddingFile.open(made.path) as file:
        assert (file.read()[0] == made.embeddings[0]).all()
        assert (file.read(made.ids[:512], (1,)) == made.embeddings[1:, :512]).all()
        with pytest.raises(EmbeddingFileError, match=r"rows 512 to 767 of pass 1: a checksum does not match"):
            file.read(passes=(0, 1))


@pytest.mark.parametrize(("before", "after"), [(b"\x00\x00", b"\xff\xff"), (b"\xff\xff", b"\x00\x00")])
def test_damage_that_hdf5s_checksum_cannot_see_is_refused(tmp_path, recipe, before, after):
    """Fletcher-32 is the same for words of 0x0000 and 0xFFFF: NaN, or a value that is a little off, would be read."""
    path, ids = tmp_path / "a.h5", [f"{i}" for i in range(300)]
    values = np.arange(1, 1 + 300 * 8, dtype="<u4").reshape(1, 300, 8) << 16  # low words are 0
    values |= np.frombuffer(before * 2, "<u4") & 0xFFFF
    embeddings = values.view("<f4") * np.float32(1)
    with Writer.open(path, recipe(passes=0), 8, {}) as writer:
        writer.append(ids, np.zeros((300, 32), np.uint8), embeddings)
        writer.publish(ids)
    data = bytearray(path.read_bytes())
    at = data.find(embeddings[0, 280].tobytes())
    assert data[at : at + 2] == before
    data[at : at + 2] = after
    path.write_bytes(data)
    with h5py.File(path) as file:
        assert (file["embeddings"][0] != embeddings[0]).any()  # HDF5 reads it without a word
    with EmbeddingFile.open(path) as file:
        assert (file.read(ids[:256])[0] == embeddings[0, :256]).all()
        with pytest.raises(EmbeddingFileError, match=r"rows 256 to 299 of pass 0 do not match their SHA-256"):
            file.read(ids[250:])


def test_a_value_that_is_not_finite_is_refused_whoever_wrote_it(make_file, monkeypatch, tmp_path, recipe, rows):
    from cxrfeat._store import rows as module

    ids, hashes, embeddings = rows(10)
    embeddings[1, 3, 2] = np.nan
    monkeypatch.setattr(module, "checked", lambda ids, embeddings, storage: embeddings)  # as a foreign writer might
    with Writer.open(tmp_path / "a.h5", recipe(), 8, {}) as writer:
        writer.append(ids, hashes, embeddings)
        writer.publish(ids)
    with EmbeddingFile.open(tmp_path / "a.h5") as file:
        assert np.isfinite(file.read(ids)).all()
        for read in (
            lambda: file.read(ids[:1], (1,)),
            lambda: list(file.batches(passes=(0, 1))),
            lambda: file.to_frame(pass_=1),
        ):
            with pytest.raises(EmbeddingFileError, match="NaN or infinite"):
                read()


def test_a_matrix_a_table_and_hashes_by_id(made):
    wanted = made.ids[700:690:-1]
    rows = [made.ids.index(i) for i in wanted]
    with EmbeddingFile(made.path) as file:
        assert (file.to_numpy(wanted, pass_=1) == made.embeddings[1, rows]).all()
        table = file.to_frame(wanted)
        assert table.index.tolist() == wanted and table.index.name == "image_id" and table.shape == (10, 8)
        assert (table.to_numpy() == made.embeddings[0, rows]).all()
        assert (file.image_sha256(wanted) == made.image_sha256[rows]).all()
        with pytest.raises(EmbeddingFileError, match="1 of 1 images"):
            file.image_sha256(["nope"])
        assert wanted[0] in file and "nope" not in file


def test_it_shows_itself(made):
    with EmbeddingFile(made.path) as file:
        assert repr(file) == (
            "<EmbeddingFile a.h5: 1,000 images, 2 passes, dim 8, 1 failures; densenet121, RANDOM weights (random:0), "
            "224 px, pass 0 + 1 augmented>"
        )
        html = file._repr_html_()
    for text in ("a.h5", "random:0", "1,000", "not an image", "none"):
        assert text in html


def test_a_missing_file(tmp_path):
    with pytest.raises(NotFoundError, match="cxrfeat extract"):
        EmbeddingFile.open(tmp_path / "none.h5")
    with pytest.raises(NotFoundError):
        EmbeddingFile.open(tmp_path)
