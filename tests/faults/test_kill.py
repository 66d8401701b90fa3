"""Protects: an extraction killed at any instant loses nothing that was durable, and the next ones finish it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from cxrfeat._store import EmbeddingFile


def start(path, study):
    script = Path(__file__).with_name("worker.py")
    process = subprocess.Popen([sys.executable, str(script), str(path), study], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    return process


def rows_there(path):
    """Rows that the next extraction finds, as (id, image hash): published ones and those in whole segments."""
    found = set()
    if path.exists():
        with EmbeddingFile.open(path) as file:
            found |= set(zip(file.image_ids.tolist(), map(bytes, file.image_sha256()), strict=True))
    for part in path.with_name(path.name + ".parts").glob("*.npz"):
        with np.load(part) as rows:
            found |= set(zip(np.char.decode(rows["image_id"]).tolist(), map(bytes, rows["image_sha256"]), strict=True))
    return found


def is_empty_lock(path):
    return path.name.startswith("a.h5.lock.") and path.stat().st_size == 0


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
        if not published:
            lost += len(before - rows_there(path))
        if published:
            finished += 1
            study, stage = ("longer", ["long", "longer"]) if study == "long" else ("long", [None, "long"])
            if study == "long":  # anew: without the journal too, which a kill just after publishing leaves behind
                path.unlink()
                shutil.rmtree(path.with_name("a.h5.parts"), ignore_errors=True)
    for name in ("long", "longer"):
        process = start(path, name)
        assert process.wait() == 0
    assert everything(path) == references["longer"]
    # A probe of the disk's clock, or a lock that was not yet written, may stay for a while where a process died within
    # it; it is empty, holds nothing, and is swept away when it is old.
    assert sorted(p.name for p in tmp_path.iterdir() if not is_empty_lock(p)) == ["a.h5"]
    assert lost == 0
    with EmbeddingFile.open(path) as file:
        rows = len(file)
    told(f"{done} kills at random instants of extractions of {rows:,} rows; {finished} were finished; lost {lost}")


def test_a_few_kills(tmp_path, references, everything, told):
    kill(6, tmp_path, references, everything, told)


def real(path, study):
    command = [sys.executable, "-m", "cxrfeat_cli.main", "extract", str(study), "-o", str(path)]
    return subprocess.Popen([*command, "--weights", "random:0", "--size", "32"], stderr=subprocess.DEVNULL)


@pytest.mark.soak
def test_many_kills_of_the_real_command(tmp_path, make_study, everything, told):
    """`cxrfeat extract` itself, DenseNet121 and all, on small images."""
    kills, rng = int(os.environ.get("CXRFEAT_KILLS", "100")), np.random.default_rng(0)
    study = make_study(700, size=32).save(tmp_path / "study.csv")
    (tmp_path / "out").mkdir()
    path = tmp_path / "out" / "a.h5"
    assert real(path, study).wait() == 0
    path.with_name("a.h5.seen").unlink()
    wanted = everything(path)
    path.unlink()
    began = time.perf_counter()
    assert real(path, study).wait() == 0
    took = time.perf_counter() - began
    done = finished = lost = amid = 0
    while done < kills:
        before = rows_there(path)
        process = real(path, study)
        # The first part of its life is imports, of which one kill in ten is enough.
        time.sleep(rng.uniform(0 if done % 10 == 0 else 0.3 * took, took))
        process.send_signal(signal.SIGKILL)
        done += process.wait() == -signal.SIGKILL
        if path.exists():
            assert everything(path) == wanted
            finished += 1
            path.unlink()
        else:
            lost += len(before - rows_there(path))
            amid += bool(rows_there(path))
    assert real(path, study).wait() == 0
    assert everything(path) == wanted
    assert lost == 0
    told(
        f"{done} kills of `cxrfeat extract` at random instants, {amid} of them with segments on the disk; {finished} "
        f"extractions had been finished; rows lost {lost}; the last one equals an uninterrupted one"
    )


@pytest.mark.soak
def test_many_kills(tmp_path, references, everything, told):
    kill(int(os.environ.get("CXRFEAT_KILLS", "100")), tmp_path, references, everything, told)
