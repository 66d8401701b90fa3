"""The row index: the last row of an id counts, and orders hold each durable row once."""

import numpy as np
import pytest

from cxrfeat._store.row_index import RowIndex


def hashes(*numbers):
    return np.repeat(np.array(numbers, np.uint8)[:, None], 32, axis=1)


@pytest.fixture
def index():
    made = RowIndex()
    made.add(["a", "b", "c"], hashes(1, 2, 3))
    made.add(["d", "b"], hashes(4, 5))
    made.pend(["e", "a"], hashes(6, 7))
    return made


def test_it_maps_ids_to_hashes_as_a_dict_would(index):
    expected = {"a": 7, "b": 5, "c": 3, "d": 4, "e": 6}
    assert dict(index) == {i: bytes([number]) * 32 for i, number in expected.items()}
    assert (len(index), index.durable) == (5, 4)
    assert "e" in index and "f" not in index
    assert index.get("f") is None
    with pytest.raises(KeyError):
        index["f"]


def test_pending_rows_become_durable_where_the_next_source_has_them(index):
    index.add(["e", "a"], hashes(6, 7))
    assert (len(index), index.durable) == (5, 5)
    places = index.places(["a", "b", "e"])
    assert places.tolist() == [[2, 1], [1, 1], [2, 0]]
    np.testing.assert_array_equal(index.hashes(places), hashes(7, 5, 6))


def test_an_order_holds_each_durable_row_once(index):
    assert index.order(["d", "x", "b", "d"]) == ["d", "b", "a", "c"]
    assert index.order(np.array(["c", "b", "a", "d"])) == ["c", "b", "a", "d"]
    assert index.order(["c", "b", "a", "a"]) == ["c", "b", "a", "d"]
    assert index.order([]) == ["a", "c", "d", "b"]


def test_what_is_dropped_is_gone(index):
    index.drop(["a", "d", "nobody"])
    assert set(index) == {"b", "c", "e"}
    assert index.order(["a", "e"]) == ["c", "b"]
