"""Hashes of files whose publisher states none: what was fetched first is what every later file must be."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from cxrfeat import _files as files
from cxrfeat._backbones import library

_log = logging.getLogger(__name__)


def _place() -> Path:
    return library.folder() / "pins.json"


def pinned(name: str) -> str:
    """The hash of a file's first version here, as `sha256:...`; empty if there has been none."""
    found = files.read_json(_place()).get(name)
    return found if isinstance(found, str) and found.startswith("sha256:") else ""


def pin(name: str, path: Path) -> None:
    """Keep the hash of a file that was used for the first time, with a warning."""
    sha256 = f"sha256:{files.sha256(path)}"
    _log.warning(
        "nobody has published a hash of %s: it is taken as it was found, and pinned. Compare %s with another source.",
        name, sha256,
    )  # fmt: skip
    keep(name, sha256)


def keep(name: str, sha256: str) -> None:
    """Keep the hash of a file, `sha256:...`, unless there is one already."""
    known = files.read_json(_place())
    if name not in known:
        files.write_atomically(_place(), json.dumps(known | {name: sha256}, indent=1, sort_keys=True) + "\n")
