"""Protects: rows are gathered in short stretches where that reads nothing many times, and in long ones elsewhere."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from cxrfeat._store import assembly, parts
from cxrfeat._store.layout import BLOCK, Rows

DIM = 1024
SHORT, LONG = (size // (4 * DIM) for size in assembly.STRETCHES)


def a_part(rows: int) -> parts.Part:
    ids = np.zeros(rows, "S4")
    return parts.Part(Path("x"), Rows(ids, np.zeros((rows, 32), np.uint8), np.zeros((1, 0, DIM), np.float32)), (), "")


def step(sources, places) -> int:
    card = SimpleNamespace(shape=(1, len(places), DIM))
    return assembly._step(assembly.Plan(card, sources, np.asarray(places, np.int64)))


def in_order(parts_, rows) -> np.ndarray:
    return np.stack([np.repeat(np.arange(parts_), rows), np.tile(np.arange(rows), parts_)], axis=1)


def test_parts_of_an_extraction_are_gathered_one_at_a_time():
    assert step([a_part(BLOCK)] * 300, in_order(300, BLOCK)) == SHORT


def test_parts_whose_rows_are_a_little_out_of_step_too():
    places = in_order(300, 250)  # no part begins where a stretch does
    assert step([a_part(250)] * 300, places) == SHORT


def test_shuffled_rows_are_gathered_in_long_stretches():
    places = np.random.default_rng(0).permutation(in_order(300, BLOCK))
    assert step([a_part(BLOCK)] * 300, places) == LONG


def test_a_part_is_read_whole_and_a_file_by_blocks():
    rows = 64 * BLOCK
    assert step([a_part(rows)], in_order(1, rows)) == LONG
    assert step([object()], in_order(1, rows)) == SHORT


@pytest.mark.parametrize("rows", [0, 1])
def test_hardly_any_rows(rows):
    assert step([a_part(BLOCK)], in_order(1, BLOCK)[:rows].reshape(-1, 2)) in (SHORT, LONG)
