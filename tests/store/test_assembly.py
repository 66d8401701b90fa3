"""Protects: rows are gathered in short stretches where that reads nothing many times, and in long ones elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cxrfeat._store import EmbeddingFile, assembly
from cxrfeat._store.journal import Segment
from cxrfeat._store.rows import BLOCK

DIM = 1024
SHORT, LONG = (size // (4 * DIM) for size in assembly.STRETCHES)


def a_segment(rows: int) -> Segment:
    return Segment(Path("x"), np.zeros(rows, "S4"), np.zeros((rows, 32), np.uint8), (), "")


def step(sources, places) -> int:
    return assembly._step((1, len(places), DIM), sources, np.asarray(places, np.int64))


def in_order(segments, rows) -> np.ndarray:
    return np.stack([np.repeat(np.arange(segments), rows), np.tile(np.arange(rows), segments)], axis=1)


def test_segments_of_an_extraction_are_gathered_one_at_a_time():
    assert step([a_segment(BLOCK)] * 300, in_order(300, BLOCK)) == SHORT


def test_segments_whose_rows_are_a_little_out_of_step_too():
    places = in_order(300, 250)  # no segment begins where a stretch does
    assert step([a_segment(250)] * 300, places) == SHORT


def test_shuffled_rows_are_gathered_in_long_stretches():
    places = np.random.default_rng(0).permutation(in_order(300, BLOCK))
    assert step([a_segment(BLOCK)] * 300, places) == LONG


def test_a_segment_is_read_whole_and_a_file_by_blocks():
    rows = 64 * BLOCK
    assert step([a_segment(rows)], in_order(1, rows)) == LONG
    assert step([EmbeddingFile.__new__(EmbeddingFile)], in_order(1, rows)) == SHORT


@pytest.mark.parametrize("rows", [0, 1])
def test_hardly_any_rows(rows):
    assert step([a_segment(BLOCK)], in_order(1, BLOCK)[:rows].reshape(-1, 2)) in (SHORT, LONG)
