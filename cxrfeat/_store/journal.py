"""The journal of an extraction: segments beside the embedding file until their rows are published.

A segment is a NumPy archive (`.npz`, nothing compressed, nothing pickled) named `<number>-<SHA-256 of its bytes>.npz`:
one whose name and bytes disagree was cut or damaged, and is not used. Where workers of a cluster write the rows
themselves, a segment is a Parquet shard, checked by the hashes in it and its name is any.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import uuid
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cxrfeat._recipe import Recipe
from cxrfeat._store import disk, names
from cxrfeat._store.lock import Lock
from cxrfeat._store.rows import Failure, Header, Rows, checked, decode_texts
from cxrfeat.errors import EmbeddingFileError, RecipeError

_NAME = re.compile(r"(\d{6,})-([0-9a-f]{64}|[0-9a-f]{32})\.(npz|parquet|(?:[0-9a-f]+\.)?tmp)")
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Segment:
    """Durable rows: what is small of them is kept, and their embeddings are read again when they are needed."""

    path: Path
    ids: npt.NDArray[np.bytes_]
    image_sha256: npt.NDArray[np.uint8]
    failures: Sequence[Failure]
    provenance: str

    def __len__(self) -> int:
        return len(self.ids)

    def load(self) -> Rows:
        """Read the rows, checked again."""
        return _read(self.path)[1]


class Journal:
    """What keeps the rows of one embedding file until they are published; of two rows with one id, the later counts."""

    def __init__(self, file: Path) -> None:
        self.folder = names.journal(file)

    def find(self, recipe: Recipe, dim: int) -> tuple[list[Segment], list[Path]]:
        """Return the sound segments, oldest first, and the files that are damaged or unfinished."""
        sound, broken = [], []
        for path in self._files():
            try:
                head, rows = _read(path)
            except EmbeddingFileError:
                broken.append(path)
                continue
            made_by = Recipe.from_json(head["recipe"])
            if made_by != recipe:
                raise RecipeError(
                    f"{self.folder} holds an unfinished extraction by another recipe ({made_by.difference(recipe)}). "
                    "Finish that one, remove the folder, or name another file with `out`."
                )
            if rows.embeddings.shape[2] != dim:
                broken.append(path)
                continue
            failures = tuple((str(i), str(p), str(r)) for i, p, r in head["failures"])
            sound.append(Segment(path, rows.ids, rows.image_sha256, failures, str(head.get("provenance", ""))))
        return sound, broken

    def shards(self, lock: Lock) -> Shards:
        """Where the workers of the lock's holder write segments, as their pickles take it there."""
        self._make_folder()
        return Shards(lock.file.absolute(), lock.token, self._next())

    def take(self, path: Path, ids: npt.NDArray[np.bytes_], image_sha256: npt.NDArray[np.uint8]) -> Segment:
        """Return the segment of a shard that was just written elsewhere, of which these are known; it must be there."""
        here = self.folder / path.name
        if not here.is_file():
            raise EmbeddingFileError(
                f"{path} was written, and is not in {self.folder} on this machine: the folder of `out` must be on a "
                "disk that all nodes of the cluster share."
            )
        return Segment(here, ids, image_sha256, (), "")

    def write(self, lock: Lock, recipe: Recipe, provenance: str, rows: Rows, failures: Sequence[Failure]) -> Segment:
        """Write a segment: complete under a temporary name, on the disk, and only then under its own."""
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
        # Not getbuffer(): where writing fails, its view is left in a cycle with the traceback, and CPython 3.12.1
        # crashes when it collects such a view (python/cpython#111211).
        data = buffer.getvalue()
        self._make_folder()
        path = self.folder / f"{self._next():06d}-{hashlib.sha256(data).hexdigest()}.npz"
        draft = path.with_suffix(f".{lock.token}.tmp")
        disk.remove(draft)
        with lock.publishing(draft, path):
            disk.create(draft, [data])
        return Segment(path, rows.ids, rows.image_sha256, failures, provenance)

    def clear(self) -> None:
        """Remove every segment: what was taken is published, and a shard that was not is of a batch done twice."""
        self.remove(self._files())

    def remove(self, paths: Sequence[Path]) -> None:
        """Remove segments, and the folder when it is empty."""
        for path in paths:
            disk.remove(path)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            disk.system.rmdir(self.folder)
            disk.system.sync_folder(self.folder.parent)

    def _make_folder(self) -> None:
        if not self.folder.is_dir():
            disk.system.mkdir(self.folder)
            disk.system.sync_folder(self.folder.parent)

    def _next(self) -> int:
        return 1 + max((_number(path) for path in self._files()), default=0)

    def _files(self) -> list[Path]:
        paths = [p for p in self.folder.iterdir() if _NAME.fullmatch(p.name)] if self.folder.is_dir() else []
        return sorted(paths, key=lambda path: (_number(path), path.name))


