"""Tables as people have them: CSV with any separator and encoding, Excel and Parquet; every cell as text."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from cxrfeat._files import read_csv
from cxrfeat.errors import MissingExtraError, StudyError

_log = logging.getLogger(__name__)

EXCEL = (".xlsx", ".xlsm")
PARQUET = (".parquet", ".pq")


def read_table(path: Path, encoding: str | None = None, where: Mapping[str, str] | Iterable[str] = ()) -> pd.DataFrame:
    """Read a table whose first row names its columns; a name may occur twice.

    Row r of the file has index r - 2, whatever rows are left out: blank ones, and those that `where` does not choose.
    """
    ending = path.suffix.lower()
    cells = _excel(path) if ending in EXCEL else _parquet(path) if ending in PARQUET else _csv(path, encoding)
    cells = cells.fillna("").apply(lambda column: column.str.strip())
    names = [name or f"column {k}" for k, name in enumerate(cells.iloc[0], 1)] if len(cells) else []
    raw = cells.iloc[1:].set_axis(names, axis=1).set_axis(range(len(cells) - 1), axis=0)
    raw = chosen(raw[(raw != "").any(axis=1)], path, where)
    if raw.empty:
        raise StudyError(f"{path} has no rows.")
    return raw


def one(raw: pd.DataFrame, source: Path, name: str) -> pd.Series:
    """Return the only column of that name.

    Raises a StudyError if there is none, or several.
    """
    found = raw.loc[:, raw.columns == name]
    if not found.shape[1]:
        raise StudyError(f"{source} has no column {name!r}; its columns are {', '.join(map(str, dict.fromkeys(raw)))}.")
    if found.shape[1] > 1:
        raise StudyError(f"{source}, row 1: {found.shape[1]} columns are called {name!r}. Rename or delete one.")
    return found.iloc[:, 0]


def first(column: pd.Series, marked: pd.Series) -> tuple[int, str]:
    """Row of the file, and the cell, of the first that is marked."""
    position = int(marked.to_numpy().argmax())
    return int(column.index.to_numpy()[position]) + 2, str(column.iloc[position])


def _excel(path: Path) -> pd.DataFrame:
    try:
        import openpyxl
    except ImportError as error:
        raise MissingExtraError(f"{path}, an Excel table,", "excel") from error
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        sheet, *others = book.worksheets
        rows = [["" if cell is None else str(cell) for cell in row] for row in sheet.iter_rows(values_only=True)]
    except Exception as error:  # zipfile's, XML's and openpyxl's own: whatever a damaged workbook raises
        raise StudyError(f"{path} is not an Excel workbook that can be read: {error}.") from error
    if others:
        _log.warning("%s has %d sheets; the first, %r, is read.", path, len(others) + 1, sheet.title)
    return pd.DataFrame(rows, dtype=str)


def _parquet(path: Path) -> pd.DataFrame:
    """The table with its names as the first row; numbers without a fraction are written without one."""
    try:
        table = pd.read_parquet(path)
    except ImportError as error:
        raise MissingExtraError(f"{path}, a Parquet table,", "parquet") from error
    except Exception as error:  # pyarrow's own: whatever a damaged file raises
        raise StudyError(f"{path} is not a Parquet table that can be read: {str(error).splitlines()[0]}.") from error
    if not isinstance(table.index, pd.RangeIndex):
        table = table.reset_index()
    table = table.convert_dtypes()
    header = pd.DataFrame([[str(name) for name in table]], columns=list(table))
    cells = table.astype(str).where(table.notna(), "")
    return pd.concat([header, cells], ignore_index=True)


def _csv(path: Path, encoding: str | None) -> pd.DataFrame:
    options: dict = {"header": None, "skip_blank_lines": False, "encoding": encoding or _encoding(path)}
    cells = read_csv(path, **options)
    for separator in ";\t|":  # as spreadsheets write it where the comma is the decimal sign
        if cells.shape[1] == 1 and separator in str(cells.iloc[0, 0]):
            cells = read_csv(path, sep=separator, **options)
    return cells


def _encoding(path: Path) -> str:
    """UTF-8, UTF-16, or what Windows writes in Western Europe, which is logged since it is a guess."""
    data = path.read_bytes() if path.is_file() else b""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    if data[1:200:2].count(0) > 50 or data[:200:2].count(0) > 50:
        return "utf-16-le" if data[1:200:2].count(0) > 50 else "utf-16-be"
    try:
        if data[:2] != b"\x1f\x8b":  # gzip
            data.decode()
        return "utf-8-sig"
    except UnicodeDecodeError as error:
        row = data.count(b"\n", 0, error.start) + 1
        _log.warning("%s, row %d: not UTF-8; read as cp1252. Name another with `encoding`.", path, row)
        return "cp1252" if not set(data) & {0x81, 0x8D, 0x8F, 0x90, 0x9D} else "latin-1"


def chosen(raw: pd.DataFrame, source: Path, where: Mapping[str, str] | Iterable[str]) -> pd.DataFrame:
    """The rows that `where` chooses: several values of a column are alternatives."""
    pairs = where.items() if isinstance(where, Mapping) else [_pair(text) for text in where]
    wanted: dict[str, list[str]] = {}
    for column, value in pairs:
        wanted.setdefault(column, []).append(str(value))
    for column, values in wanted.items():
        cells = one(raw, source, column)
        raw = raw[cells.isin(values).to_numpy()]
        if raw.empty:
            there = ", ".join(cells.value_counts().index[:8])
            raise StudyError(f"{source}: no row has {column!r} = {' or '.join(values)}; it has {there}.")
    return raw


def _pair(text: str) -> tuple[str, str]:
    column, sign, value = text.partition("=")
    if not sign:
        raise StudyError(f"`where` takes COLUMN=VALUE, not {text!r}.")
    return column, value
