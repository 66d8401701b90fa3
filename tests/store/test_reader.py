"""Protects: rows are joined by id in any order, by a path that holds one block and the result and nothing more."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from cxrfeat._store import EmbeddingFile
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


def test_a_missing_file(tmp_path):
    with pytest.raises(NotFoundError, match="cxrfeat extract"):
        EmbeddingFile.open(tmp_path / "none.h5")
    with pytest.raises(NotFoundError):
        EmbeddingFile.open(tmp_path)