@dataclass(frozen=True)
class Shards:
    """The journal of `file`, for a worker elsewhere of the process that holds its lock with `token`."""

    file: Path
    token: str
    number: int

    def check(self) -> None:
        """Raise an EmbeddingFileError unless this machine sees the journal, and the lock is still held."""
        if not names.lock(self.file).exists():
            raise EmbeddingFileError(
                f"{names.lock(self.file)} is not there: {self.file.parent} must be on a disk that all nodes of the "
                "cluster share, or the extraction has ended."
            )
        Lock.of(self.file, self.token).check()

    def write(self, recipe: Recipe, provenance: str, rows: Rows) -> Path:
        """Write a shard: complete under a draft's name, on the disk, and then under its own, if the lock is held.

        Values are checked and rounded as `Writer.append` does.
        """
        from cxrfeat._store import parquet

        embeddings = checked(decode_texts(rows.ids).tolist(), rows.embeddings, recipe.storage)
        path = names.journal(self.file) / f"{self.number:06d}-{uuid.uuid4().hex}.parquet"
        draft, lock = path.with_suffix(f".{self.token}.tmp"), Lock.of(self.file, self.token)
        header = Header(recipe.to_json(), provenance, embeddings.shape, rows.ids, rows.image_sha256, ())
        with lock.writing(), lock.publishing(draft, path):
            parquet.write(draft, header, [embeddings])
        return path


def _number(path: Path) -> int:
    return int(path.name.partition("-")[0])


def _read(path: Path) -> tuple[dict[str, Any], Rows]:
    """Return what a segment says of itself and its rows; nothing is taken from one whose name is not its hash."""
    match = _NAME.fullmatch(path.name)
    if match is None or match[3] not in ("npz", "parquet"):
        raise EmbeddingFileError(f"{path} is unfinished.")
    if match[3] == "parquet":
        return _read_shard(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise EmbeddingFileError(f"cannot read {path}: {error.strerror or error}.") from error
    if hashlib.sha256(data).hexdigest() != match[2]:
        raise EmbeddingFileError(f"{path} is damaged: its name is not the SHA-256 of its bytes.")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise EmbeddingFileError(f"{path} is not a journal segment of cxrfeat: it is compressed.")
        with np.load(io.BytesIO(data), allow_pickle=False) as found:
            head = json.loads(found["head"].tobytes())
            rows = Rows(found["image_id"], found["image_sha256"], found["embeddings"])
        if head["format_version"] != FORMAT_VERSION or list(rows.embeddings.shape) != head["shape"]:
            raise EmbeddingFileError(f"{path} is a journal segment of another version of cxrfeat.")
    except (ValueError, KeyError, TypeError, RecursionError, zipfile.BadZipFile) as error:
        raise EmbeddingFileError(f"{path} is damaged: {error}.") from error
    return head, rows


def _read_shard(path: Path) -> tuple[dict[str, Any], Rows]:
    from cxrfeat._store.embedding_file import EmbeddingFile

    with EmbeddingFile(path) as file:
        header, embeddings = file.header, file.read(passes=range(file.passes))
    head = {"recipe": header.recipe, "provenance": header.provenance, "failures": header.failures}
    return head, Rows(header.ids, header.image_sha256, embeddings)
