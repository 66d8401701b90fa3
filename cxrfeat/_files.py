"""Files: written so that a reader sees the old one or the new one and never a half, and CSV files read."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxrfeat.errors import CxrfeatError, NotFoundError, StudyError

if TYPE_CHECKING:
    import pandas as pd


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary name beside `path` to write to; on success it is flushed to disk and takes `path`'s place.

    On an error the temporary file is removed and what stood at `path` is untouched.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
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


def write_atomically(path: str | Path, data: bytes | str) -> Path:
    """Write `data` (text as UTF-8) to `path` by way of `atomic_path`."""
    with atomic_path(path) as part:
        part.write_bytes(data.encode(errors="surrogateescape") if isinstance(data, str) else data)
    return Path(path)


def sync_folder(folder: str | Path) -> None:
    """Make a rename in `folder` durable; a no-op where folders cannot be opened (Windows)."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256(path: str | Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_csv(path: str | Path, error: type[CxrfeatError] = StudyError, **options: Any) -> pd.DataFrame:
    """Read a CSV file, gzipped or not, every cell as text.

    Parameters
    ----------
    path : str or Path
        The file.
    error : type of CxrfeatError
        What is raised for a file that is not a CSV table.
    **options
        For `pandas.read_csv`.

    Raises
    ------
    NotFoundError
        If there is no such file.
    """
    import pandas as pd  # not above: most of what writes files needs no tables

    if not Path(path).is_file():
        raise NotFoundError(f"there is no file {path}.")
    try:
        return pd.read_csv(path, **{"dtype": str, "keep_default_na": False, "encoding": "utf-8-sig", **options})
    except (ValueError, OSError, EOFError, zlib.error) as cause:  # pandas' errors are ValueErrors; of gzip, the others
        raise error(f"{path} is not a CSV table: {str(cause).strip().splitlines()[0]}.") from cause
