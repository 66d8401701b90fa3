"""Protects: prune removes what nobody needs and nothing that somebody does, or that is being written."""

from __future__ import annotations

import pytest

from cxrfeat import cache
from cxrfeat._store import Writer, catalog
from cxrfeat._store.catalog import Need
from cxrfeat.errors import NotFoundError


def names(found):
    return sorted(row.path.name for row in found)


def test_needs(make_file, tmp_path):
    a, b = make_file(n=10, name="a.h5"), make_file(n=10, name="b.h5", seed=1, size=320)
    study = Need(frozenset([a.ids[3], "other"]))
    run = Need(frozenset(b.ids), frozenset([b.recipe.sha256]))
    other = Need(frozenset(b.ids), frozenset(["another recipe"]))
    assert names(catalog.unneeded(tmp_path, [])) == ["a.h5", "b.h5"]
    assert names(catalog.unneeded(tmp_path, [study])) == ["b.h5"]
    assert names(catalog.unneeded(tmp_path, [study, other])) == ["b.h5"]
    assert names(catalog.unneeded(tmp_path, [study, run])) == []
    with pytest.raises(NotFoundError):
        catalog.unneeded(tmp_path / "none", [])


def test_what_cannot_be_opened_or_is_being_written_stays(make_file, tmp_path, rows):
    a, b, c = (make_file(n=10, name=f"{name}.h5", seed=seed) for seed, name in enumerate("abc"))
    b.path.write_bytes(b"damaged")
    with Writer.open(a.path, a.recipe, 8, {}):
        assert names(catalog.unneeded(tmp_path, [])) == ["c.h5"]
    with Writer.open(c.path, c.recipe, 8, {}) as writer:
        writer.append(*rows(3, seed=9))
    (tmp_path / "d.h5.part").write_bytes(b"left")
    found = catalog.unneeded(tmp_path, [Need(frozenset(a.ids))])
    assert names(found) == ["c.h5", "c.h5.parts", "d.h5.part"]
    inside = c.path.read_bytes()
    moved = catalog.set_aside(found)
    assert sorted(p.name for p in moved) == names(found)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".pruned", "a.h5", "b.h5"]
    assert (tmp_path / ".pruned" / "c.h5").read_bytes() == inside
    assert catalog.unneeded(tmp_path, [Need(frozenset(a.ids))]) == []
    assert sorted(catalog.delete_aside(tmp_path)) == sorted(moved)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.h5", "b.h5"]


def test_what_is_moved_aside_replaces_nothing(make_file, tmp_path):
    for _ in range(3):
        make_file(n=10)
        catalog.set_aside(catalog.unneeded(tmp_path, []))
    assert sorted(p.name for p in (tmp_path / ".pruned").iterdir()) == ["a.h5", "a.h5.2", "a.h5.3"]


def test_ls_and_info(make_file, tmp_path, rows):
    made = make_file(n=10)
    with Writer.open(tmp_path / "b.h5", made.recipe, 8, {}) as writer:
        writer.append(*rows(3))
    (tmp_path / "c.h5").write_bytes(b"no")
    found = {row["file"]: row for row in catalog.entries(tmp_path)}
    assert (found["a.h5"]["images"], found["a.h5"]["passes"], found["a.h5"]["failures"]) == (10, 2, 1)
    assert "unfinished" in found["b.h5"]["note"]
    assert "cannot be used" in found["c.h5"]["note"]
    assert cache.info(made.path)["recipe"]["size"] == 224
    assert catalog.entries(tmp_path / "none") == []
