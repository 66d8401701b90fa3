"""What a store holds, whatever its format: rows, the header beside them, and the hashes by which both are checked.

Rows are hashed in blocks of 256: a SHA-256 over each block's ids and image hashes, and one over each pass of its
embeddings. One more over the table of these, the recipe and the failures identifies the whole content
(docs/embedding-file.md).
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from cxrfeat.errors import EmbeddingFileError, RecipeError

FORMAT, FORMAT_VERSION = "cxrfeat-embeddings", 1
BLOCK = 256  # rows
MAX_ID, MAX_PATH, MAX_REASON = 1024, 4096, 1000  # bytes
MAX_PASSES, MAX_DIM = 1 << 16, 1 << 20

T = TypeVar("T")
Failure = tuple[str, str, str]  # image_id, path, reason


@dataclass(frozen=True)
class Rows:
    """Some rows: ids (bytes, (n,)), hashes of the image files (uint8, (n, 32)), embeddings (float32, (P, n, d))."""

    ids: npt.NDArray[np.bytes_]
    image_sha256: npt.NDArray[np.uint8]
    embeddings: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Header:
    """What a file says beside its embeddings of `shape` (passes, images, dim).

    `recipe` and `provenance` are JSON; `ids` (UTF-8) and `image_sha256` (uint8, (images, 32), zeros where unknown) are
    in the order of the rows.
    """

    recipe: str
    provenance: str
    shape: tuple[int, int, int]
    ids: npt.NDArray[np.bytes_]
    image_sha256: npt.NDArray[np.uint8]
    failures: Sequence[Failure]

    def content_sha256(self, table: npt.NDArray[np.uint8]) -> str:
        """SHA-256, hexadecimal, of everything but the provenance; `table` holds the blocks' hashes."""
        rows = json.dumps([list(row) for row in self.failures], ensure_ascii=True, separators=(",", ":"))
        passes, n, dim = self.shape
        text = f"{FORMAT}\n{FORMAT_VERSION}\n{self.recipe}\n{passes} {n} {dim}\n{rows}\n"
        return hashlib.sha256(text.encode() + np.ascontiguousarray(table).tobytes()).hexdigest()


def blocks(n: int) -> Iterator[tuple[int, slice]]:
    """Number and rows of each block of a file of `n` rows."""
    for block, start in enumerate(range(0, n, BLOCK)):
        yield block, slice(start, min(start + BLOCK, n))


def ahead(items: Iterator[T], depth: int = 1) -> Generator[T]:
    """Items, of which a thread makes the next `depth` while one is used."""
    with ThreadPoolExecutor(1, thread_name_prefix="cxrfeat-ahead") as pool:
        coming: deque[Future[T | None]] = deque(pool.submit(next, items, None) for _ in range(depth))
        while (item := coming.popleft().result()) is not None:
            coming.append(pool.submit(next, items, None))
            yield item


def digest(*arrays: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """SHA-256 over the bytes of arrays in C order, little-endian as they are stored: uint8 (32,)."""
    found = hashlib.sha256()
    for array in arrays:
        # The view as bytes: hashlib takes no array of fixed-length text.
        found.update(np.ascontiguousarray(array).view(np.uint8).data)
    return np.frombuffer(found.digest(), dtype=np.uint8)


def text_sha256(text: str) -> str:
    """SHA-256 of a text's UTF-8, hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def finite(embeddings: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Whether all of an image's values are finite, bool (n,), for embeddings (passes, n, dim)."""
    return np.asarray(np.isfinite(embeddings).all(axis=(0, 2)))


def damaged(path: Path, what: str) -> EmbeddingFileError:
    """Return the error for a damaged file."""
    return EmbeddingFileError(f"{path} is damaged: {what}. `cxrfeat cache repair {path}` keeps what is sound.")


def some(names: Iterable[str], most: int = 5) -> str:
    """The first few of many names, and how many more there are."""
    listed = list(names)
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "")


