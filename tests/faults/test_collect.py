"""Protects: whatever a disk does while files are collected, a collection is the old one or the new one."""

from __future__ import annotations

import errno
import shutil

import numpy as np
import pytest

from cxrfeat import cache
from cxrfeat._store import EmbeddingFile, collection, disk
from cxrfeat.errors import EmbeddingFileError


@pytest.fixture
def files(tmp_path):
    x = np.random.default_rng(0).random((30, 8))
    for name, n in (("a", 10), ("b", 30)):
        cache.import_(x[:n], tmp_path / f"{name}.h5", ids=[f"{name}{i}" for i in range(n)], backbone="ours").close()
    return tmp_path / "a.h5", tmp_path / "b.h5"


@pytest.mark.parametrize("links", [True, False])
def test_calls_fail_in_turn(files, tmp_path, faulty, told, monkeypatch, links):
    fail_in_turn(files, tmp_path, faulty, told, monkeypatch, links, lambda at: [(0, errno.ENOSPC, errno.EIO)[at % 3]])


@pytest.mark.soak
@pytest.mark.parametrize("links", [True, False])
def test_calls_fail_in_every_way(files, tmp_path, faulty, told, monkeypatch, links):
    fail_in_turn(files, tmp_path, faulty, told, monkeypatch, links, lambda at: [0, errno.ENOSPC, errno.EIO])


def fail_in_turn(files, tmp_path, faulty, told, monkeypatch, links, errors):
    first, second = files
    start, place = tmp_path / "start", tmp_path / "place"
    cache.collect([first], start)
    rng, tried, system = np.random.default_rng(0), 0, faulty.FaultyDisk()
    if not links:
        monkeypatch.setattr(faulty.FaultyDisk, "link", _no_link)

    def attempt(system):
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(start, place)
        system._synced[str(second)] = second.read_bytes()
        disk.system = system
        try:
            cache.collect([second], place)
        except EmbeddingFileError as error:
            assert str(error).endswith("run the same command again.")
        except faulty.PowerLoss:
            system.lose_power(rng)
        finally:
            disk.system = disk.System()
        (place / "collection.json.lock").unlink(missing_ok=True)  # its process is gone
        with EmbeddingFile(place) as file:
            assert len(file) in (10, 40)
            file.read()
        cache.collect([second], place)
        with EmbeddingFile(place) as file:
            assert len(file) == 40 and cache.verify(place).ok

    attempt(system)
    for at in range(len(system.calls)):
        for error in errors(at):
            attempt(faulty.FaultyDisk(at, error))
            tried += 1
    told(f"collecting, links {links}: {len(system.calls)} calls failed in turn, {tried} failures, 0 broken")


def _no_link(self, source, target):
    raise OSError(errno.EXDEV, "cross-device link")


def test_memory_of_the_manifest_is_bounded(files, tmp_path, monkeypatch):
    cache.collect(files, tmp_path / "all")
    monkeypatch.setattr(collection, "MAX_MANIFEST", 100)
    with pytest.raises(EmbeddingFileError, match="too large"):
        EmbeddingFile(tmp_path / "all")
