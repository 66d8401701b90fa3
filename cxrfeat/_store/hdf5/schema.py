"""What an HDF5 file must look like before anything in it is read: names, types, filters and sizes.

Every check here is made on descriptions alone, so that a hostile file is refused in bounded time and memory: nothing is
followed out of the file (no external or soft link, no virtual dataset, no external storage), no filter but Fletcher-32
is applied (nothing can unpack to more than it is), and no array is larger than what the file stores.
"""

from __future__ import annotations

import errno
import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from cxrfeat._store import rows
from cxrfeat.errors import CxrfeatError, EmbeddingFileError

# What h5py raises on a damaged file, by the call and the damage.
HDF5_ERRORS = (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError, MemoryError, AttributeError)
STORAGES = {1: "float32", 2: "float16"}
"""What embeddings are stored in, by format version."""
NAMES = ("embeddings", "image_id", "image_sha256", "block_sha256", "failures")
MAX_TEXT = 1 << 20  # bytes of a recipe, a provenance
_FIELDS = {"image_id": rows.MAX_ID, "path": rows.MAX_PATH, "reason": rows.MAX_REASON}


def open_file(path: Path, raw: io.RawIOBase | None = None) -> h5py.File:
    """Open an HDF5 file that says it is an embedding file of a version known here; by `raw` if it is given."""
    try:
        # No locking: published files never change, and on a network share HDF5's flock fails for readers.
        file = h5py.File(raw, "r") if raw is not None else h5py.File(path, "r", locking=False)
    except HDF5_ERRORS as error:
        if isinstance(error, PermissionError) or getattr(error, "errno", None) == errno.EACCES:
            raise EmbeddingFileError(f"{path} cannot be read: permission denied.") from error
        if not is_hdf5(path):
            raise EmbeddingFileError(
                f"{path} is not an embedding file: it is no HDF5 at all. `cxrfeat extract` makes one."
            ) from error
        raise damaged(path, error) from error
    with closing_on_error(file, path):
        _check_format(file, path)
    return file


@contextmanager
def closing_on_error(file: h5py.File, path: Path) -> Iterator[None]:
    """Close the file if anything goes wrong, and turn what HDF5 raises on damage into a sentence."""
    try:
        yield
    except BaseException as error:
        file.close()
        if isinstance(error, HDF5_ERRORS) and not isinstance(error, CxrfeatError):
            raise damaged(path, error) from error
        raise


def damaged(path: Path, error: BaseException, where: str = "") -> EmbeddingFileError:
    """Return the error for what HDF5 could not read."""
    text = " ".join(str(error).split())
    # The only filter is Fletcher-32: where it fails, the checksum of the data does not match.
    checksum = "checksum" in text.lower() or "filter returned failure" in text
    kind = "a checksum does not match" if checksum else f"HDF5 cannot read it ({text[:160]})"
    if "truncated" in text:
        kind = "it is cut short"
    return rows.damaged(path, f"{where}: {kind}" if where else kind)


def text(file: h5py.File, name: str, path: Path) -> str:
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


def datasets(file: h5py.File, path: Path, limit: int) -> dict[str, h5py.Dataset]:
    """Return the datasets of a file of `limit` bytes: none is in another file, or has another type, filter or size."""
    found = {name: _dataset(file, name, path) for name in NAMES}
    extent = found["embeddings"].shape
    if len(extent) != 3 or not (1 <= extent[0] <= rows.MAX_PASSES and 1 <= extent[2] <= rows.MAX_DIM):
        raise EmbeddingFileError(f"{path}: /embeddings of shape {extent} is not (passes, images, dim).")
    storage = STORAGES[_version(file, path)]
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


def _check_format(file: h5py.File, path: Path) -> None:
    if "format" not in file.attrs or text(file, "format", path) != rows.FORMAT:
        raise EmbeddingFileError(
            f"{path} is HDF5, but not an embedding file of cxrfeat: its attribute 'format' is not "
            f"{rows.FORMAT!r}. `cxrfeat cache import` takes embeddings of other tools."
        )
    _version(file, path)


def _version(file: h5py.File, path: Path) -> int:
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
