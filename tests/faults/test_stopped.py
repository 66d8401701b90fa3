"""Protects: a writer that was stopped, lost its lease and wakes again publishes nothing, and no row is lost by it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cxrfeat._store import EmbeddingFile
from cxrfeat._store.lock import STALE


def stop_at(path, study, call, count, worker):
    """Start an extraction that stops itself (SIGSTOP) just before its `count`-th `call` to the disk."""
    code = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(worker.__file__).parent)!r})
import worker
from pathlib import Path
from cxrfeat._store import disk
from cxrfeat.errors import LockedError

class Stopping(disk.System):
    left = {count}
    def {call}(self, *arguments):
        Stopping.left -= 1
        if Stopping.left == 0:
            os.kill(os.getpid(), signal.SIGSTOP)
        return super().{call}(*arguments)

disk.system = Stopping()
try:
    worker.extract(Path({str(path)!r}), worker.STUDIES[{study!r}])
except LockedError as error:
    print(error)
    sys.exit(3)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED)[1]), "it ended before that call"
    return process


def forget(path):
    """Two minutes pass without a word of the stopped process."""
    lock = path.with_name("a.h5.lock")
    then = lock.stat().st_mtime - STALE - 1
    os.utime(lock, (then, then))


def rows(path):
    with EmbeddingFile.open(path) as file:
        return len(file)


# Of `small` (300 images, segments of 64 rows): five segments are renamed, then the published file.
@pytest.mark.parametrize(("call", "count"), [("replace", 2), ("replace", 6), ("fsync", 3), ("sync_folder", 7)])
def test_a_stopped_writer_loses(tmp_path, worker, references, everything, call, count):
    path = tmp_path / "a.h5"
    process = stop_at(path, "small", call, count, worker)
    try:
        forget(path)
        worker.extract(path, worker.STUDIES["grown"])  # another process takes the lock, and finishes
        assert everything(path) == references["grown"] or rows(path) == 416
        finished = everything(path)
        process.send_signal(signal.SIGCONT)
        said, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 3, said
    assert "was taken from this process" in said
    assert everything(path) == finished
    assert [p.name for p in tmp_path.iterdir()] == ["a.h5"]


@pytest.mark.parametrize(("call", "count"), [("replace", 6), ("write", 12)])
def test_a_stopped_writer_wakes_while_the_other_is_writing(tmp_path, worker, references, everything, call, count):
    """Both have a draft of the same file: neither takes the other's."""
    path = tmp_path / "a.h5"
    first = stop_at(path, "small", call, count, worker)
    forget(path)
    second = stop_at(path, "small", "replace", 2, worker)  # the first is of the lock
    try:
        first.send_signal(signal.SIGCONT)
        said, _ = first.communicate(timeout=60)
        assert first.returncode == 3, said
        second.send_signal(signal.SIGCONT)
        assert second.communicate(timeout=60)[0] == ""
        assert second.returncode == 0
    finally:
        for process in (first, second):
            process.kill()
            process.wait()
    assert everything(path) == references["small"]
    assert [p.name for p in tmp_path.iterdir()] == ["a.h5"]
