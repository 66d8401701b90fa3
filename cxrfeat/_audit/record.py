"""That a study was checked for copies, kept in the project, so that what is trained on it can say so.

A record has a hash of every image id with its patient, and the pairs found: it holds for any part of the study, however
it is split, and no longer if an image or a patient was added or changed.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cxrfeat._files import write_atomically
from cxrfeat._project import STUDIES
from cxrfeat._study import Study

_log = logging.getLogger(__name__)

FORMAT, VERSION = "cxrfeat-leak-check", 1


def folder(study: Study) -> Path:
    """The folder of what was found in a study of this name."""
    return STUDIES / f"{study.name}.leaks"


def write(study: Study, pairs: list[tuple[str, str]], about: dict[str, Any]) -> Path:
    """Record that a study was checked, and which pairs of images of two patients are copies."""
    found = {
        "format": FORMAT,
        "format_version": VERSION,
        "study": study.name,
        "study_sha256": study.sha256,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        **about,
        "pairs": pairs,
        "images": base64.b64encode(_hashes(study).tobytes()).decode(),
    }
    return write_atomically(folder(study) / "leaks.json", json.dumps(found, indent=1) + "\n")


def remind(study: Study) -> None:
    """Log that a study was never checked, or which copies of another patient's image are still in another split."""
    try:
        found = json.loads((folder(study) / "leaks.json").read_text(encoding="utf-8"))
        known = np.frombuffer(base64.b64decode(found["images"]), np.uint64)
        checked = found["format"] == FORMAT and bool(np.isin(_hashes(study), known).all())
        pairs = [(str(a), str(b)) for a, b in found["pairs"]] if checked else []
    except (OSError, ValueError, TypeError, KeyError):  # missing, damaged, or another tool's
        checked, pairs = False, []
    if not checked:
        _log.info(
            "study %r was not checked for copies of one image under two patients; `cxrfeat study leaks` does it.",
            study.name,
        )
    split = dict(zip(study.table["image_id"], study.table["split"], strict=True))
    apart = [(a, b) for a, b in pairs if a in split and b in split and split[a] != split[b]]
    if apart:
        _log.warning(
            "leakage in study %r: %d pairs of copies are in two splits, such as %s and %s; %s lists them.",
            study.name, len(apart), *apart[0], folder(study) / "drop.txt",
        )  # fmt: skip


def _hashes(study: Study) -> npt.NDArray[np.uint64]:
    """Sorted 64-bit hashes of every image id with its patient."""
    rows = zip(study.table["image_id"], study.table["patient_id"], strict=True)
    digests = b"".join(hashlib.blake2b(f"{i}\x1f{p}".encode(), digest_size=8).digest() for i, p in rows)
    return np.sort(np.frombuffer(digests, "<u8").astype(np.uint64))
