"""The image manifest: what the image files were when they were embedded, so that 112,120 need no second reading.

Kept beside the embedding file as `<file>.seen`, not in it: it is true of one machine only, can be deleted at any time,
and is made again by hashing. A file is unchanged if its size and time are as they were and it is in the same place, by
name or by inode; any other is hashed.
"""

from __future__ import annotations

import hashlib
import os
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cxrfeat import _files as files
from cxrfeat import _machine as machine
from cxrfeat import _remote as remote
from cxrfeat._images import decode
from cxrfeat._progress import Progress, silent
from cxrfeat._remote import Place, Url
from cxrfeat._store import EmbeddingFile, names
from cxrfeat._study import Study
from cxrfeat.errors import EmbeddingFileError, ImageError

MISSING = -1
UNKNOWN = -2
"""Where an earlier version of the manifest did not say."""

DECODERS = (
    "opencv-python-headless", "kornia-rs", "pydicom", "pylibjpeg", "pylibjpeg-libjpeg", "pylibjpeg-openjpeg",
    "pylibjpeg-rle", "pyjpegls", "python-gdcm",
)  # fmt: skip
SIZE, TIME, PLACE, INODE, MODE = range(5)


@dataclass(frozen=True)
class Manifest:
    """What `os.stat` says of the files of n images, and the packages that decoded them, with their versions.

    `stamps` are int64 (n, 5): bytes, nanoseconds since 1970, CRC-32 of the path, inode, and mode; but for the path they
    are -1 where there is no file. At an address a hash of the ETag is in the place of the time, one of the address in
    that of the inode, and the mode is 0.
    """

    image_ids: npt.NDArray[np.str_]
    stamps: npt.NDArray[np.int64]
    decoders: str = ""

    @property
    def missing(self) -> npt.NDArray[np.bool_]:
        """Where there is no file, bool (n,)."""
        return self.stamps[:, SIZE] == MISSING

    def same_as(self, other: Manifest, failed: bool = False) -> npt.NDArray[np.bool_]:
        """Which of these images have an unchanged file in `other`, bool (n,); no file, twice, is unchanged.

        With `failed`, mode and decoders count too: a file that could not be read or decoded may be usable now.
        """
        if np.array_equal(self.image_ids, other.image_ids):
            return self._alike(other.stamps, other.decoders, failed)
        if not len(other.image_ids):
            return np.zeros(len(self.image_ids), bool)
        order = np.argsort(other.image_ids)
        place = order[np.searchsorted(other.image_ids, self.image_ids, sorter=order).clip(max=len(order) - 1)]
        known = other.image_ids[place] == self.image_ids
        return known & self._alike(other.stamps[place], other.decoders, failed)

    def _alike(self, then: npt.NDArray[np.int64], decoders: str, failed: bool) -> npt.NDArray[np.bool_]:
        now = self.stamps
        alike = (now[:, : TIME + 1] == then[:, : TIME + 1]).all(axis=1)
        alike &= (now[:, PLACE : INODE + 1] == then[:, PLACE : INODE + 1]).any(axis=1) | (then[:, PLACE] == UNKNOWN)
        if failed:
            alike &= (now[:, MODE] == then[:, MODE]) & (self.decoders == decoders)
        return alike


def look(study: Study) -> Manifest:
    """Ask the system for every file of a study, and stores for their objects."""
    paths = study.table["path"].tolist()
    anywhere = isinstance(study.root, Url) or any("://" in path for path in paths)
    stamps = _local(_absolute(study.root, paths)) if not anywhere else _anywhere(study.paths())
    decoders = ", ".join(f"{name} {version}" for name, version in machine.versions(DECODERS).items())
    return Manifest(study.ids, stamps, decoders)


def _local(paths: Iterable[str]) -> npt.NDArray[np.int64]:
    return np.fromiter((number for path in paths for number in _stamp(path)), np.int64).reshape(-1, 5)


def _stamp(path: str) -> tuple[int, int, int, int, int]:
    place = zlib.crc32(path.encode(errors="surrogateescape"))
    try:
        found = os.stat(path)  # noqa: PTH116  a Path for each file would take longer than looking at it
    except (OSError, ValueError):  # ValueError: a NUL in the path
        return MISSING, MISSING, place, MISSING, MISSING
    return found.st_size, found.st_mtime_ns, place, found.st_ino & 0x7FFFFFFFFFFFFFFF, found.st_mode


def _anywhere(paths: Sequence[Place]) -> npt.NDArray[np.int64]:
    from cxrfeat._remote import transfer

    urls = [path for path in paths if isinstance(path, Url)]
    stamps = np.full((len(paths), 5), MISSING)
    stamps[[not isinstance(path, Url) for path in paths]] = _local(str(p) for p in paths if not isinstance(p, Url))
    rows = [row for row, path in enumerate(paths) if isinstance(path, Url)]
    for row, url, found in zip(rows, urls, transfer.stat(urls), strict=True):
        stamps[row, PLACE] = zlib.crc32(url.address.encode(errors="surrogateescape"))
        if found is not None:
            # Without an ETag or a time nothing says that an object is unchanged: it is read again.
            tag = _number(found.tag) if found.tag else time.time_ns()
            stamps[row] = max(found.size, 0), tag, stamps[row, PLACE], _number(url.address), 0
    return stamps