def listing(names: Sequence[str], most: int = 20) -> list[str]:
    """Lines that name the first images of many."""
    more = [f"  and {len(names) - most:,} more"] if len(names) > most else []
    return [*(f"  {name}" for name in names[:most]), *more]


def stored(ids: Sequence[str], embeddings: npt.NDArray[np.float32], storage: str) -> npt.NDArray[np.float32]:
    """Embeddings (passes, n, dim) rounded to what a file keeps them in; a RecipeError names what does not fit in it."""
    if storage == "float32":
        return embeddings
    with np.errstate(over="ignore"):
        small = embeddings.astype(storage)
    too_large = np.flatnonzero((np.isinf(small) & np.isfinite(embeddings)).any(axis=(0, 2))).tolist()
    if too_large:
        raise RecipeError(
            f"{len(too_large)} of {len(ids)} embeddings have values beyond {np.finfo(storage).max:,.0f}, which "
            f"{storage} cannot hold: {some(ids[i] for i in too_large)}. Use `storage=float32`."
        )
    return small.astype(np.float32)


def checked(ids: Sequence[str], embeddings: npt.NDArray[np.float32], storage: str) -> npt.NDArray[np.float32]:
    """Embeddings (passes, n, dim) as a file with this storage keeps them; an error names those that cannot be kept."""
    bad = np.flatnonzero(~finite(embeddings)).tolist()
    if bad:
        raise EmbeddingFileError(
            f"{len(bad)} of {len(ids)} embeddings hold NaN or infinity: {some(ids[i] for i in bad)}. Look at these "
            "images and the weights."
        )
    return stored(ids, embeddings, storage)


def encode_ids(image_ids: Sequence[str] | npt.NDArray[np.str_]) -> npt.NDArray[np.bytes_]:
    """Ids as fixed-length UTF-8; an EmbeddingFileError if one is empty, too long, or has a NUL."""
    width = 1
    for image_id in image_ids:
        text = str(image_id).encode()
        width = max(width, len(text))
        if not text or len(text) > MAX_ID or b"\0" in text:
            raise EmbeddingFileError(
                f"image_id {text[:40].decode(errors='replace')!r} cannot be stored: an id is 1 to {MAX_ID} bytes of "
                "UTF-8 without NUL."
            )
    return np.fromiter((str(i).encode() for i in image_ids), f"S{width}", len(image_ids))


def decode_texts(encoded: npt.NDArray[np.bytes_]) -> npt.NDArray[np.str_]:
    """Fixed-length UTF-8 as str. Plain ASCII, which nearly all ids are, is five times as fast."""
    encoded = np.ascontiguousarray(encoded)
    if encoded.view(np.uint8).max(initial=0) < 128:
        return encoded.astype(np.str_)
    return np.char.decode(encoded, "utf-8")


def clip(text: str, size: int) -> str:
    """Return a text cut to `size` bytes of UTF-8, NUL shown as a space."""
    return text.replace("\0", " ").encode()[:size].decode(errors="ignore")


EARLIER, MOST_EARLIER = "earlier", 200  # a file that grows every night stays below the length of a text


def sessions(texts: Iterable[str]) -> list[dict[str, Any]]:
    """List the sessions that the provenance texts of a file and its segments name, oldest first, each once.

    What cannot be read is passed over: a damaged history does not stop an extraction.
    """
    found: list[dict[str, Any]] = []
    for text in texts:
        try:
            whole = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(whole, dict):
            earlier = [session for session in whole.pop(EARLIER, []) if isinstance(session, dict)]
            found += [session for session in (*earlier, whole) if session and session not in found]
    return found


def provenance(now: Mapping[str, Any], earlier: Iterable[Mapping[str, Any]] = ()) -> str:
    """Write the provenance: canonical JSON of this session, and under `earlier` of those before it, if any."""
    others = [session for session in earlier if session != now][-MOST_EARLIER:]
    return json.dumps({**now, EARLIER: others} if others else dict(now), sort_keys=True, ensure_ascii=True)
