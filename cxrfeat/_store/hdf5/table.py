"""An HDF5 file open for reading, and what it must look like before anything in it is read.

Names, types, filters and sizes are checked on descriptions alone, so that a hostile file is refused in bounded time and
memory: nothing is followed out of the file (no external or soft link, no virtual dataset, no external storage), no
filter but Fletcher-32 is applied (nothing can unpack to more than it is), and no array is larger than what the file
stores.
"""

from __future__ import annotations

import errno
import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from cxrfeat._store import rows
from cxrfeat._store.rows import Header
from cxrfeat.errors import CxrfeatError, EmbeddingFileError

# What h5py raises on a damaged file, by the call and the damage.
_ERRORS = (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError, MemoryError, AttributeError)
STORAGES = {1: "float32", 2: "float16"}
"""What embeddings are stored in, by format version."""
_NAMES = ("embeddings", "image_id", "image_sha256", "block_sha256", "failures")
MAX_TEXT = 1 << 20  # bytes of a recipe, a provenance
_FIELDS = {"image_id": rows.MAX_ID, "path": rows.MAX_PATH, "reason": rows.MAX_REASON}


class HDF5Table:
    """A `Table` of HDF5; `raw` gives the bytes instead of the file's, `limit` of them, where it was cut short."""

    def __init__(self, path: Path, raw: io.RawIOBase | None = None, limit: int | None = None) -> None:
        self.path, self.problems = path, list[str]()
        self._file = _open(path, raw)
        with _closing_on_error(self._file, path):
            self._data = _datasets(self._file, path, path.stat().st_size if limit is None else limit)
            self.block_sha256 = self._whole("block_sha256")
            self.sha256 = {
                name: _text(self._file, f"{name}_sha256", path) for name in ("recipe", "provenance", "content")
            }
            shape = self._data["embeddings"].shape
            self._read = np.zeros((shape[0], -(-shape[1] // rows.BLOCK)), bool)
            failures = self._whole("failures")
            columns = (rows.decode_texts(failures[name]).tolist() for name in ("image_id", "path", "reason"))
            self.header = Header(
                recipe=_text(self._file, "recipe", path),
                provenance=_text(self._file, "provenance", path),
                shape=shape,
                ids=self._whole("image_id"),
                image_sha256=self._whole("image_sha256"),
                failures=list(zip(*columns, strict=True)),
            )

    def read(self, pass_: int, block: int, out: npt.NDArray[np.float32]) -> None:
        """Read one pass of one block to `out`; HDF5 checks its own checksum the first time.

        After that the stored bytes are taken as they are, which is five times as fast: heads read a file many times.
        """
        start, stop, data = block * rows.BLOCK, block * rows.BLOCK + len(out), self._data["embeddings"]
        try:
            if self._read[pass_, block]:
                chunk = np.empty(data.dtype.itemsize * data.chunks[1] * data.chunks[2] + 4, np.uint8)
                data.id.read_direct_chunk((pass_, start, 0), out=chunk)
                out[...] = chunk[:-4].view(data.dtype).reshape(data.chunks[1:])[: len(out)]
            elif data.dtype == out.dtype:
                data.read_direct(out, np.s_[pass_, start:stop], np.s_[:])
            else:  # NumPy converts faster than HDF5
                out[...] = data[pass_, start:stop]
            self._read[pass_, block] = True
        except _ERRORS as error:
            where = f"rows {start} to {stop - 1} of pass {pass_}"
            raise _damaged(self.path, error, where) from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _whole(self, name: str) -> npt.NDArray[Any]:
        try:
            return np.asarray(self._data[name][...])
        except _ERRORS as error:
            raise _damaged(self.path, error, f"/{name}") from error


def _open(path: Path, raw: io.RawIOBase | None = None) -> h5py.File:
    """Open an HDF5 file, by `raw` if it is given."""
    try:
        # No locking: published files never change, and on a network share HDF5's flock fails for readers.
        return h5py.File(raw, "r") if raw is not None else h5py.File(path, "r", locking=False)
    except _ERRORS as error:
        if isinstance(error, PermissionError) or getattr(error, "errno", None) == errno.EACCES:
            raise EmbeddingFileError(f"{path} cannot be read: permission denied.") from error
        if not is_hdf5(path):
            raise EmbeddingFileError(
                f"{path} is not an embedding file: it is no HDF5 at all. `cxrfeat extract` makes one."
            ) from error
        raise _damaged(path, error) from error


@contextmanager
def _closing_on_error(file: h5py.File, path: Path) -> Iterator[None]:
    """Close the file if anything goes wrong, and turn what HDF5 raises on damage into a sentence."""
    try:
        yield
    except BaseException as error:
        file.close()
        if isinstance(error, _ERRORS) and not isinstance(error, CxrfeatError):
            raise _damaged(path, error) from error
        raise


def _damaged(path: Path, error: BaseException, where: str = "") -> EmbeddingFileError:
    """Return the error for what HDF5 could not read."""
    text = " ".join(str(error).split())
    # The only filter is Fletcher-32: where it fails, the checksum of the data does not match.
    checksum = "checksum" in text.lower() or "filter returned failure" in text
    kind = "a checksum does not match" if checksum else f"HDF5 cannot read it ({text[:160]})"
    if "truncated" in text:
        kind = "it is cut short"
    return rows.damaged(path, f"{where}: {kind}" if where else kind)


def _text(file: h5py.File, name: str, path: Path) -> str:
    """Read a root attribute of fixed-length text, after looking at its size."""
    if name not in file.attrs:
        raise EmbeddingFileError(f"{path} is not an embedding file: it has no attribute {name!r}.")
    attribute = h5py.h5a.open(file.id, name.encode())
    kind = attribute.get_type()
    if not isinstance(kind, h5py.h5t.TypeStringID) or kind.is_variable_str() or attribute.shape != ():
        raise EmbeddingFileError(f"{path}: its attribute {name!r} is not one fixed-length text.")
    if kind.get_size() > MAX_TEXT:
        raise EmbeddingFileError(
            f"{path}: its attribute {name!r} is {kind.get_size():,} bytes; at most {MAX_TEXT:,} are read."
        )
    value = np.empty((), dtype=attribute.dtype)
    attribute.read(value)
    try:
        return bytes(value[()]).decode()
    except UnicodeDecodeError as error:
        raise EmbeddingFileError(f"{path} is damaged: its attribute {name!r} is not UTF-8.") from error


def is_hdf5(path: Path) -> bool:
    """Whether a file begins as HDF5 does."""
    with path.open("rb") as raw:
        return raw.read(8) == b"\x89HDF\r\n\x1a\n"


def layout(
    passes: int, n: int, dim: int, storage: str = "float32"
) -> dict[str, tuple[str, tuple[int, ...], tuple[int, ...]]]:
    """Type ("S": fixed-length text), shape and chunks of each dataset but the failures."""
    count, many = -(-n // rows.BLOCK), min(n, 16 * rows.BLOCK)
    return {
        "image_id": ("S", (n,), (many,)),
        "image_sha256": ("u1", (n, 32), (many, 32)),
        "block_sha256": ("u1", (passes + 1, count, 32), (1, min(count, 4096), 32)),
        "embeddings": (np.dtype(storage).newbyteorder("<").str, (passes, n, dim), (1, min(n, rows.BLOCK), dim)),
    }


def _datasets(file: h5py.File, path: Path, limit: int) -> dict[str, h5py.Dataset]:
    """Return the datasets of a file of `limit` bytes: none is in another file, or has another type, filter or size."""
    storage = STORAGES[_version(file, path)]
    found = {name: _dataset(file, name, path) for name in _NAMES}
    extent = found["embeddings"].shape
    if len(extent) != 3 or not (1 <= extent[0] <= rows.MAX_PASSES and 1 <= extent[2] <= rows.MAX_DIM):
        raise EmbeddingFileError(f"{path}: /embeddings of shape {extent} is not (passes, images, dim).")
    passes, n, dim = map(int, extent)
    for name, (kind, shape, chunks) in layout(passes, n, dim, storage).items():
        dtype = found[name].dtype
        if (dtype.kind != "S" or dtype.itemsize > rows.MAX_ID) if kind == "S" else dtype != np.dtype(kind):
            wanted = f"text of at most {rows.MAX_ID} bytes" if kind == "S" else np.dtype(kind).name
            raise EmbeddingFileError(f"{path}: /{name} is {dtype}, not {wanted}.")
        if found[name].shape != shape:
            raise EmbeddingFileError(f"{path}: /{name} has shape {found[name].shape}, not {shape}.")
        _check_storage(found[name], name, path, limit, chunks)
    failures = found["failures"]
    names = failures.dtype.names or ()
    texts = [(name, failures.dtype[name].kind, failures.dtype[name].itemsize <= _FIELDS.get(name, 0)) for name in names]
    if len(failures.shape) != 1 or texts != [(name, "S", True) for name in _FIELDS]:
        raise EmbeddingFileError(f"{path}: /failures is not a list of texts image_id, path and reason.")
    _check_storage(failures, "failures", path, limit, None)
    return found


def _version(file: h5py.File, path: Path) -> int:
    """Return the format version of a file that says it is an embedding file of one known here."""
    if "format" not in file.attrs or _text(file, "format", path) != rows.FORMAT:
        raise EmbeddingFileError(
            f"{path} is HDF5, but not an embedding file of cxrfeat: its attribute 'format' is not "
            f"{rows.FORMAT!r}. `cxrfeat cache import` takes embeddings of other tools."
        )
    attribute = h5py.h5a.open(file.id, b"format_version") if "format_version" in file.attrs else None
    if attribute is None or attribute.shape != () or attribute.dtype.kind not in "iu":
        raise EmbeddingFileError(f"{path}: its attribute 'format_version' is missing or is no number.")
    value = np.empty((), dtype=attribute.dtype)
    attribute.read(value)
    if int(value) not in STORAGES:
        raise EmbeddingFileError(
            f"{path} has format version {int(value)}; this cxrfeat reads versions up to {max(STORAGES)}. Upgrade "
            "cxrfeat, or extract again."
        )
    return int(value)


def _dataset(file: h5py.File, name: str, path: Path) -> h5py.Dataset:
    # Looked up without being followed.
    link = file.get(name, getlink=True) if file.id.links.exists(name.encode()) else None
    if link is None:
        raise EmbeddingFileError(f"{path} is not a whole embedding file: it has no /{name}.")
    if not isinstance(link, h5py.HardLink):
        raise EmbeddingFileError(f"{path}: /{name} is a link to elsewhere, which is never followed.")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset) or dataset.shape is None:
        raise EmbeddingFileError(f"{path}: /{name} is not a dataset.")
    if dataset.is_virtual or dataset.id.get_create_plist().get_external_count():
        raise EmbeddingFileError(f"{path}: /{name} is in another file, which is never followed.")
    return dataset


def _check_storage(dataset: h5py.Dataset, name: str, path: Path, limit: int, chunks: tuple[int, ...] | None) -> None:
    """Refuse a dataset that would take more memory than the file has bytes, or that is not wholly stored."""
    size = dataset.dtype.itemsize * math.prod(map(int, dataset.shape))
    if size > limit:
        raise EmbeddingFileError(
            f"{path}: /{name} of shape {dataset.shape} would be {size:,} bytes, and the file has {limit:,}."
        )
    if size == 0:
        return
    plist = dataset.id.get_create_plist()
    filters = [plist.get_filter(i)[0] for i in range(plist.get_nfilters())]
    if dataset.chunks is None or filters != [h5py.h5z.FILTER_FLETCHER32]:
        raise EmbeddingFileError(f"{path}: /{name} is not chunked with the Fletcher-32 filter and no other.")
    if chunks is not None and dataset.chunks != chunks:
        raise EmbeddingFileError(f"{path}: /{name} has chunks {dataset.chunks}, not {chunks}.")
    each = dataset.dtype.itemsize * math.prod(map(int, dataset.chunks))
    count = math.prod(-(-int(axis) // int(part)) for axis, part in zip(dataset.shape, dataset.chunks, strict=True))
    if each > limit or dataset.id.get_storage_size() != count * (each + 4):
        raise EmbeddingFileError(f"{path} is damaged: /{name} is not wholly stored.")
