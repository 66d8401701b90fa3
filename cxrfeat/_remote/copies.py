"""Local copies of tables and embedding files at addresses, and embedding files on their way to one.

A copy is in the user's cache folder, under a hash of its folder's address. Beside it is what the store said of the
object when it was copied; as long as it says the same, the copy is used as it is.
"""

from __future__ import annotations

import hashlib
import json
import logging
from contextlib import suppress
from pathlib import Path

from cxrfeat import _files as files
from cxrfeat import _machine as machine
from cxrfeat._remote import transfer
from cxrfeat._remote.address import Url
from cxrfeat._remote.transfer import Stat
from cxrfeat.errors import NotFoundError, StorageError

_log = logging.getLogger(__name__)


def fetch(url: Url, new: bool = False) -> Path:
    """Return an up-to-date local copy of an object; with `new`, where one will be written if there is none yet.

    A copy that was changed here is not replaced: it is what an upload could not finish, or goes on where it stopped.
    """
    copy, now = copy_of(url), transfer.stat([url])[0]
    then, own = _read(copy)
    changed = copy.exists() and own != _state(copy)
    if now is None:
        if new:
            return copy
        raise NotFoundError(f"there is no file {url}.")
    if copy.exists() and now == then and now.tag:
        if changed and not new:
            _log.warning("%s is read from %s, which is newer: `cxrfeat extract` did not finish writing it.", url, copy)
        return copy
    if changed:
        raise StorageError(
            f"{url} and its copy {copy} were both written since they were the same. Name another output, or remove the "
            "copy to go on from what is at the address."
        )
    _log.info("%s: %s", url, "copied" if now.size < 0 else f"copied ({now.size:,} bytes)")
    with files.atomic_path(copy) as part:
        part.touch()
        transfer.download(url, part)
    _write(copy, now)
    return copy


def publish(url: Url) -> None:
    """Write the local copy to its address, unless it is there already."""
    copy = copy_of(url)
    then, own = _read(copy)
    if then is not None and own == _state(copy):
        return
    _write(copy, transfer.upload(copy, url, then))
    _log.info("%s: written (%d bytes)", url, copy.stat().st_size)


def copy_of(url: Url) -> Path:
    """Where the local copy of an object is; files of one folder have theirs in one folder."""
    folder = hashlib.sha256(url.parent.address.encode()).hexdigest()[:16]
    return _folder() / folder / url.name


def _folder() -> Path:
    return machine.cache_folder() / "remote"


def _about(copy: Path) -> Path:
    return copy.with_name(f"{copy.name}.remote.json")


def _state(copy: Path) -> tuple[int, int]:
    found = copy.stat()
    return found.st_size, found.st_mtime_ns


def _read(copy: Path) -> tuple[Stat | None, tuple[int, int] | None]:
    """What the store said of the object when the copy was the same, and what the copy was then."""
    with suppress(OSError, ValueError, TypeError, KeyError, RecursionError):
        found = json.loads(_about(copy).read_text(encoding="utf-8"))
        return Stat(int(found["size"]), str(found["tag"])), (int(found["copy"][0]), int(found["copy"][1]))
    return None, None


def _write(copy: Path, now: Stat) -> None:
    files.write_atomically(_about(copy), json.dumps({"size": now.size, "tag": now.tag, "copy": _state(copy)}) + "\n")
