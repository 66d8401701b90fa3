"""Any CSV to a study: say which column is which."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from cxrfeat._datasets import findings, folders
from cxrfeat._datasets.options import Options
from cxrfeat._labels import NIH_LABELS, canonical
from cxrfeat._study import RESERVED, SPLITS, Study, numbers
from cxrfeat.errors import NotFoundError, StudyError

_TRUTH = {"1": 1.0, "1.0": 1.0, "true": 1.0, "yes": 1.0, "0": 0.0, "0.0": 0.0, "false": 0.0, "no": 0.0}
_UNKNOWN = {"", "nan", "na", "n/a", "none", "null"}
_SPLIT_NAMES = {"training": "train", "valid": "val", "validation": "val", "dev": "val", "testing": "test"}


def read(
    source: str | Path,
    *,
    image_id: str | None = None,
    path: str | None = None,
    patient: str | None = None,
    labels: Iterable[str] = (),
    findings_column: str | None = None,
    separator: str = "|",
    split: str | None = None,
    images: str | Path | None = None,
    **options: Any,
) -> Study:
    """Read a CSV with one row per image into a study.

    Parameters
    ----------
    source : str or Path
        The CSV.
    image_id, path, patient, split : str, optional
        The columns that hold them; by default those called `image_id`, `path`, `patient_id` and `split`. Without an
        id column the path is the id, and without a path column the id is the file's name. Without a split column
        the images are split by patient.
    labels : iterable of str
        The label columns, holding 1, 0 or nothing (also true/false, yes/no). By default every column that is not
        taken for something else and holds nothing but these; such columns that are not chosen are dropped.
    findings_column : str, optional
        The column that names findings in one cell, as `Effusion|Mass`; `labels` are then the findings there may be.
    separator : str
        What stands between two findings of that column.
    images : str or Path, optional
        The folder that relative paths start from; by default the CSV's own.
    **options
        `resplit`, `val`, `test`, `seed`, `skip_missing`, `tell` and `name`; see `datasets.options.Options`.

    Raises
    ------
    NotFoundError
        If the CSV or an image is not there.
    StudyError
        If a column is missing, a label cell is neither 1, 0 nor empty, or the result is not a study.
    LeakageError
        If the split column puts one patient on two sides.
    """
    chosen, source = Options(**options), Path(source)
    raw = _read_csv(source)
    image_id, path, patient = _key_columns(raw, source, image_id, path, patient)
    split = _column(raw, source, split, "split", needed=False)
    root = Path(images) if images is not None else source.parent
    if not root.is_dir():
        raise NotFoundError(f"there is no image folder {root}.")
    keys = {c for c in (image_id, path, patient, split, findings_column) if c}
    if findings_column:
        _column(raw, source, findings_column, findings_column)
        where = f"{source}, column {findings_column!r}"
        truth = findings.columns_of(raw[findings_column], separator, labels or None, where)
    else:
        truth = _label_columns(raw, source, list(labels), keys)
    table = pd.DataFrame({"image_id": raw[image_id], "path": raw[path], "patient_id": raw[patient]})
    table = pd.concat([table, _others(raw, {*keys, *table}), truth], axis=1)
    table["split"] = raw[split].str.strip().map(_side) if split else ""
    absent = folders.missing(root / p for p in table["path"])
    table = chosen.present(table, absent, table["path"], f"under {root}")
    if table.empty:
        raise StudyError(f"{source} has no rows.")
    listed = table["split"].to_numpy(dtype=str) if split else None
    table["split"] = chosen.sides(table[list(truth)].to_numpy(), table["patient_id"].to_numpy(dtype=str), listed)
    columns = [c for c in RESERVED if c in table] + [c for c in table if c not in RESERVED]
    return Study(table[columns], tuple(map(str, truth)), chosen.name or source.stem, root.resolve())


def _others(raw: pd.DataFrame, taken: set[str]) -> pd.DataFrame:
    """What is kept of the columns that are neither keys nor labels.

    A column of 1 and 0 that is kept would be a label to whoever reads the study, so what was not chosen goes.
    """
    kept = raw[[c for c in raw if c not in taken and (c in RESERVED or not _holds_truth(raw[c]))]].copy()
    for column in {"age", "follow_up"} & set(kept.columns):
        kept[column] = numbers(kept[column])
    return kept


def _read_csv(source: Path) -> pd.DataFrame:
    if not source.is_file():
        raise NotFoundError(f"there is no table {source}.")
    options: dict = {"dtype": str, "keep_default_na": False, "encoding": "utf-8-sig"}
    try:
        raw = pd.read_csv(source, **options)
        for separator in ";\t":  # as spreadsheets write it where the comma is the decimal sign
            if raw.shape[1] == 1 and separator in str(raw.columns[0]):
                raw = pd.read_csv(source, sep=separator, **options)
    except (ValueError, OSError, EOFError) as error:  # pandas' errors are ValueErrors; a bad gzip is one of the others
        raise StudyError(f"{source} is not a CSV table: {str(error).strip().splitlines()[0]}.") from error
    if raw.empty:
        raise StudyError(f"{source} has no rows.")
    return raw.set_axis([name.strip() for name in _names(raw)], axis=1)


def _names(raw: pd.DataFrame) -> list[str]:
    return [str(column) for column in raw.columns]


def _key_columns(
    raw: pd.DataFrame, source: Path, image_id: str | None, path: str | None, patient: str | None
) -> tuple[str, str, str]:
    """The columns of id, path and patient; id and path stand in for each other."""
    found_id = _column(raw, source, image_id, "image_id", needed=False)
    found_path = _column(raw, source, path, "path", needed=False)
    if not (found_id or found_path):
        raise StudyError(
            f"{source} has neither a column 'image_id' nor 'path'; name them with --id and --path. "
            f"Its columns are {', '.join(_names(raw))}."
        )
    found_patient = _column(raw, source, patient, "patient_id", needed=False)
    if not found_patient:
        raise StudyError(
            f"{source} has no column 'patient_id'; name it with --patient, so that no patient stands on two sides. "
            "If every image is of another patient, name the id column. "
            f"Its columns are {', '.join(_names(raw))}."
        )
    return found_id or found_path, found_path or found_id, found_patient


def _column(raw: pd.DataFrame, source: Path, given: str | None, usual: str, needed: bool = True) -> str:
    """The column named, or the usual one where there is such; an empty text for none."""
    if given is None and usual in raw.columns:
        return usual
    if given is None and not needed:
        return ""
    if given not in raw.columns:
        raise StudyError(f"{source} has no column {given or usual!r}; its columns are {', '.join(_names(raw))}.")
    return str(given)


def _label_columns(raw: pd.DataFrame, source: Path, wanted: list[str], keys: set[str]) -> pd.DataFrame:
    """The label columns as float64, under their canonical names."""
    if not wanted:
        found = [c for c in _names(raw) if c not in {*keys, *RESERVED} and _holds_truth(raw[c])]
        if not found:
            raise StudyError(
                f"{source} has no label column (1, 0 or empty in every row); name the label columns with --label, "
                "or the column that names findings with --findings."
            )
        by_name = {canonical(c): c for c in found}
        wanted = [c for c in NIH_LABELS if c in by_name] + [n for n in by_name if n not in NIH_LABELS]
    columns = {}
    for label in wanted:
        same = [c for c in _names(raw) if c == label] or [c for c in _names(raw) if canonical(c) == canonical(label)]
        if not same:
            raise StudyError(f"{source} has no label column {label!r}; its columns are {', '.join(_names(raw))}.")
        columns[canonical(label)] = _truth(raw[same[0]], source)
    return pd.DataFrame(columns)


def _holds_truth(column: pd.Series) -> bool:
    values = {str(v).strip().lower() for v in column.unique()}
    return values <= {*_TRUTH, *_UNKNOWN} and not values <= _UNKNOWN


def _truth(column: pd.Series, source: Path) -> pd.Series:
    cells = column.str.strip().str.lower()
    bad = ~cells.isin([*_TRUTH, *_UNKNOWN]).to_numpy()
    if bad.any():
        row = int(bad.argmax())
        raise StudyError(
            f"{source}, row {row + 2}, column {column.name!r}: {column.iloc[row]!r} is no label; "
            "1 is present, 0 absent, and an empty cell unknown."
        )
    return cells.map(_TRUTH).astype(float)


def _side(text: str) -> str:
    """The split's usual name."""
    folded = text.lower()
    return folded if folded in SPLITS else _SPLIT_NAMES.get(folded, text)
