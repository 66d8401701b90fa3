"""One writer per embedding file: a lease that needs no locking file system, and says who holds it.

The lock is a file beside the embedding file, `<file>.lock`, a `filelock.SoftFileLease`: created exclusively, refreshed
by its holder every `BEAT` seconds, and named by a token. A holder whose process is gone from this machine is dead at
once. Any holder that has not refreshed its lease for `STALE` seconds has lost it, even if its process is only stopped:
it finds another token before its next write, and stops. Ages are measured against a file just made on the same disk,
so the clocks of two machines are never compared.

filelock takes over a dead holder's file by exchanging two names, which NFS and SMB cannot. There, and where a lease ran
out, the file is moved aside here, and put back if it is not the dead holder's.
"""

from __future__ import annotations

import glob
import os
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from filelock import LeaseSettingsMismatch, SoftFileLease, Timeout

from cxrfeat._store import disk, names
from cxrfeat.errors import LockedError

BEAT, STALE = 10.0, 120.0  # seconds
SILENT = 2.0  # seconds after which a lock that is still empty is that of a process killed while it made it
_TRIES, _PAUSE = 5, 0.05  # looks at a holder that may be leaving, and seconds between them


@dataclass(frozen=True)
class Holder:
    """Who holds a lock: process, host as filelock writes it, when it was taken (ISO 8601, UTC), and the token."""

    pid: int
    host: str
    since: str
    token: str

    def describe(self) -> str:
        """A few words for messages."""
        since = f", since {self.since}" if self.since else ""
        return f"process {self.pid} on {self.host.partition('?')[0]}{since}"


