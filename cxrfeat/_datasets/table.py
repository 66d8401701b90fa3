"""Any table with one row per image; options of `read_study` say which column is which."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from cxrfeat._datasets.cells import Policy, named
from cxrfeat._datasets.dataset import Dataset
from cxrfeat._datasets.spreadsheet import first, one, read_table
from cxrfeat._labels import canonical
from cxrfeat._remote import Place, Url, clean
from cxrfeat._study import RESERVED, SPLITS, looks_like_labels
from cxrfeat.errors import StudyError

_log = logging.getLogger(__name__)

_TRUTH = {"1": 1.0, "1.0": 1.0, "true": 1.0, "yes": 1.0, "0": 0.0, "0.0": 0.0, "false": 0.0, "no": 0.0}
_UNKNOWN = {"", "nan", "na", "n/a", "none", "null"}
_UNCERTAIN = {"-1", "-1.0", "u", "uncertain"}
_SPLIT_NAMES = {name: name for name in SPLITS} | {
    "training": "train", "valid": "val", "validation": "val", "dev": "val", "testing": "test",
}  # fmt: skip


def read(
    source: Path,
    images: Place | None = None,
    *,
    image_id: str | None = None,
    path: str | None = None,
    patient: str | None = None,
    labels: Iterable[str] = (),
    findings: str | None = None,
    separator: str = "|",
    split: str | None = None,
    uncertain: Policy | None = None,
    soft: bool = False,
    where: Mapping[str, str] | Iterable[str] = (),
    encoding: str | None = None,
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Read a table: its keys under their usual names, its labels as numbers, and every other column as it is."""
    raw = read_table(source, encoding, where)
    image_id, path, patient = _key_columns(raw, source, image_id, path, patient)
    split = split or ("split" if "split" in raw else None)
    keys = {c for c in (image_id, path, patient, split, findings) if c}
    if findings:
        truth = named(one(raw, source, findings), separator, labels, f"{source}, column {findings!r}")
    else:
        truth = _label_columns(raw, source, list(labels), keys, uncertain is not None or soft)
    table = pd.DataFrame(
        {
            "image_id": one(raw, source, image_id).map(clean),
            "path": _paths(one(raw, source, path), source, images),
            "patient_id": one(raw, source, patient),
        }
    )
    if split:
        table["split"] = one(raw, source, split).map(split_name)
    rest = raw.loc[:, ~raw.columns.isin([*table, *truth, "split"]) & ~raw.columns.duplicated(keep=False)]
    return pd.concat([table, rest, truth], axis=1), tuple(map(str, truth))


DATASET = Dataset(title="a table", recognises=Path.is_file, read=read, generic=True)


def _key_columns(
    raw: pd.DataFrame, source: Path, image_id: str | None, path: str | None, patient: str | None
) -> tuple[str, str, str]:
    """The columns of id, path and patient; without the one, the other is used."""
    columns = f"Its columns are {', '.join(map(str, dict.fromkeys(raw)))}."
    image_id = image_id or ("image_id" if "image_id" in raw else None)
    path = path or ("path" if "path" in raw else image_id)
    if not path:
        raise StudyError(
            f"{source} has neither a column 'image_id' nor 'path'; name them with `image_id` and `path`. {columns}"
        )
    if not patient and "patient_id" not in raw:
        raise StudyError(
            f"{source} has no column 'patient_id'; name it with `patient`, so that no patient is in two splits. "
            f"If every image is of another patient, name the id column. {columns}"
        )
    return image_id or path, path, patient or "patient_id"


def _paths(cells: pd.Series, source: Path, images: Place | None) -> pd.Series:
    """Paths with this system's separator, under the image folder if one is named."""
    cells = cells.map(clean)
    if os.sep == "/" and (windows := cells.str.contains("\\", regex=False)).any():
        cells = cells.mask(windows, cells.str.replace("\\", "/", regex=False))
        drive = cells.str.contains(r"^(?:[A-Za-z]:|//)", regex=True)
        if drive.any() and images is None:
            row, name = first(cells, drive)
            raise StudyError(
                f"{source}, row {row}: {name!r} is a path of another machine; name the folder of the files with "
                "`images`."
            )
        cells = cells.mask(drive, cells.str.rpartition("/")[2])
    if images is None:
        return cells
    folder = str(images).rstrip("/") if isinstance(images, Url) else os.path.abspath(images)  # noqa: PTH100 - links stay
    return cells.where(cells.str.startswith("/") | cells.str.contains("://", regex=False), f"{folder}/" + cells)


def _label_columns(raw: pd.DataFrame, source: Path, wanted: list[str], keys: set[str], uncertain: bool) -> pd.DataFrame:
    """The label columns as float64, under their canonical names."""
    names = [str(name) for name in dict.fromkeys(raw)]
    if not wanted:
        words = {*_TRUTH, *(_UNCERTAIN if uncertain else ())}
        found = [
            c for _, c in raw.items() if c.name not in {*keys, *RESERVED} and looks_like_labels(c, words, _UNKNOWN)
        ]
        wanted = [str(name) for name in dict.fromkeys(c.name for c in found)]
        if not wanted:
            _log.warning("%s has no label column (1, 0 or empty in every row): the study has no labels.", source)
    columns: dict[str, pd.Series] = {}
    for label in wanted:
        same = [c for c in names if c == label] or [c for c in names if canonical(c) == canonical(label)]
        if not same:
            raise StudyError(f"{source} has no label column {label!r}; its columns are {', '.join(names)}.")
        earlier = columns.get(canonical(label))
        if earlier is not None and earlier.name != same[0]:
            raise StudyError(f"{source}, row 1: the columns {earlier.name!r} and {same[0]!r} are the same label.")
        columns[canonical(label)] = _truth(one(raw, source, same[0]), source, uncertain)
    return pd.DataFrame(columns, index=raw.index)


def _truth(column: pd.Series, source: Path, uncertain: bool) -> pd.Series:
    meaning = _TRUTH | (dict.fromkeys(_UNCERTAIN, -1.0) if uncertain else {})
    cells = column.str.lower()
    bad = ~cells.isin([*meaning, *_UNKNOWN])
    if bad.any():
        (row, cell), more = first(column, bad), int(bad.sum()) - 1
        fix = (
            "Say with `uncertain` what it means: unknown, positive or negative."
            if cell.lower() in _UNCERTAIN
            else "Fix the table, or name the label columns with `labels`."
        )
        raise StudyError(
            f"{source}, row {row}, column {column.name!r}: {cell!r} is not a label; 1 is present, 0 absent, "
            f"and an empty cell unknown{f' ({more} more such cells)' if more else ''}. {fix}"
        )
    return cells.map(meaning).astype(float)


def split_name(text: str) -> str:
    return _SPLIT_NAMES.get(text.lower(), text)
