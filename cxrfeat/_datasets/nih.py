"""NIH ChestX-ray14: the release's folder to a study.

Wang et al., "ChestX-ray8: Hospital-scale chest X-ray database and benchmarks", CVPR 2017, pp. 3462-3471.
Images and tables: https://nihcc.app.box.com/v/ChestXray-NIHCC.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd

from cxrfeat._datasets import findings
from cxrfeat._datasets.dataset import Dataset
from cxrfeat._files import csv_columns, read_csv
from cxrfeat._labels import NIH_LABELS
from cxrfeat._study import numbers
from cxrfeat.errors import NotFoundError, StudyError

TABLES = tuple(f"Data_Entry_2017{version}.csv{gz}" for version in ("_v2020", "") for gz in ("", ".gz"))
LISTS = {"train": "train_val_list.txt", "test": "test_list.txt"}
BOXES = "BBox_List_2017.csv"
SIDE = 1024
"""The boxes are in pixels of the originals, which are squares of this side."""

_COLUMNS = {
    "Image Index": "image_id",
    "Patient ID": "patient_id",
    "View Position": "view",
    "Patient Gender": "sex",
    "Patient Age": "age",
    "Follow-up #": "follow_up",
}
_NEEDED = ("Image Index", "Finding Labels", "Patient ID")
_YEARS = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}


def recognises(source: Path) -> bool:
    """Whether `source` is a release folder, or a file with the header of its label table."""
    if source.is_dir():
        return any((source / file).is_file() for file in TABLES)
    return set(_NEEDED) <= csv_columns(source)


def read(
    source: Path, images: Path | None = None, *, resplit: bool = False, missing: str = "error"
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Read a release folder, or its table: the 14 labels, ages in years, and the official lists beside it.

    Without `images` they are looked for in `images/`, in `images_001/images/` to `images_012/images/`, or in the folder
    itself.
    """
    path = source if source.is_file() else next(source / file for file in TABLES if (source / file).is_file())
    folder = path.parent
    table = _read_table(path)
    folders = [images] if images is not None else _image_folders(folder)
    if not folders[0].is_dir():
        raise NotFoundError(f"there is no image folder {folders[0]}; name it with `images`.")
    table["path"] = _locate(table["image_id"], folders)
    if missing == "keep":
        table["path"] = table["path"].where(table["path"] != "", "images/" + table["image_id"])
    if not resplit and (lists := _read_lists(folder, table["image_id"])) is not None:
        table["split"] = lists
    return table, NIH_LABELS


def boxes(source: Path) -> pd.DataFrame | None:
    """Read `BBox_List_2017.csv`; None where there is none, or the file is another kind of list.

    Its header is `Image Index,Finding Label,Bbox [x,y,w,h],,,`: the four numbers go by their position, and the columns
    after them are empty. `Infiltrate` is read as `Infiltration`.
    """
    path = source / BOXES if source.is_dir() else source
    if not path.is_file():
        return None
    raw = read_csv(path, header=None)
    if list(raw.iloc[0, :2]) != ["Image Index", "Finding Label"]:
        return None
    if raw.shape[1] < 6:
        raise StudyError(f"{path} has {raw.shape[1]} columns; a box list has image, finding, x, y, width and height.")
    table = raw.iloc[1:, :6].set_axis(["image_id", "label", "x", "y", "width", "height"], axis=1)
    return table.assign(frame_width=SIDE, frame_height=SIDE, patient_id=table["image_id"].str.partition("_")[0])


DATASET = Dataset(
    title="a ChestX-ray14 release",
    recognises=recognises,
    read=read,
    boxes=boxes,
    name="ChestX-ray14",
    image_ids=r"\d{8}_\d{3}(\.png)?",
)


def _read_table(path: Path) -> pd.DataFrame:
    wanted = {*_COLUMNS, "Finding Labels"}
    raw = read_csv(path, usecols=lambda c: c in wanted)
    for column in _NEEDED:
        if column not in raw.columns:
            raise StudyError(f"{path} has no column {column!r}; the release's table has {', '.join(sorted(wanted))}.")
    if raw.empty:
        raise StudyError(f"{path} has no rows.")
    table = raw.drop(columns="Finding Labels").rename(columns=_COLUMNS)
    if "age" in table:
        table["age"] = years(table["age"])
    labels = findings.columns_of(raw["Finding Labels"], "|", NIH_LABELS, f"{path}, column 'Finding Labels'")
    return pd.concat([table, labels], axis=1)


def years(ages: pd.Series) -> pd.Series:
    """Ages in years: plain numbers as in the 2020 table, or `058Y`, `006M`, `010D` as in the older one.

    The older table has ages up to 414 years; what is over 120 is unknown.
    """
    codes, texts = pd.factorize(ages)
    parts = pd.Series(texts, dtype=object).astype(str).str.extract(r"^\s*(\d+(?:\.\d+)?)\s*([YMWDymwd]?)\s*$")
    years = numbers(parts[0]) * parts[1].str.upper().map(_YEARS).fillna(1.0)
    return pd.Series(years.where(years <= 120).round(3).to_numpy()[codes], index=ages.index)


def _image_folders(folder: Path) -> list[Path]:
    parts = sorted(p / "images" if (p / "images").is_dir() else p for p in folder.glob("images_*") if p.is_dir())
    plain = [folder / "images"] if (folder / "images").is_dir() else []
    return [*plain, *parts] or [folder]


def _locate(names: pd.Series, folders: list[Path]) -> pd.Series:
    """Path of each named file, empty if no folder has it; the first folder that has it counts. Each is listed once."""
    where: dict[str, str] = {}
    for folder in reversed(folders):
        with os.scandir(folder.absolute()) as entries:
            where.update((entry.name, entry.path) for entry in entries)
    return names.map(where).fillna("")


def _read_lists(folder: Path, image_ids: pd.Series) -> np.ndarray | None:
    """The official split of each image, `train` or `test`, or None without lists."""
    present = {split: folder / file for split, file in LISTS.items() if (folder / file).is_file()}
    if not present:
        return None
    if len(present) < len(LISTS):
        absent = next(file for split, file in LISTS.items() if split not in present)
        raise NotFoundError(f"{folder / absent} is missing, and the other list is not; add it, or use `resplit=True`.")
    split = np.full(len(image_ids), "", dtype="U5")
    for name, file in present.items():
        named = image_ids.isin(file.read_text(encoding="utf-8-sig").split()).to_numpy()
        if (both := named & (split != "")).any():
            raise StudyError(f"{image_ids[both].iloc[0]!r} is in both {' and '.join(LISTS.values())} of {folder}.")
        split[named] = name
    if (nowhere := split == "").any():
        raise StudyError(
            f"{int(nowhere.sum())} of {len(split)} images are in neither {' nor '.join(LISTS.values())} of {folder}, "
            f"the first is {image_ids[nowhere].iloc[0]!r}. Complete the lists, or use `resplit=True`."
        )
    return split
