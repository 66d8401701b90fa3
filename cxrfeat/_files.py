"""Writing files whole or not at all, refusing outputs that would destroy something, reading CSV files."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxrfeat.errors import CxrfeatError, NotFoundError, OutputError, StudyError

if TYPE_CHECKING:
    import pandas as pd

_PART = re.compile(r"\.\d+\.part(\.\w+)?$")


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; on success it is flushed to disk and renamed, on an error it is removed."""
    path = _here(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path.parent)
    # The ending is kept last, since Keras, matplotlib and numpy choose a format by it.
    part = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(path)
        sync_folder(path.parent)
    finally:
        part.unlink(missing_ok=True)


def _here(path: str | Path) -> Path:
    """A path on this machine; of an address pathlib would make a folder called `s3:`."""
    if re.match(r"[A-Za-z][\w+.-]+:/", str(path)):
        raise OutputError(f"{path} is an address, and only embedding files are written to one. Name a local output.")
    return Path(path)


_STALE = 24 * 3600.0  # seconds after which a temporary file is one that a killed process left


@cache
def _sweep(folder: Path) -> None:
    """Remove temporary files that killed processes left in a folder, once a process."""
    for left in folder.glob(".*.part*"):
        with suppress(OSError):  # another process may be sweeping too
            if _PART.search(left.name) and time.time() - left.stat().st_mtime > _STALE:
                left.unlink()


def check_output(
    path: str | Path,
    *,
    suffixes: Sequence[str] = (),
    begins: bytes | tuple[bytes, ...] = b"",
    own: bool | None = None,
    inputs: Iterable[object] = (),
    overwrite: bool | None = False,
) -> Path:
    """Raise an OutputError if `path` is an input, a folder, a device, or (without `overwrite`) of another kind.

    Files of the same kind have one of the endings `suffixes` and one of the first bytes `begins`; without either, no
    file is, unless the caller knows by another way that it is its `own`. Call it before any work is done. Inputs are
    never replaced, not even with `overwrite`, which is None where the user cannot ask for it.
    """
    path = _here(path)
    if not path.exists():
        return path
    for source in inputs:
        if "://" not in str(source) and Path(str(source)).exists() and path.samefile(str(source)):
            raise OutputError(f"{path} is an input of this command; name another output.")
    if not path.is_file():
        raise OutputError(f"{path} is not a file that can be replaced; name another output.")
    with path.open("rb") as file:
        head = file.read(64)
    if own is None:
        own = bool(suffixes or begins) and (not suffixes or path.suffix.lower() in suffixes) and head.startswith(begins)
    if head and not own and not overwrite:
        advice = "" if overwrite is None else ", or use `overwrite=True`"
        raise OutputError(f"{path} exists and is a file of another kind. Name another output{advice}.")
    return path


def write_atomically(path: str | Path, data: bytes | str) -> Path:
    """Write bytes, or text as UTF-8, whole or not at all."""
    with atomic_path(path) as part:
        part.write_bytes(data.encode(errors="surrogateescape") if isinstance(data, str) else data)
    return Path(path)


def sync_folder(folder: str | Path) -> None:
    """Make a rename in `folder` durable; a no-op where folders cannot be opened (Windows) or synced (SMB, FUSE)."""
    if os.name == "nt":
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # a folder that can be written and not listed
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP):
            raise
    finally:
        os.close(descriptor)


def sha256(path: str | Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def csv_text(table: pd.DataFrame, float_format: str | None = "%.6g") -> str:
    """Return a table as CSV for people: what a spreadsheet would take for a formula gets an apostrophe in front.

    Not for what other tools join by its texts: study files and exported embeddings are written as they are.
    """
    import pandas as pd  # not above: see `read_csv`

    safe = table.rename(columns=_harmless)
    for column in safe.select_dtypes(exclude="number"):
        # As objects: a file's name need not be UTF-8.
        safe[column] = pd.Series([_harmless(value) for value in safe[column]], safe.index, dtype=object)
    return safe.to_csv(index=False, float_format=float_format, lineterminator="\n")


def csv_for(path: Path, table: pd.DataFrame, float_format: str | None = "%.6g", overwrite: bool | None = None) -> str:
    """Return the `csv_text` to write to `path`; an OutputError unless that is an earlier table of the same columns."""
    text = csv_text(table, float_format)
    check_output(path, begins=f"{text.partition(chr(10))[0]}\n".encode()[:64], overwrite=overwrite)
    return text


def _harmless(value: Any) -> Any:
    if not isinstance(value, str) or not value.startswith(_FORMULA):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def restored(value: str) -> str:
    """Return a text as it was before `csv_text`."""
    return value[1:] if value.startswith("'") and value[1:].startswith(_FORMULA) else value


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object of what can be made again; empty if it is missing or damaged."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError):
        return {}


def own_hash(found: Mapping[str, Any], key: str = "sha256") -> str:
    """SHA-256 of what a JSON file holds beside its own hash, which is under `key`."""
    rest = {name: value for name, value in found.items() if name != key}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read_csv(path: str | Path, error: type[CxrfeatError] = StudyError, **options: Any) -> pd.DataFrame:
    """Read a CSV file, gzipped or not, every cell as text; raise `error` if it is not a CSV table."""
    import pandas as pd  # not above: most of what writes files needs no tables

    if not Path(path).is_file():
        raise NotFoundError(f"there is no file {path}.")
    try:
        return pd.read_csv(path, **{"dtype": str, "keep_default_na": False, "encoding": "utf-8-sig", **options})
    except LookupError as cause:
        raise error(
            f"{path} cannot be read with `encoding={options.get('encoding')}`: there is no such encoding."
        ) from cause
    except (ValueError, OSError, EOFError, zlib.error) as cause:  # pandas' errors are ValueErrors; of gzip, the others
        raise error(f"{path} is not a CSV table: {str(cause).strip().splitlines()[0]}.") from cause


def csv_columns(path: str | Path) -> set[str]:
    """Column names of a CSV; none if it is no such file."""
    try:
        return set(read_csv(path, nrows=0).columns)
    except CxrfeatError:
        return set()
