"""Protects: one writer at a time, a dead one's lock taken over and a living one's never, without any file lock."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from cxrfeat._store import disk, lock
from cxrfeat._store.lock import STALE, Lock
from cxrfeat.errors import LockedError


@pytest.fixture
def file(tmp_path):
    return tmp_path / "a.h5"


def marker(path, **changes):
    """What a lock file says, with other values: filelock's format, a first line and then `key=value`."""
    first, *lines = path.read_text().splitlines()
    fields = dict(line.split("=", 1) for line in lines) | changes
    return "".join(
        f"{line}\n" for line in [first, *(f"{key}={value}" for key, value in fields.items() if value is not None)]
    )


def left_by(file, seconds_ago=0.0, **changes):
    """Leave a lock behind as another holder would have."""
    held = Lock(file)
    held.acquire()
    path = held.path
    text = marker(path, token="theirs", **changes)
    held.release()
    path.write_text(text)
    now = path.stat().st_mtime
    os.utime(path, (now - seconds_ago, now - seconds_ago))
    return path


def gone():
    """The number of a process that is no longer there."""
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    process.wait()
    return process.pid


def test_held_and_released(file):
    with Lock(file):
        with pytest.raises(LockedError, match=rf"process {os.getpid()} on .+, since \d{{4}}-"):
            Lock(file).acquire()
        assert file.with_name("a.h5.lock").exists()
    assert not list(file.parent.iterdir())


def test_a_dead_process_on_this_machine_is_taken_over_at_once(file):
    pid = gone()
    left_by(file, pid=pid)
    with Lock(file) as mine:
        assert mine.taken_over.pid == pid
        mine.check()
    assert not list(file.parent.iterdir())


def test_what_dead_processes_left_while_taking_the_lock_is_swept_up(file):
    dead = left_by(file, pid=gone(), start="1")
    dead.rename(file.with_name("a.h5.lock.0123"))
    probe = file.with_name("a.h5.lock.4567.now")
    probe.write_bytes(b"")
    os.utime(probe, (0, 0))
    with Lock(file):
        assert [p.name for p in file.parent.iterdir()] == ["a.h5.lock"]


def test_a_process_number_given_away_again_is_not_the_holder(file):
    left_by(file, pid=os.getpid(), start="1")
    with Lock(file) as mine:
        assert mine.taken_over is not None


@pytest.mark.parametrize("change", [{"host": "elsewhere"}, {"host": "here?pidns-1"}, {"start": None}])
def test_a_holder_elsewhere_counts_as_long_as_it_is_heard_of(file, change):
    path = left_by(file, pid=1, seconds_ago=STALE / 2, **change)
    with pytest.raises(LockedError, match="process 1 on"):
        Lock(file).acquire()
    assert path.exists()
    path.unlink()
    left_by(file, pid=1, seconds_ago=STALE + 5, **change)
    with Lock(file) as mine:
        assert mine.taken_over.pid == 1


def test_a_lock_that_says_nothing_counts_for_a_while(file):
    path = file.with_name("a.h5.lock")
    path.write_bytes(b"nobody")
    with pytest.raises(LockedError, match="does not say by whom"):
        Lock(file).acquire()
    os.utime(path, (0, 0))
    Lock(file).acquire()


def test_an_empty_lock_is_that_of_a_process_killed_while_it_made_it(file, monkeypatch):
    monkeypatch.setattr(lock, "SILENT", 0.1)
    file.with_name("a.h5.lock").write_bytes(b"")
    with Lock(file) as mine:
        mine.check()


def test_an_empty_lock_that_is_then_written_stays(file, monkeypatch):
    monkeypatch.setattr(lock, "SILENT", 0.2)
    path = file.with_name("a.h5.lock")
    with Lock(file):
        text = marker(path, token="theirs", host="elsewhere")
    path.write_bytes(b"")
    monkeypatch.setattr(lock.time, "sleep", lambda seconds: path.write_text(text))
    with pytest.raises(LockedError):
        Lock(file).acquire()
    assert "theirs" in path.read_text()


def test_a_holder_that_was_thought_dead_stops(file):
    mine = Lock(file)
    mine.acquire()
    path = left_by_another(file)
    with pytest.raises(LockedError, match=r"taken from this process.*held by process 7 on"):
        mine.check()
    mine.release()
    assert path.exists()  # it is the other's now


def left_by_another(file):
    path = file.with_name("a.h5.lock")
    other = path.with_name("other")
    other.write_text(marker(path, token="theirs", pid=7))
    return other.replace(path)


def test_without_hard_links(file, monkeypatch):
    class NoLinks(disk.System):
        def link(self, source, target):
            raise PermissionError(1, "no hard links here")

    monkeypatch.setattr(disk, "system", NoLinks())
    with Lock(file), pytest.raises(LockedError, match="process"):
        Lock(file).acquire()
    assert not list(file.parent.iterdir())


def test_on_a_file_system_that_cannot_exchange_names(file, monkeypatch):
    """NFS and SMB: filelock alone would leave a dead holder's lock there for ever."""
    monkeypatch.setattr("filelock._soft._exclusive._recovery.exchange_names", lambda *names: False)
    pid = gone()
    left_by(file, pid=pid)
    with Lock(file) as mine:
        assert mine.taken_over.pid == pid
        with pytest.raises(LockedError, match=f"process {os.getpid()} on"):
            Lock(file).acquire()
        mine.check()
    assert not list(file.parent.iterdir())


def test_a_lock_of_an_earlier_version_counts_while_it_is_refreshed(file):
    path = file.with_name("a.h5.lock")
    path.write_text('{"pid": 1, "started": "1", "host": "h", "space": "s", "since": "2026", "token": "t"}')
    with pytest.raises(LockedError, match="does not say by whom"):
        Lock(file).acquire()
    os.utime(path, (0, 0))
    with Lock(file) as mine:
        mine.check()


def test_the_holder_is_heard_of(file, monkeypatch):
    monkeypatch.setattr(lock, "BEAT", 0.01)
    with Lock(file) as mine:
        os.utime(mine.path, (0, 0))
        for _ in range(500):
            if mine.path.stat().st_mtime > 1:
                return
            time.sleep(0.01)
        pytest.fail("the lock's time was never refreshed")


def test_many_at_once_one_gets_it(file, tmp_path):
    """Processes race for the lock of a dead holder."""
    left_by(file, pid=os.getpid(), start="1")
    code = f"""
import sys, time
from pathlib import Path
from cxrfeat._store.lock import Lock
from cxrfeat.errors import LockedError
print("ready", flush=True)
sys.stdin.readline()
lock = Lock(Path({str(file)!r}))
try:
    lock.acquire()
except LockedError:
    sys.exit(3)
time.sleep(1)
lock.check()
lock.release()
"""
    racers = [
        subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(5)
    ]
    for racer in racers:
        racer.stdout.readline()
    for racer in racers:
        racer.stdin.write(b"go\n")
        racer.stdin.flush()
    codes = sorted(racer.wait() for racer in racers)
    assert codes == [0, 3, 3, 3, 3]
