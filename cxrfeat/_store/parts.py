"""The journal of an extraction: each part is a small file that is whole or not there, and says so itself.

A part is a NumPy archive (`.npz`, nothing compressed, nothing pickled) named `<number>-<SHA-256 of its bytes>.npz`: one
whose name and bytes disagree was cut or damaged, and is not used. Parts lie in `<file>.parts/` until the embedding file
that holds their rows is published. Of two rows with one id, the one in the later part counts.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cxrfeat._recipe import Recipe
from cxrfeat._store import disk
from cxrfeat._store.layout import Failure, Rows
from cxrfeat._store.lock import Lock
from cxrfeat.errors import EmbeddingFileError, RecipeError

_NAME = re.compile(r"(\d{6,})-([0-9a-f]{64})\.(npz|(?:[0-9a-f]+\.)?tmp)")
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Part:
    """A sound part, without its embeddings: they are read again when they are needed.

    Attributes
    ----------
    path : pathlib.Path
        The file.
    rows : Rows
        Ids and image hashes; `embeddings` has no rows.
    failures : sequence of (image_id, path, reason)
        Images that could not be used.
    provenance : str
        JSON of the session that wrote it.
    """

    path: Path
    rows: Rows
    failures: Sequence[Failure]
    provenance: str


def folder(file: Path) -> Path:
    """Where the parts of an embedding file lie."""
    return file.with_name(file.name + ".parts")


def write(
    file: Path, lock: Lock, number: int, recipe: Recipe, provenance: str, rows: Rows, failures: Sequence[Failure]
) -> Part:
    """Write one part: complete under a temporary name, on the disk, and only then under its own."""
    passes, _, dim = rows.embeddings.shape
    head = {
        "format_version": FORMAT_VERSION,
        "recipe": recipe.to_json(),
        "provenance": provenance,
        "shape": [passes, len(rows), dim],
        "failures": [list(row) for row in failures],
    }
    buffer = io.BytesIO()
    np.savez(
        buffer,
        allow_pickle=False,
        head=np.frombuffer(json.dumps(head).encode(), dtype=np.uint8),
        image_id=rows.ids,
        image_sha256=rows.image_sha256,
        embeddings=rows.embeddings,
    )
    # Not getbuffer(): where writing fails, its view is left in a cycle with the traceback, and CPython 3.12.1 crashes
    # when it collects such a view (python/cpython#111211).
    data = buffer.getvalue()
    where = folder(file)
    if not where.is_dir():
        disk.system.mkdir(where)
        disk.system.sync_folder(where.parent)
    path = where / f"{number:06d}-{hashlib.sha256(data).hexdigest()}.npz"
    draft = path.with_suffix(f".{lock.token}.tmp")
    disk.remove(draft)
    disk.create(draft, data)
    lock.publish(draft, path)
    disk.system.sync_folder(where)
    return Part(path, _without_embeddings(rows), tuple(failures), provenance)


def join(pending: Sequence[Rows], passes: int, dim: int) -> Rows:
    """Put batches of rows together; without any, rows of that shape and none of them."""
    if not pending:
        return Rows(np.empty(0, "S1"), np.empty((0, 32), np.uint8), np.empty((passes, 0, dim), np.float32))
    return Rows(
        np.concatenate([rows.ids for rows in pending]),
        np.concatenate([rows.image_sha256 for rows in pending]),
        np.concatenate([rows.embeddings for rows in pending], axis=1),
    )


def find(file: Path, recipe: Recipe, dim: int) -> tuple[list[Part], list[Path]]:
    """Read what an interrupted extraction left.

    Returns
    -------
    list of Part, list of Path
        The sound parts, oldest first, and files that are damaged or unfinished.

    Raises
    ------
    RecipeError
        If a sound part was made by another recipe.
    """
    sound, broken = [], []
    where = folder(file)
    paths = [p for p in where.iterdir() if _NAME.fullmatch(p.name)] if where.is_dir() else []
    for path in sorted(paths, key=_number):
        if path.name.endswith(".tmp"):
            broken.append(path)
            continue
        try:
            head, rows = _read(path)
        except EmbeddingFileError:
            broken.append(path)
            continue
        made_by = Recipe.from_json(head["recipe"])
        if made_by != recipe:
            raise RecipeError(
                f"{where} holds an unfinished extraction by another recipe ({made_by.difference(recipe)}). "
                "Finish that one, remove the folder, or name another file with -o."
            )
        if rows.embeddings.shape[2] != dim:
            broken.append(path)
            continue
        failures = tuple((str(i), str(p), str(r)) for i, p, r in head["failures"])
        sound.append(Part(path, _without_embeddings(rows), failures, str(head.get("provenance", ""))))
    return sound, broken


def load(part: Part) -> Rows:
    """Return a part's rows with their embeddings; its hash is checked again.

    Raises
    ------
    EmbeddingFileError
        If it is damaged.
    """
    return _read(part.path)[1]


def next_number(file: Path) -> int:
    """Return a number higher than that of every part there is."""
    where = folder(file)
    return 1 + max((_number(path) for path in where.iterdir()), default=0) if where.is_dir() else 1


def remove(file: Path, paths: Sequence[Path]) -> None:
    """Remove parts, and their folder when it is empty."""
    where = folder(file)
    for path in paths:
        disk.remove(path)
    if where.is_dir() and not any(where.iterdir()):
        disk.system.rmdir(where)
        disk.system.sync_folder(where.parent)


def _number(path: Path) -> int:
    match = _NAME.fullmatch(path.name)
    return int(match[1]) if match else 0


def _without_embeddings(rows: Rows) -> Rows:
    return Rows(rows.ids, rows.image_sha256, rows.embeddings[:, :0].copy())


def _read(path: Path) -> tuple[dict[str, Any], Rows]:
    """Return what a part says of itself and its rows; nothing is taken from one whose name is not its hash."""
    match = _NAME.fullmatch(path.name)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise EmbeddingFileError(f"cannot read {path}: {error.strerror or error}.") from error
    if match is None or hashlib.sha256(data).hexdigest() != match[2]:
        raise EmbeddingFileError(f"{path} is damaged: its name is not the SHA-256 of its bytes.")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise EmbeddingFileError(f"{path} is not a part that cxrfeat wrote: it is compressed.")
        with np.load(io.BytesIO(data), allow_pickle=False) as found:
            head = json.loads(found["head"].tobytes())
            rows = Rows(found["image_id"], found["image_sha256"], found["embeddings"])
        if head["format_version"] != FORMAT_VERSION or list(rows.embeddings.shape) != head["shape"]:
            raise EmbeddingFileError(f"{path} is a part of another version of cxrfeat.")
    except (ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise EmbeddingFileError(f"{path} is damaged: {error}.") from error
    return head, rows
