"""A writer's account: the last row of an id counts, and orders hold each durable row once."""

import numpy as np
import pytest

from cxrfeat._store.ledger import Ledger


def hashes(*numbers):
    return np.repeat(np.array(numbers, np.uint8)[:, None], 32, axis=1)


@pytest.fixture
def ledger():
    made = Ledger()
    made.add(["a", "b", "c"], hashes(1, 2, 3))
    made.add(["d", "b"], hashes(4, 5))
    made.pend(["e", "a"], hashes(6, 7))
    return made


def test_it_maps_ids_to_hashes_as_a_dict_would(ledger):
    expected = {"a": 7, "b": 5, "c": 3, "d": 4, "e": 6}
    assert dict(ledger) == {i: bytes([number]) * 32 for i, number in expected.items()}
    assert (len(ledger), ledger.durable) == (5, 4)
    assert "e" in ledger and "f" not in ledger
    assert ledger.get("f") is None
    with pytest.raises(KeyError):
        ledger["f"]


def test_pending_rows_become_durable_where_the_next_source_has_them(ledger):
    ledger.add(["e", "a"], hashes(6, 7))
    assert (len(ledger), ledger.durable) == (5, 5)
    places = ledger.places(["a", "b", "e"])
    assert places.tolist() == [[2, 1], [1, 1], [2, 0]]
    np.testing.assert_array_equal(ledger.hashes(places), hashes(7, 5, 6))


def test_an_order_holds_each_durable_row_once(ledger):
    assert ledger.order(["d", "x", "b", "d"]) == ["d", "b", "a", "c"]
    assert ledger.order(np.array(["c", "b", "a", "d"])) == ["c", "b", "a", "d"]
    assert ledger.order(["c", "b", "a", "a"]) == ["c", "b", "a", "d"]
    assert ledger.order([]) == ["a", "c", "d", "b"]


def test_what_is_dropped_is_in_neither_account(ledger):
    ledger.drop(["a", "d", "nobody"])
    assert set(ledger) == {"b", "c", "e"}
    assert ledger.order(["a", "e"]) == ["c", "b"]
