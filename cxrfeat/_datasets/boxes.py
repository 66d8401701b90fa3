"""Boxes of radiologists: the box lists of every dataset, and any CSV with named columns, to one table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from cxrfeat._datasets.dataset import DATASETS
from cxrfeat._files import read_csv
from cxrfeat._labels import canonical
from cxrfeat._remote import Url
from cxrfeat._study import Study
from cxrfeat.errors import NotFoundError, StudyError

COLUMNS = ("image_id", "label", "x", "y", "width", "height", "frame_width", "frame_height")


def read_boxes(path: str | Path) -> pd.DataFrame:
    """Read a box list, or the one in a dataset's folder: one of a known dataset, or any CSV with `COLUMNS`.

    Returns one row per box: `image_id`, `label`, `patient_id` (empty if unknown), and float64 `x`, `y` (the upper left
    corner), `width`, `height`, in pixels of the original, whose size is `frame_width`, `frame_height`.
    """
    path = Path(path)
    if not path.exists():
        raise NotFoundError(f"there is no box list {path}.")
    for dataset in DATASETS:
        if dataset.boxes is not None and (found := dataset.boxes(path)) is not None:
            return _checked(found, path)
    if path.is_dir():
        raise NotFoundError(f"there is no box list in {path}.")
    return _checked(read_csv(path), path)


def boxes_of(study: Study, path: str | Path | None = None) -> pd.DataFrame | None:
    """Read the boxes of a study's dataset, with the patient of each.

    Without `path`, the list is looked for in the folder that holds the images, up to five levels above them; None if
    there is none, or the images are at addresses. The whole list is returned, as `read_boxes` does, boxes of other
    images included; `patient_id` is the study's for its own images.
    """
    if path is not None:
        found = read_boxes(path)
    else:
        first = study.paths()[0]
        if isinstance(first, Url):
            return None
        folders = first.parents[:5]
        tables = (d.boxes(folder) for folder in folders for d in DATASETS if d.boxes is not None)
        table = next((table for table in tables if table is not None), None)
        if table is None:
            return None
        found = _checked(table, folders[0])
    own = found["image_id"].map(dict(zip(study.ids, study.patients, strict=True)))
    return found.assign(patient_id=own.fillna(found["patient_id"]))


def _checked(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    absent = [column for column in COLUMNS if column not in table]
    if absent:
        raise StudyError(f"{path} has no column {absent[0]!r}; a box list has {', '.join(COLUMNS)}.")
    numbers = list(COLUMNS[2:])
    values = table[numbers].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=float)
    bad = ~np.isfinite(values).all(axis=1) | (values[:, 2:] <= 0).any(axis=1)
    if bad.any():
        row = int(bad.argmax())
        raise StudyError(
            f"{path}, row {row + 2}: a box is four numbers x, y, width, height with a positive size, "
            f"not {', '.join(map(str, table[numbers[:4]].iloc[row]))}."
        )
    who = table["patient_id"].astype(str) if "patient_id" in table else ""
    found = table[["image_id"]].assign(label=table["label"].map(canonical), patient_id=who)
    return pd.concat([found, pd.DataFrame(values, columns=numbers, index=table.index)], axis=1)
