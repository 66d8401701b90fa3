"""What is kept in the user's cache folder and can be made again: believed only while its hashes are right."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock

from cxrfeat import _files as files
from cxrfeat import _machine as machine

_log = logging.getLogger(__name__)

COMPILED = "compiled"
"""Folder, within an export, of what the engine keeps of its own compiling."""


def folder(name: str, make: Callable[[Path], dict[str, Any]]) -> Path:
    """Return a kept folder under `engines/`, making it if it is missing or damaged.

    `make` writes the files into the empty folder it is given, and returns what `meta.json` says besides their hashes.
    """
    place = _engines() / name
    if _sound(place):
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(place.with_name(f".{name}.lock")):  # a second process waits for what the first one makes
        if not _sound(place):
            made = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=place.parent))
            try:
                fill(made, make)
                discard(place)
                made.rename(place)
            finally:
                shutil.rmtree(made, ignore_errors=True)
    return place


def fill(place: Path, make: Callable[[Path], dict[str, Any]]) -> Path:
    """Make a folder's files and their `meta.json`; see `folder`."""
    meta = make(place)
    hashes = {path.name: files.sha256(path) for path in sorted(place.iterdir())}
    files.write_atomically(place / "meta.json", json.dumps({**meta, "sha256": hashes}, indent=1))
    return place


def discard(place: Path) -> None:
    """Remove a kept folder that is damaged, and say so."""
    if place.exists():
        _log.warning("the kept network %s is damaged and is made again.", place.name)
        shutil.rmtree(place)


def value(name: str, make: Callable[[], Any]) -> Any:
    """Return a kept value that JSON can hold, making it if it is missing or damaged; `name` is its file's."""
    path = machine.cache_folder() / f"{name}.json"
    try:
        found = json.loads(path.read_text())
        if found["sha256"] == _digest(found["value"]):
            return found["value"]
    except (OSError, ValueError, KeyError, TypeError):
        pass
    made = make()
    files.write_atomically(path, json.dumps({"value": made, "sha256": _digest(made)}))
    return made


def drop_damaged(place: Path) -> None:
    """Remove what the engine compiled where it is not what `note_compiled` saw."""
    known = _compiled_hashes(place)
    for path in _compiled(place):
        if known.get(path.name) != files.sha256(path):
            if path.name in known:
                _log.warning("what was compiled of %s is damaged and is compiled again.", place.name)
            path.unlink(missing_ok=True)


def note_compiled(place: Path) -> None:
    """Keep the hashes of what the engine compiled."""
    known = _compiled_hashes(place)
    if {path.name for path in _compiled(place)} - set(known):
        hashes = {path.name: files.sha256(path) for path in _compiled(place)}
        files.write_atomically(place / f"{COMPILED}.json", json.dumps(hashes, indent=1))


def exports() -> Iterator[dict[str, Any]]:
    """The networks that are kept: folder, backbone, weights, size in bytes, time of making, whether sound."""
    for place in sorted(path for path in _engines().glob("*") if path.is_dir()):
        meta = _meta(place)
        yield {
            "network": place.name,
            "backbone": meta.get("backbone"),
            "weights": meta.get("weights"),
            "input": meta.get("size"),
            "bytes": sum(path.stat().st_size for path in place.rglob("*") if path.is_file()),
            "modified": place.stat().st_mtime,
            "sound": _sound(place),
            "folder": place,
        }


def _engines() -> Path:
    return machine.cache_folder() / "engines"


def _compiled(place: Path) -> list[Path]:
    return sorted(path for path in (place / COMPILED).glob("*") if path.is_file())


def _compiled_hashes(place: Path) -> dict[str, str]:
    try:
        return dict(json.loads((place / f"{COMPILED}.json").read_text()))
    except (OSError, ValueError, TypeError):
        return {}


def _meta(place: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((place / "meta.json").read_text()))
    except (OSError, ValueError, TypeError):
        return {}


def _sound(place: Path) -> bool:
    try:
        hashes = _meta(place)["sha256"].items()
        return all(files.sha256(place / name) == sha256 for name, sha256 in hashes)
    except (OSError, KeyError, AttributeError):
        return False


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
