"""A disk that fails at the k-th call, and one that forgets, when the power goes, what was not synced."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cxrfeat._store import disk


class PowerLoss(BaseException):
    """The machine is off: nothing more reaches the disk."""


class FaultyDisk(disk.System):
    """Counts every call that changes the disk; at call `at` it does something bad.

    Parameters
    ----------
    at : int
        Which call, from 0; -1 for never.
    error : int
        Fail with this errno; 0 for a power loss.
    torn : bool
        A write puts down half of its bytes before it fails.
    sticky : bool
        Every later call that could take space fails too: a full disk.
    """

    def __init__(self, at: int = -1, error: int = 0, torn: bool = False, sticky: bool = False) -> None:
        self.at, self.error, self.torn, self.sticky = at, error, torn, sticky
        self.calls: list[str] = []
        self.failed_at = ""
        self._off = False
        self._undo: dict[str, list[Callable[[], None]]] = {}  # per folder: what brings back the names as last synced
        self._synced: dict[str, bytes] = {}  # per file: its bytes when last synced
        self._files: dict[int, Path] = {}

    def open(self, path, flags):
        self._step("open", space=True)
        descriptor = super().open(path, flags)
        self._files[descriptor] = path
        self._synced[str(path)] = b""
        self._names(path, path.unlink)
        return descriptor

    def write(self, descriptor, data, offset):
        try:
            self._step("write", space=True)
        except BaseException:
            if self.torn:
                super().write(descriptor, data[: len(data) // 2], offset)
            raise
        return super().write(descriptor, data, offset)

    def truncate(self, descriptor, size):
        self._step("truncate", space=True)
        super().truncate(descriptor, size)

    def fsync(self, descriptor):
        self._step("fsync")
        super().fsync(descriptor)
        self._synced[str(self._files[descriptor])] = self._files[descriptor].read_bytes()

    def close(self, descriptor):
        self._files.pop(descriptor, None)
        super().close(descriptor)  # even when the machine is off: descriptors are ours, not the disk's
        if not self._off:
            self._step("close")

    def replace(self, source, target):
        self._step("replace")
        before = target.read_bytes() if target.exists() else None
        moved = self._synced.get(str(source), source.read_bytes())
        super().replace(source, target)
        self._synced[str(target)] = moved

        def undo():
            source.write_bytes(moved)
            target.unlink() if before is None else target.write_bytes(before)
            self._synced[str(target)] = before or b""

        self._names(target, undo)

    def link(self, source, target):
        self._step("link", space=True)
        super().link(source, target)
        self._synced[str(target)] = self._synced.get(str(source), b"")
        self._names(target, target.unlink)

    def unlink(self, path):
        self._step("unlink")
        data = path.read_bytes()
        super().unlink(path)
        self._names(path, lambda: path.write_bytes(data))

    def mkdir(self, path):
        self._step("mkdir", space=True)
        super().mkdir(path)
        self._names(path, lambda: shutil.rmtree(path))

    def rmdir(self, path):
        self._step("rmdir")
        super().rmdir(path)
        self._names(path, path.mkdir)

    def sync_folder(self, path):
        self._step("sync_folder")
        super().sync_folder(path)
        self._undo.pop(str(path), None)

    def lose_power(self, rng: np.random.Generator) -> None:
        """Leave on the disk what a power loss might: synced bytes surely, others torn, as zeros, or not at all."""
        for path, synced in self._synced.items():
            file = Path(path)
            if file.exists() and file.read_bytes() != synced:
                now = file.read_bytes()
                cut = int(rng.integers(len(now) + 1))
                choices = [synced, now[:cut], now[:cut] + bytes(len(now) - cut), now, bytes(len(now))]
                file.write_bytes(choices[int(rng.integers(len(choices)))])
        for folder, steps in self._undo.items():
            for step in steps[::-1][: int(rng.integers(len(steps) + 1))]:
                if Path(folder).is_dir():
                    step()

    def _names(self, path: Path, undo: Callable[[], None]) -> None:
        self._undo.setdefault(str(path.parent), []).append(undo)

    def _step(self, call: str, space: bool = False) -> None:
        if self._off:
            raise PowerLoss
        number = len(self.calls)
        self.calls.append(call)
        if number == self.at or (self.sticky and self.failed_at and space):
            self.failed_at = self.failed_at or call
            if not self.error:
                self._off = True
                raise PowerLoss
            raise OSError(self.error, os.strerror(self.error))
