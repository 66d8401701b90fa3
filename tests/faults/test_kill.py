"""Protects: an extraction killed at any instant loses nothing that was durable, and the next ones finish it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from cxrfeat.store import EmbeddingFile


def start(path, study):
    script = Path(__file__).with_name("worker.py")
    process = subprocess.Popen([sys.executable, str(script), str(path), study], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    return process


def rows_there(path):
    """Rows that the next extraction finds: published ones and those in whole parts (their names are their hashes)."""
    parts = path.with_name(path.name + ".parts")
    names = {p.name for p in parts.iterdir() if p.suffix == ".npz"} if parts.is_dir() else set()
    return names


def kill(kills, tmp_path, references, everything, told):
    """Kill extraction after extraction at random instants; a file that was finished is begun anew, or grown."""
    rng = np.random.default_rng(0)
    path = tmp_path / "a.h5"
    process = start(path, "long")
    began = time.perf_counter()
    process.wait()
    took = time.perf_counter() - began
    path.unlink()
    done = finished = lost = 0
    study, stage = "long", [None, "long"]
    while done < kills:
        before = rows_there(path)
        process = start(path, study)
        time.sleep(rng.uniform(0, 0.9 * took))  # its last tenth is the interpreter's end
        process.send_signal(signal.SIGKILL)
        done += process.wait() == -signal.SIGKILL
        if path.exists():
            assert everything(path) in [references[name] for name in stage if name]
        elif stage[0]:
            lost += 1
        published = path.exists() and everything(path) == references[study]
        if not published and not before <= rows_there(path):
            lost += 1
        if published:
            finished += 1
            study, stage = ("longer", ["long", "longer"]) if study == "long" else ("long", [None, "long"])
            if study == "long":
                path.unlink()
    for name in ("long", "longer"):
        process = start(path, name)
        assert process.wait() == 0
    assert everything(path) == references["longer"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.h5"]
    assert lost == 0
    with EmbeddingFile.open(path) as file:
        rows = len(file)
    told(f"{done} kills at random instants of extractions of {rows:,} rows; {finished} were finished; lost {lost}")


def test_a_few_kills(tmp_path, references, everything, told):
    kill(6, tmp_path, references, everything, told)


@pytest.mark.soak
def test_many_kills(tmp_path, references, everything, told):
    kill(100, tmp_path, references, everything, told)
