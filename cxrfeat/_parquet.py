"""Tables of ours as Parquet, where CSV takes too long: studies and predictions of more than a million images.

A file says in its metadata what it is. Any other Parquet table is a source to build a study of, as any CSV is.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxrfeat._files import atomic_path
from cxrfeat.errors import CxrfeatError, MissingExtraError, OutputError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow.parquet as pq

ENDING, MAGIC = ".parquet", b"PAR1"
MANY = 1_000_000
"""Rows above which a table of ours is written as Parquet, unless its name says otherwise."""
_ROWS = 1 << 20
_MOST, _FACTOR = 1 << 28, 1000
"""Cells that any file may have, and how many times its bytes: Parquet of equal cells can say that it has billions."""


def ending_of(rows: int) -> str:
    """The usual ending of a table of ours with so many rows."""
    return ENDING if rows > MANY else ".csv"


def holds(path: Path, kind: str) -> bool:
    """Whether a file was written by `write` as this kind of table."""
    try:
        with path.open("rb") as file:
            if file.read(4) != MAGIC:
                return False
        with _opened(path, CxrfeatError) as table:
            return f"cxrfeat-{kind}".encode() in (table.schema_arrow.metadata or {})
    except (OSError, CxrfeatError):
        return False


def write(path: Path, table: pd.DataFrame, kind: str, numbers: Mapping[str, str]) -> Path:
    """Write a table, whole or not at all, a million rows at a time.

    `numbers` names the type of columns of numbers, of which NaN is written as missing; the others are texts.
    """
    pa = _pyarrow(path)
    texts = {str(name): pa.type_for_alias(numbers.get(str(name), "string")) for name in table}
    schema = pa.schema(list(texts.items()), metadata={f"cxrfeat-{kind}": "1"})
    with atomic_path(path) as part, pa.parquet.ParquetWriter(part, schema, compression="zstd") as writer:
        for start in range(0, max(len(table), 1), _ROWS):
            columns = []
            for name, cells in table.iloc[start : start + _ROWS].items():
                if name not in numbers and not isinstance(cells.dtype.type(), str):
                    cells = cells.astype(object).where(cells.notna(), "").astype(str)
                try:
                    columns.append(pa.Array.from_pandas(cells, type=texts[str(name)], safe=False))
                except UnicodeError as error:
                    raise OutputError(f"{path}: column {name!r} has a text that is not UTF-8; write a CSV.") from error
            writer.write_table(pa.table(columns, schema=schema))
    return path


def read(path: Path, error: type[CxrfeatError], split: str | None = None) -> pd.DataFrame:
    """Read a table that `write` wrote, or the rows of one split; a missing text is empty."""
    pa = _pyarrow(path)
    with _opened(path, error) as file:
        about = file.metadata
        if about.num_rows * about.num_columns > max(_MOST, _FACTOR * path.stat().st_size):
            raise error(f"{path} says that it has {about.num_rows:,} rows, more than a file of its size holds.")
        try:
            parts = []
            for group in range(about.num_row_groups):
                part = file.read_row_group(group)
                parts.append(part if split is None else part.filter(pa.compute.equal(part["split"], split)))
            table = pa.concat_tables(parts) if parts else file.schema_arrow.empty_table()
            del parts
            found = table.to_pandas(self_destruct=True, split_blocks=True)
        except Exception as cause:  # pyarrow's own: whatever a damaged file raises
            raise error(f"{path} is not a Parquet table that can be read: {str(cause).splitlines()[0]}.") from cause
    for name in found.columns.difference(found.select_dtypes("number").columns):
        found[name] = found[name].fillna("").astype(str)
    return found


def _pyarrow(path: Path) -> Any:
    try:
        import pyarrow
        import pyarrow.compute
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError(f"{path}, a Parquet table,", "parquet") from error
    return pyarrow


def _opened(path: Path, error: type[CxrfeatError]) -> pq.ParquetFile:
    pa = _pyarrow(path)
    try:
        return pa.parquet.ParquetFile(path)
    except Exception as cause:  # pyarrow's own: whatever a damaged file raises
        raise error(f"{path} is not a Parquet table that can be read: {str(cause).splitlines()[0]}.") from cause
