"""Protects: another format of embedding files is one module with a `Store`, and nothing else knows it."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from cxrfeat import cache
from cxrfeat._store import EmbeddingFile, Writer, names
from cxrfeat._store.rows import BLOCK, Header, blocks, digest, text_sha256
from cxrfeat.errors import EmbeddingFileError


class PlainTable:
    """A published file of this test's: a folderless archive of NumPy arrays."""

    def __init__(self, path):
        self.path, self.problems = path, []
        with np.load(path) as found:
            self._values, self.block_sha256 = found["embeddings"], found["table"]
            about, ids, hashes = json.loads(str(found["about"])), found["ids"], found["hashes"]
        self.sha256 = about["sha256"]
        failures = [tuple(row) for row in about["failures"]]
        shape = self._values.shape
        self.header = Header(about["recipe"], about["provenance"], shape, ids, hashes, failures)

    def read(self, pass_, block, out):
        out[...] = self._values[pass_, block * BLOCK : block * BLOCK + len(out)]

    def close(self):
        pass


def write(path, header, stretches):
    values = np.concatenate([stretch.copy() for stretch in stretches], axis=1)
    parts = [part for _, part in blocks(values.shape[1])]
    table = np.stack(
        [
            [digest(header.ids[part], header.image_sha256[part]) for part in parts],
            *([digest(rendering[part]) for part in parts] for rendering in values),
        ]
    )
    stated = {"recipe": text_sha256(header.recipe), "provenance": text_sha256(header.provenance)}
    stated["content"] = header.content_sha256(table)
    about = {"recipe": header.recipe, "provenance": header.provenance, "failures": header.failures, "sha256": stated}
    with path.open("wb") as file:
        np.savez(
            file, embeddings=values, table=table, ids=header.ids, hashes=header.image_sha256, about=json.dumps(about)
        )
        os.fsync(file.fileno())


@pytest.fixture
def another_store(monkeypatch):
    module = ModuleType("plain_store")
    module.open_sound = module.open_damaged = PlainTable
    module.write, module.damage_outside = write, lambda path: ""
    monkeypatch.setitem(sys.modules, "plain_store", module)
    monkeypatch.setitem(names.STORES, ".plain", "plain_store")
    return ".plain"


def test_everything_works_with_another_store(tmp_path, another_store, recipe, rows):
    ids, hashes, embeddings = rows(600)
    path = tmp_path / f"a{another_store}"
    with Writer.open(path, recipe(), 8, {"engine": "none"}) as writer:
        writer.append(ids[:300], hashes[:300], embeddings[:, :300])
        writer.fail("dark", "dark.png", "not an image")
    with Writer.open(path, recipe(), 8, {"engine": "none"}) as writer:  # resumed from the journal
        assert len(writer.done) == 300
        writer.append(ids[300:], hashes[300:], embeddings[:, 300:])
        writer.publish(ids)
    assert path.read_bytes()[:2] == b"PK"
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    with EmbeddingFile(path) as file:
        assert (file.read(ids[::-1], (0, 1)) == embeddings[:, ::-1]).all()
        assert file.failures()["image_id"].tolist() == ["dark"]
    assert cache.verify(path).ok
    assert cache.ls(tmp_path)["images"].tolist() == [600]
    merged = cache.merge([path, tmp_path / f"a{another_store}"], tmp_path / "b.h5")  # from one format to another
    with EmbeddingFile(path) as ours, EmbeddingFile(merged.path) as theirs:
        assert theirs.content_sha256 == ours.content_sha256


def test_damage_in_another_store_is_found_and_repaired(tmp_path, another_store, recipe, rows):
    ids, hashes, embeddings = rows(600)
    path = tmp_path / f"a{another_store}"
    with Writer.open(path, recipe(), 8, {}) as writer:
        writer.append(ids, hashes, embeddings)
        writer.publish(ids)
    with np.load(path) as found:
        arrays = dict(found)
    arrays["embeddings"][1, 300, 2] += 1
    with path.open("wb") as file:
        np.savez(file, **arrays)
    with EmbeddingFile(path) as file, pytest.raises(EmbeddingFileError, match="rows 256 to 511 of pass 1"):
        file.read(passes=(0, 1))
    assert cache.verify(path).sound == 344
    assert asdict(cache.repair(path))["lost"] == 256
    assert cache.verify(Path(path)).ok
