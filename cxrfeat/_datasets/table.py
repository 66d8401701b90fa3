"""Any table with one row per image; options of `read_study` say which column is which."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from cxrfeat._datasets import findings as findings_cells
from cxrfeat._datasets.dataset import Dataset
from cxrfeat._files import read_csv
from cxrfeat._labels import NIH_LABELS, canonical
from cxrfeat._study import RESERVED, SPLITS
from cxrfeat.errors import NotFoundError, StudyError

_TRUTH = {"1": 1.0, "1.0": 1.0, "true": 1.0, "yes": 1.0, "0": 0.0, "0.0": 0.0, "false": 0.0, "no": 0.0}
_UNKNOWN = {"", "nan", "na", "n/a", "none", "null"}
_SPLIT_NAMES = {"training": "train", "valid": "val", "validation": "val", "dev": "val", "testing": "test"}


def read(
    source: Path,
    images: Path | None = None,
    *,
    image_id: str | None = None,
    path: str | None = None,
    patient: str | None = None,
    labels: Iterable[str] = (),
    findings: str | None = None,
    separator: str = "|",
    split: str | None = None,
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Read a table: its keys under their usual names, its labels as numbers, and every other column as it is."""
    raw = _read(source)
    image_id, path, patient = _key_columns(raw, source, image_id, path, patient)
    split = _column(raw, source, split, "split", needed=False)
    if images is not None and not images.is_dir():
        raise NotFoundError(f"there is no image folder {images}.")
    keys = {c for c in (image_id, path, patient, split, findings) if c}
    if findings:
        _column(raw, source, findings, findings)
        where = f"{source}, column {findings!r}"
        truth = findings_cells.columns_of(raw[findings], separator, labels or None, where)
    else:
        truth = _label_columns(raw, source, list(labels), keys)
    paths = raw[path] if images is None else f"{os.path.abspath(images)}/" + raw[path]  # noqa: PTH100 - links stay
    table = pd.DataFrame({"image_id": raw[image_id], "path": paths, "patient_id": raw[patient]})
    if split:
        table["split"] = raw[split].str.strip().map(_split_name)
    rest = raw[[c for c in raw if c not in {*table, *truth, "split"}]]
    return pd.concat([table, rest, truth], axis=1), tuple(map(str, truth))


DATASET = Dataset(title="a table", recognises=Path.is_file, read=read, generic=True)


def _read(source: Path) -> pd.DataFrame:
    raw = read_csv(source)
    for separator in ";\t":  # as spreadsheets write it where the comma is the decimal sign
        if raw.shape[1] == 1 and separator in str(raw.columns[0]):
            raw = read_csv(source, sep=separator)
    if raw.empty:
        raise StudyError(f"{source} has no rows.")
    return raw.set_axis([name.strip() for name in _names(raw)], axis=1)


def _names(raw: pd.DataFrame) -> list[str]:
    return [str(column) for column in raw.columns]


def _key_columns(
    raw: pd.DataFrame, source: Path, image_id: str | None, path: str | None, patient: str | None
) -> tuple[str, str, str]:
    """The columns of id, path and patient; without the one, the other is used."""
    found_id = _column(raw, source, image_id, "image_id", needed=False)
    found_path = _column(raw, source, path, "path", needed=False)
    if not (found_id or found_path):
        raise StudyError(
            f"{source} has neither a column 'image_id' nor 'path'; name them with `image_id` and `path`. "
            f"Its columns are {', '.join(_names(raw))}."
        )
    found_patient = _column(raw, source, patient, "patient_id", needed=False)
    if not found_patient:
        raise StudyError(
            f"{source} has no column 'patient_id'; name it with `patient`, so that no patient is in two splits. "
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
                f"{source} has no label column (1, 0 or empty in every row); name the label columns with `labels`, "
                "or the column that names findings with `findings`."
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
            f"{source}, row {row + 2}, column {column.name!r}: {column.iloc[row]!r} is not a label; "
            "1 is present, 0 absent, and an empty cell unknown."
        )
    return cells.map(_TRUTH).astype(float)


def _split_name(text: str) -> str:
    """The split's usual name."""
    folded = text.lower()
    return folded if folded in SPLITS else _SPLIT_NAMES.get(folded, text)