class Lock:
    """The lock of one embedding file, held from `acquire` to `release`; `token` names this hold."""

    def __init__(self, file: Path) -> None:
        self.file, self.path = file, names.lock(file)
        self.taken_over: Holder | None = None
        self.token = ""
        self._lease = SoftFileLease(self.path, lease_duration=STALE, heartbeat_interval=BEAT, thread_local=False)

    @classmethod
    def of(cls, file: Path, token: str) -> Lock:
        """Return the lock that another process holds, for a worker of that process: to check it, not to release it."""
        lock = cls(file)
        lock.token = token
        return lock

    def __enter__(self) -> Lock:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def acquire(self) -> None:
        """Take the lock, from a dead holder if need be; raise a LockedError if a living process holds it."""
        with disk.telling(self.path):
            disk.make_folders(self.path.parent)
            for attempt in range(_TRIES):
                before = _read(self.path)
                with suppress(Timeout, LeaseSettingsMismatch):
                    self._lease.acquire(blocking=False)
                    self._taken_from(before)
                    return
                self._remove_if_dead(patient=attempt < _TRIES - 2)
                time.sleep(_PAUSE)
        raise LockedError(f"{self.file} is being written by another process; try again.")

    def check(self) -> None:
        """Raise a LockedError if the lock was taken over: this process was thought dead."""
        for _ in range(_TRIES):  # a process that takes over another's may move this one aside for an instant
            holder = _read(self.path)
            if holder is not None and holder.token == self.token:
                return
            time.sleep(_PAUSE)
        who = f" and is now held by {holder.describe()}" if holder else ""
        raise LockedError(
            f"the lock on {self.file} was taken from this process, which had not refreshed it for {STALE:.0f} s{who}. "
            "Finished rows are safe; run the same command again."
        )

    @contextmanager
    def publishing(self, draft: Path, target: Path) -> Iterator[None]:
        """Give what the block writes to a draft its name, durably, if the lock is still held; else remove it.

        Drafts carry the token, and who takes the lock removes the drafts of others first: a process that is stopped
        between the check and the rename finds its draft gone.
        """
        try:
            yield
            self.check()
            disk.system.replace(draft, target)
        except BaseException:
            with suppress(OSError):  # it is removed before the next attempt in any case
                disk.remove(draft)
            raise
        disk.system.sync_folder(target.parent)

    @contextmanager
    def writing(self, safe: str = "") -> Iterator[None]:
        """Turn an OSError into a sentence: that the lock was lost, else what could not be written and what is safe."""
        self.check()
        with disk.telling(self.file, safe):
            try:
                yield
            except OSError:
                self.check()
                raise

    def release(self) -> None:
        """Give the lock up."""
        with suppress(OSError):  # a lock that cannot be removed is a dead holder's at the next open
            self._lease.release(force=True)

    def _taken_from(self, before: Holder | None) -> None:
        self.taken_over = self.taken_over or before
        self.token = self._lease.token or ""
        with suppress(OSError), self.path.open("ab") as file:  # for messages alone; filelock passes it over
            file.write(f"since={datetime.now(UTC).isoformat(timespec='seconds')}\n".encode())
        for path in self.path.parent.glob(f"{glob.escape(self.path.name)}.*"):  # left by processes that died in here
            with suppress(OSError):
                holder, age = _read(path), self.path.stat().st_mtime - path.stat().st_mtime
                if age > STALE or (holder is not None and _is_gone(holder)):
                    disk.remove(path)

    def _remove_if_dead(self, patient: bool) -> None:
        holder, age = _read(self.path), _age(self.path)
        if age is None:
            return
        gone = holder is not None and _is_gone(holder)
        if silent := holder is None and _is_empty(self.path):
            time.sleep(max(0.0, SILENT - age))
        if gone and patient:
            return  # filelock takes it over, or another process is just doing so
        if gone or silent or age >= STALE:
            self._move_aside(holder)
        elif holder is None:
            raise LockedError(
                f"{self.file} is locked by {self.path.name}, which does not say by whom. If nothing is writing, wait "
                f"{STALE:.0f} s or remove that file."
            )
        else:
            raise LockedError(
                f"{self.file} is being written by {holder.describe()}. Wait for it to finish, or stop it."
            )

    def _move_aside(self, dead: Holder | None) -> None:
        """Move the dead holder's lock away; if another process has just taken it over, put that one's back."""
        aside = self.path.with_name(f"{self.path.name}.{uuid.uuid4().hex}.dead")
        try:
            disk.system.replace(self.path, aside)
        except FileNotFoundError:
            return
        found = _read(aside)
        if found is not None and (dead is None or found.token != dead.token):
            with suppress(FileExistsError):
                try:
                    disk.system.link(aside, self.path)
                except PermissionError:  # no hard links here
                    disk.system.replace(aside, self.path)
        else:
            self.taken_over = dead
        disk.remove(aside)


def _read(path: Path) -> Holder | None:
    """Return who a lock file names; None if it is not there or does not say."""
    try:
        with path.open("rb") as file:
            lines = file.read(4096).decode().splitlines()
        found = dict(line.split("=", 1) for line in lines[1:])
        return Holder(int(found["pid"]), found["host"], found.get("since", ""), found["token"])
    except (OSError, ValueError, KeyError):
        return None


def _age(path: Path) -> float | None:
    """Seconds since a lock was refreshed, by the clock of the disk it lies on; None if it is gone."""
    probe = path.with_name(f"{path.name}.{uuid.uuid4().hex}.now")
    disk.create(probe, [])
    try:
        return probe.stat().st_mtime - path.stat().st_mtime
    except FileNotFoundError:
        return None
    finally:
        with suppress(OSError):
            disk.remove(probe)


def _is_empty(path: Path) -> bool:
    with suppress(OSError):
        return path.stat().st_size == 0
    return False


def _is_gone(holder: Holder) -> bool:
    """Whether a holder is a process of this machine, and no longer there."""
    if holder.host != _this_host():
        return False
    with suppress(PermissionError):  # another user's
        try:
            os.kill(holder.pid, 0)
        except ProcessLookupError:
            return True
    return False


@cache
def _this_host() -> str:
    """Return the name that filelock gives this machine or container."""
    with tempfile.TemporaryDirectory() as folder, SoftFileLease(Path(folder) / "lock") as lease:
        return lease.owner.hostname if lease.owner else ""