def _number(text: str) -> int:
    """A hash of a text, of 63 bits."""
    digest = hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def _absolute(root: Place, paths: list[str]) -> list[str]:
    if os.name == "posix":  # where the first letter says it, five times as fast as joining
        base = str(root / "_")[:-1]
        return [path if path[:1] == "/" else base + path for path in paths]
    return [str(root / path) for path in paths]


def read(path: Path) -> Manifest:
    """Read the manifest kept with an embedding file, of any version; an empty one if it is missing or damaged."""
    try:
        with names.manifest(path).open("rb") as file, np.load(file, allow_pickle=False) as kept:
            ids, stamps = kept["image_ids"], np.asarray(kept["stamps"], np.int64)
            if stamps.shape == (len(ids), 2):  # the first version: size and time
                stamps = np.column_stack([stamps, np.full((len(ids), 3), UNKNOWN)])
            if ids.dtype.kind != "U" or stamps.shape != (len(ids), 5):
                raise ValueError("not a manifest")
            return Manifest(ids, stamps, str(kept["decoders"]) if "decoders" in kept else "")
    except Exception:  # a damaged archive raises a dozen kinds; whatever it is, the files are hashed again
        return Manifest(np.zeros(0, "U1"), np.zeros((0, 5), np.int64))


def write(path: Path, found: Manifest) -> None:
    """Keep a manifest beside an embedding file."""
    with files.atomic_path(names.manifest(path)) as part, part.open("wb") as file:
        np.savez(file, image_ids=found.image_ids, stamps=found.stamps, decoders=np.array(found.decoders))


def join(files: Sequence[Path], out: Path) -> None:
    """Keep with `out`, which holds the rows of several embedding files, what is kept with them; the first counts."""
    kept = [read(path) for path in files]
    ids = np.concatenate([one.image_ids for one in kept])
    if not len(ids):
        return
    first = np.sort(np.unique(ids, return_index=True)[1])
    decoders = {one.decoders for one in kept if len(one.image_ids)}
    stamps = np.concatenate([one.stamps for one in kept])
    with suppress(OSError):  # it can be made again
        write(out, Manifest(ids[first], stamps[first], decoders.pop() if len(decoders) == 1 else ""))


def hashes(paths: Sequence[Place], progress: Progress = silent) -> Iterator[bytes | None]:
    """Yield the SHA-256 of each image file, several being read at a time; None for one that cannot be read."""

    def of(path: Place) -> bytes | None:
        with suppress(ImageError):
            return hashlib.sha256(decode.read_bytes(path)).digest()
        return None

    with ThreadPoolExecutor(remote.readers(paths, machine.cores())) as pool:
        for done, found in enumerate(pool.map(of, paths), start=1):
            yield found
            progress(done, len(paths), "comparing image files")


def check(study: Study, file: EmbeddingFile, progress: Progress = silent) -> None:
    """Raise an EmbeddingFileError if images of the study are not those that the rows of the file were made from.

    Ids say nothing of that: two hospitals have an image `1.png`. Every file that is not as the manifest knows it is
    hashed, and added to the manifest if it is the same. Images that are not here, or whose hash the file does not have,
    cannot be compared.
    """
    expected = file.image_sha256(study.ids)
    now, then = look(study), read(file.path)
    doubtful = (expected.any(axis=1) & ~now.missing & ~now.same_as(then)).nonzero()[0]
    if not len(doubtful):
        return
    paths = study.table["path"].to_numpy()[doubtful]
    found = list(hashes([remote.join(study.root, path) for path in paths], progress))
    same = np.array([one == expected[row].tobytes() for row, one in zip(doubtful, found, strict=True)])
    different = now.image_ids[doubtful[~same & np.array([one is not None for one in found])]]
    new = doubtful[same]
    others = ~np.isin(then.image_ids, now.image_ids[new])
    ids = np.concatenate([then.image_ids[others], now.image_ids[new]])
    stamps = np.concatenate([then.stamps[others], now.stamps[new]])
    with suppress(OSError):  # a folder that cannot be written: they are hashed again next time
        write(file.path, Manifest(ids, stamps, then.decoders or now.decoders))
    if len(different):
        raise EmbeddingFileError(
            f"{len(different)} of {len(doubtful)} images compared of study {study.name!r} are not those that "
            f"{file.path} was made from, the first is {str(different[0])!r}: it is another study's, or the images have "
            "changed. Run `cxrfeat extract`, or name the study's own file in `embeddings`."
        )
