"""One writer per embedding file: a lock that needs no locking file system, and says who holds it.

The lock is a file beside the embedding file, `<file>.lock`, that names its holder. It is made complete under another
name and then linked to its own, which fails if the name is taken on every file system, network ones too; where there
are no hard links it is created with O_EXCL. No `flock` is used, so nothing depends on a lock daemon.

A holder on this machine (same host, same boot, same process space) is alive if its process is, and a process number
given to another process since does not count, since start times are compared. Any other holder is alive as long as it
refreshes the lock's time, which it does every 10 seconds; after `STALE` seconds without, it is taken for dead. Ages are
measured against a file just made on the same disk, so the clocks of two machines are never compared. A holder that was
only asleep finds its lock gone before its next write and stops.
"""

from __future__ import annotations

import glob
import json
import os
import socket
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from cxrfeat._store import disk
from cxrfeat.errors import LockedError

BEAT, STALE = 10.0, 120.0  # seconds


@dataclass(frozen=True)
class Holder:
    """Who holds a lock.

    Attributes
    ----------
    pid, started : int, str
        Process number, and when that process began by the kernel's count ("" where it cannot be told).
    host, space : str
        Host name, and boot and process space ("" where they cannot be told).
    since : str
        When the lock was taken, ISO 8601, UTC.
    token : str
        Told apart from every other holder by this alone.
    """

    pid: int
    started: str
    host: str
    space: str
    since: str
    token: str

    @classmethod
    def me(cls) -> Holder:
        """Return this process, now."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(os.getpid(), _started(os.getpid()), socket.gethostname(), _space(), now, uuid.uuid4().hex)

    def describe(self) -> str:
        """A few words for messages."""
        return f"process {self.pid} on {self.host}, since {self.since}"


class Lock:
    """The lock of one embedding file, held from `acquire` to `release`."""

    def __init__(self, file: Path) -> None:
        self.path = file.with_name(file.name + ".lock")
        self.file = file
        self.taken_over: Holder | None = None
        self._me = Holder.me()
        self._stop = threading.Event()

    def __enter__(self) -> Lock:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def acquire(self) -> None:
        """Take the lock, from a dead holder if need be.

        Raises
        ------
        LockedError
            If a living process holds it.
        """
        with disk.telling(self.path):
            for _ in range(5):  # a holder may vanish between two looks; it does not do so five times
                if self._create() and self._stays():
                    self._sweep()
                    threading.Thread(target=self._beat, daemon=True).start()
                    return
                self._remove_if_dead()
        raise LockedError(f"{self.file} is being written by another process; try again.")

    def check(self) -> None:
        """Raise a LockedError if the lock was taken over: this process was thought dead."""
        if (holder := _read(self.path)) is None or holder.token != self._me.token:
            who = f" and is now held by {holder.describe()}" if holder else ""
            raise LockedError(
                f"the lock on {self.file} was taken from this process, which had not been heard of for {STALE:.0f} s"
                f"{who}. What it had finished is safe; run the same command again."
            )

    def release(self) -> None:
        """Give the lock up."""
        self._stop.set()
        holder = _read(self.path)
        if holder is not None and holder.token == self._me.token:
            with suppress(OSError):  # a lock that cannot be removed is a dead holder's at the next open
                disk.remove(self.path)

    def _create(self) -> bool:
        text = json.dumps(asdict(self._me)).encode()
        draft = self.path.with_name(f"{self.path.name}.{self._me.token}")
        disk.create(draft, text)
        try:
            disk.system.link(draft, self.path)
        except FileExistsError:
            return False
        except OSError:  # no hard links here (FAT, some network shares)
            try:
                disk.create(self.path, text)
            except FileExistsError:
                return False
        finally:
            with suppress(OSError):  # a draft that stays holds nothing
                disk.remove(draft)
        return True

    def _stays(self) -> bool:
        """Whether the lock just made is still this process's.

        Another one, which was about to remove the dead holder's, may move this one aside by mistake. It puts it back at
        once, unless a third has made its own meanwhile: then that one holds the lock.
        """
        for _ in range(100):
            if (holder := _read(self.path)) is not None:
                return holder.token == self._me.token
            time.sleep(0.01)
        return False

    def _remove_if_dead(self) -> None:
        holder = _read(self.path)
        age = _age(self.path)
        if age is None:
            return
        if holder is None and age < STALE:
            raise LockedError(
                f"{self.file} is locked by {self.path.name}, which does not say by whom. If nothing is writing, wait "
                f"{STALE:.0f} s or remove that file."
            )
        if holder is not None and _alive(holder, age):
            raise LockedError(
                f"{self.file} is being written by {holder.describe()}. Wait for it to finish, or stop it."
            )
        self._move_away(holder)

    def _move_away(self, dead: Holder | None) -> None:
        """Move the dead holder's lock aside; if another process has just done so and holds it now, put that back."""
        aside = self.path.with_name(f"{self.path.name}.{self._me.token}.dead")
        try:
            disk.system.replace(self.path, aside)
        except FileNotFoundError:
            return
        found = _read(aside)
        if found is not None and (dead is None or found.token != dead.token):
            with suppress(FileExistsError):
                disk.system.link(aside, self.path)
        else:
            self.taken_over = dead
        disk.remove(aside)

    def _sweep(self) -> None:
        """Remove what processes left that died while they were taking this lock."""
        for path in self.path.parent.glob(f"{glob.escape(self.path.name)}.*"):
            with suppress(OSError):  # another process may be sweeping too, and what stays holds nothing
                now = self.path.stat().st_mtime
                holder, age = _read(path), now - path.stat().st_mtime
                if age > STALE or (holder is not None and not _alive(holder, age)):
                    disk.remove(path)

    def _beat(self) -> None:
        while not self._stop.wait(BEAT):
            with suppress(OSError):  # `check` is what decides, before each write
                os.utime(self.path)


def _read(path: Path) -> Holder | None:
    """Return who a lock file names; None if it is not there or does not say."""
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(4096))
        texts = {k: str(found[k]) for k in ("started", "host", "space", "since", "token")}
        return Holder(pid=int(found["pid"]), **texts)
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _age(path: Path) -> float | None:
    """Seconds since a lock was refreshed, by the clock of the disk it lies on; None if it is gone."""
    probe = path.with_name(f"{path.name}.{uuid.uuid4().hex}.now")
    disk.create(probe, b"")
    try:
        return probe.stat().st_mtime - path.stat().st_mtime
    except FileNotFoundError:
        return None
    finally:
        with suppress(OSError):
            disk.remove(probe)


def _alive(holder: Holder, age: float) -> bool:
    me = Holder.me()
    if holder.space and (holder.host, holder.space) == (me.host, me.space):
        return bool(holder.started) and _started(holder.pid) == holder.started
    return age < STALE


def _started(pid: int) -> str:
    """Return when a process began, in clock ticks since boot; "" if it is gone or this system does not tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]  # a zombie writes nothing any more


def _space() -> str:
    """Boot and process space of this process, so that a process number means one thing only; "" if not told."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""
