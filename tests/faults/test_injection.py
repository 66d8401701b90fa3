"""Protects: whatever a disk does at whichever call, nothing published breaks, nothing promised is lost, and the next
extraction finishes with the file that an uninterrupted one makes."""

from __future__ import annotations

import errno
import re
import shutil

import numpy as np
import pytest

from cxrfeat._store import Writer, disk
from cxrfeat.errors import EmbeddingFileError

ERRORS = {"ENOSPC": errno.ENOSPC, "EIO": errno.EIO, "EACCES": errno.EACCES}
MODES = [
    *({"error": code, "name": name} for name, code in ERRORS.items()),
    {"error": errno.ENOSPC, "torn": True, "sticky": True, "name": "full disk, torn write"},
    {"error": errno.EIO, "torn": True, "name": "EIO, torn write"},
    {"error": 0, "name": "power loss"},
    {"error": 0, "torn": True, "name": "power loss, torn write"},
]
SCENARIOS = {"first": (None, "small"), "grown": ("small", "grown")}


@pytest.fixture(params=SCENARIOS)
def scene(request, tmp_path, worker, references, everything):
    """A way to run one scenario from its start with a given disk: (run, calls of an undisturbed run)."""
    before, after = SCENARIOS[request.param]
    start, place = tmp_path / "start", tmp_path / "place"
    start.mkdir()
    if before:
        worker.extract(start / "a.h5", worker.STUDIES[before])
    valid = [references[name] for name in (before, after) if name]

    def run(system, rng):
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(start, place)
        path, durable, said = place / "a.h5", set(), None
        disk.system = system
        try:
            worker.extract(path, worker.STUDIES[after], durable)
        except EmbeddingFileError as error:
            said = str(error)
        except BaseException as error:
            if type(error).__name__ != "PowerLoss":
                raise
            system.lose_power(rng)
        finally:
            disk.system = disk.System()
        forget_holder(path)
        lost = []
        if path.exists():  # what stands under the published name is whole: the old or the new
            assert everything(path) in valid
        elif before:
            lost.append("the published file")
        with Writer.open(path, worker.RECIPE, worker.DIM, {}) as writer:
            lost += sorted(durable - set(writer.done))
        worker.extract(path, worker.STUDIES[after])
        assert everything(path) == references[after]
        left = sorted(p.name for p in place.iterdir() if not p.name.startswith("a.h5.lock."))
        assert left == ["a.h5"], left
        return lost, said

    return run


def forget_holder(path):
    """The process ends here, with the machine or by itself; a lock that it could not remove stays behind."""
    lock = path.with_name("a.h5.lock")
    if lock.exists():
        lock.write_text(re.sub(r"start=\d+", "start=1", lock.read_text()))


def inject(scene, faulty, told, step, request):
    healthy = faulty.FaultyDisk()
    assert scene(healthy, None)[0] == []
    rng = np.random.default_rng(0)
    tried = {mode["name"]: 0 for mode in MODES}
    said = set()
    lost = []
    for number, at in enumerate(range(0, len(healthy.calls), step)):
        for mode in MODES if step == 1 else [MODES[number % len(MODES)]]:
            options = {key: value for key, value in mode.items() if key != "name"}
            gone, text = scene(faulty.FaultyDisk(at, **options), rng)
            lost += gone
            tried[mode["name"]] += 1
            if text:
                said.add(text)
    assert not lost
    assert all(text.endswith("run the same command again.") for text in said), said
    counts = ", ".join(f"{name} {count}" for name, count in tried.items())
    name = request.node.name
    told(f"{name}: of {len(healthy.calls)} calls ({kinds(healthy.calls)}) failed in turn: {counts}; lost {len(lost)}")


def kinds(calls):
    return ", ".join(f"{calls.count(kind)} {kind}" for kind in sorted(set(calls)))


def test_some_calls_fail_in_turn(scene, faulty, told, request):
    inject(scene, faulty, told, 5, request)


@pytest.mark.soak
def test_every_call_fails_in_turn_in_every_way(scene, faulty, told, request):
    inject(scene, faulty, told, 1, request)
