"""Every call by which the store changes the disk: one small class, so that a test can fail or cut any of them.

Nothing else in the store opens a file for writing, syncs, renames or removes. `system` is the one in use; the fault
tests put another in its place (tests/faults), which counts the calls, fails the k-th with a full disk, or pretends
that the power went at that instant.
"""

from __future__ import annotations

import errno
import io
import os
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from cxrfeat import _files as files
from cxrfeat.errors import CxrfeatError, EmbeddingFileError

_BINARY = getattr(os, "O_BINARY", 0)  # Windows would translate line ends without it
CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | _BINARY


class System:
    """The operating system, as the store uses it: descriptors, `Path`s, and `write` at an offset."""

    truncate = staticmethod(os.ftruncate)
    fsync = staticmethod(os.fsync)
    close = staticmethod(os.close)
    replace = staticmethod(os.replace)
    link = staticmethod(os.link)
    unlink = staticmethod(os.unlink)
    mkdir = staticmethod(os.mkdir)
    rmdir = staticmethod(os.rmdir)
    sync_folder = staticmethod(files.sync_folder)

    def open(self, path: Path, flags: int) -> int:
        """Open for writing; returns the descriptor."""
        return os.open(path, flags, 0o666)

    def write(self, descriptor: int, data: Any, offset: int) -> int:
        """Write at `offset`; returns how many bytes went down, which may be fewer."""
        os.lseek(descriptor, offset, os.SEEK_SET)
        return os.write(descriptor, data)


system = System()


class DiskFile(io.FileIO):
    """A new file for h5py to write to, whose every change goes through `system`.

    HDF5 does not survive a write that fails: it keeps the dirty page and fails again when closing, up to a crash at
    interpreter exit. So the first failure is kept, what follows is swallowed, and `check` raises it: the file is
    thrown away in any case.
    """

    def __init__(self, path: Path) -> None:
        self.failure: BaseException | None = None
        super().__init__(system.open(path, CREATE), "r+", closefd=False)

    def write(self, data: Any) -> int:
        """Write at the place; never raises."""
        view, at = memoryview(data).cast("B"), self.tell()
        self._try(write_all, view, at)
        self.seek(at + len(view))
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        """Cut or grow; never raises."""
        size = self.tell() if size is None else size
        self._try(system.truncate, size)
        return size

    def _try(self, call: Callable[..., None], *arguments: Any) -> None:
        if self.failure is None:
            try:
                call(self.fileno(), *arguments)
            except BaseException as failure:  # Ctrl-C too: it must not pass through HDF5
                self.failure = failure

    def check(self) -> None:
        """Raise the first failure, if there was one."""
        if self.failure is not None:
            raise self.failure

    def sync(self) -> None:
        """Bring everything to the disk."""
        self.check()
        system.fsync(self.fileno())

    def close(self) -> None:
        """Close the file; what was not synced may be lost."""
        if not self.closed:
            system.close(self.fileno())
        super().close()


def write_all(descriptor: int, data: Any, offset: int = 0) -> None:
    """Write all of `data`, however many calls it takes."""
    view = memoryview(data).cast("B")
    done = 0
    while done < len(view):
        count = system.write(descriptor, view[done : done + (1 << 20)], offset + done)
        if count <= 0:
            raise OSError(errno.EIO, "a write wrote nothing")
        done += count


def create(path: Path, parts: Iterable[bytes]) -> None:
    """Write a new file and bring it to the disk; its name is durable only after `system.sync_folder`."""
    descriptor, size = system.open(path, CREATE), 0
    try:
        for part in parts:
            write_all(descriptor, part, size)
            size += len(part)
        system.fsync(descriptor)
    finally:
        system.close(descriptor)


def link(source: Path, target: Path) -> None:
    """Give a file a second name; where that cannot be, copy it, durably and whole or not at all."""
    try:
        system.link(source, target)
        return
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EEXIST, errno.EROFS):
            raise
    draft = target.with_name(f"{target.name}.{uuid.uuid4().hex}.part")
    try:
        with source.open("rb") as file:
            create(draft, iter(partial(file.read, 1 << 20), b""))
    except BaseException:
        remove(draft)
        raise
    system.replace(draft, target)


def remove(path: Path) -> None:
    """Remove a file if it is there."""
    with suppress(FileNotFoundError):
        system.unlink(path)


@contextmanager
def telling(path: Path, safe: str = "") -> Iterator[None]:
    """Turn an OSError into a sentence that says what could not be written and what is safe."""
    try:
        yield
    except CxrfeatError:  # some are OSErrors, and have their sentence already
        raise
    except OSError as error:
        what = os.strerror(error.errno) if error.errno else str(error)
        advice = {
            errno.ENOSPC: "Free some space",
            errno.EDQUOT: "Free some space",
            errno.EACCES: "Make the folder writable, or name another with `out`",
            errno.EROFS: "Name a folder that can be written with `out`",
        }.get(error.errno or 0, "Check the disk")
        raise EmbeddingFileError(
            f"cannot write {path}: {what}. {safe}{advice} and run the same command again."
        ) from error


def make_folders(folder: Path) -> None:
    """Make a folder and those above it, durably."""
    if not folder.is_dir():
        make_folders(folder.parent)
        system.mkdir(folder)
        system.sync_folder(folder.parent)
