"""NIH ChestX-ray14: the release's folder to a study.

Wang et al., "ChestX-ray8: Hospital-scale chest X-ray database and benchmarks", CVPR 2017, pp. 3462-3471.
Images and tables: https://nihcc.app.box.com/v/ChestXray-NIHCC.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from cxrfeat._datasets import findings, folders
from cxrfeat._datasets.options import Options
from cxrfeat._labels import NIH_LABELS
from cxrfeat._study import Study, numbers
from cxrfeat.errors import NotFoundError, StudyError

TABLES = (
    "Data_Entry_2017_v2020.csv",
    "Data_Entry_2017_v2020.csv.gz",
    "Data_Entry_2017.csv",
    "Data_Entry_2017.csv.gz",
)
LISTS = {"train": "train_val_list.txt", "test": "test_list.txt"}
_COLUMNS = {
    "Image Index": "image_id",
    "Patient ID": "patient_id",
    "View Position": "view",
    "Patient Gender": "sex",
    "Patient Age": "age",
    "Follow-up #": "follow_up",
}
_YEARS = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}


def read(
    source: str | Path,
    images: str | Path | Literal["auto"] | None = "auto",
    **options: Any,
) -> Study:
    """Read a release folder, or its table, into a study with the 14 labels.

    Parameters
    ----------
    source : str or Path
        The folder with `Data_Entry_2017_v2020.csv` (or the older `Data_Entry_2017.csv`, gzipped or not), or that
        file itself.
    images : str, Path, "auto" or None
        The image folder. `auto` looks beside the table: `images/`, `images_001/images/` to `images_012/images/`, or
        the folder itself. None does not look for images at all, for work with the table alone.
    **options
        `resplit`, `val`, `test`, `seed`, `skip_missing`, `tell` and `name`; see `datasets.options.Options`. The
        official lists are `train_val_list.txt` and `test_list.txt` beside the table.

    Returns
    -------
    Study
        Splits `train`, `val` and `test`, disjoint in patients; `view`, `sex`, `age` (years) and `follow_up` kept.

    Raises
    ------
    NotFoundError
        If the table, the image folder or an image is not there.
    StudyError
        If the table is not the release's, or names an unknown finding.
    LeakageError
        If the lists put one patient on both sides.
    """
    chosen = Options(**options)
    table_path = _find_table(Path(source))
    folder = table_path.parent
    table = _read_table(table_path)
    if images is None:
        table["path"] = "images/" + table["image_id"]
    else:
        where = [Path(images)] if images != "auto" else _image_folders(folder)
        if not where[0].is_dir():
            raise NotFoundError(f"there is no image folder {where[0]}; say where the images are.")
        table["path"] = folders.locate(table["image_id"], [f.absolute() for f in where])
        shown = f"{where[0]}" + (f" and {len(where) - 1} more" if len(where) > 1 else "")
        absent = (table["path"] == "").to_numpy()
        table = chosen.present(table, absent, table["image_id"], f"in {shown}")
    y = table[list(NIH_LABELS)].to_numpy()
    patients = table["patient_id"].to_numpy(dtype=str)
    listed = None if chosen.resplit else _read_lists(folder, table["image_id"])
    table["split"] = chosen.sides(y, patients, listed)
    order = ["image_id", "path", "patient_id", "split", "view", "sex", "age", "follow_up", *NIH_LABELS]
    name = chosen.name or folder.resolve().name
    return Study(table[[c for c in order if c in table]], NIH_LABELS, name, folder.resolve())


def is_table(path: str | Path) -> bool:
    """Whether there is such a file, and its header is that of the release's label table."""
    if not Path(path).is_file():
        return False
    try:
        return {"Image Index", "Finding Labels", "Patient ID"} <= set(pd.read_csv(path, nrows=0).columns)
    except (ValueError, OSError, EOFError):  # no CSV, or a bad gzip
        return False


def _find_table(source: Path) -> Path:
    if source.is_file():
        return source
    if not source.is_dir():
        raise NotFoundError(f"there is no file or folder {source}.")
    for file in TABLES:
        if (source / file).is_file():
            return source / file
    raise NotFoundError(f"{source} holds no {TABLES[0]}; it is not a ChestX-ray14 release folder.")


def _read_table(path: Path) -> pd.DataFrame:
    wanted = {*_COLUMNS, "Finding Labels"}
    try:
        raw = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig", usecols=lambda c: c in wanted)
    except (
        ValueError,
        OSError,
    ) as error:  # pandas' ParserError and EmptyDataError are ValueErrors; a bad gzip, OSError
        raise StudyError(f"{path} is not a CSV table: {str(error).strip().splitlines()[0]}.") from error
    for column in ("Image Index", "Finding Labels", "Patient ID"):
        if column not in raw.columns:
            raise StudyError(f"{path} has no column {column!r}; the release's table has {', '.join(sorted(wanted))}.")
    if raw.empty:
        raise StudyError(f"{path} has no rows.")
    table = raw.drop(columns="Finding Labels").rename(columns=_COLUMNS)
    if "age" in table:
        table["age"] = _years(table["age"])
    if "follow_up" in table:
        table["follow_up"] = numbers(table["follow_up"])
    labels = findings.columns_of(raw["Finding Labels"], "|", NIH_LABELS, f"{path}, column 'Finding Labels'")
    return pd.concat([table, labels], axis=1)


def _years(ages: pd.Series) -> pd.Series:
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


def _read_lists(folder: Path, image_ids: pd.Series) -> np.ndarray | None:
    """The official side of each image, `train` or `test`, or None where there are no lists."""
    present = {split: folder / file for split, file in LISTS.items() if (folder / file).is_file()}
    if not present:
        return None
    if len(present) < len(LISTS):
        absent = next(file for split, file in LISTS.items() if split not in present)
        raise NotFoundError(f"{folder / absent} is missing, though its fellow is there; add it, or use --resplit.")
    side = np.full(len(image_ids), "", dtype="U5")
    for split, file in present.items():
        named = image_ids.isin(file.read_text(encoding="utf-8-sig").split()).to_numpy()
        if (both := named & (side != "")).any():
            raise StudyError(f"{image_ids[both].iloc[0]!r} stands in both {' and '.join(LISTS.values())} of {folder}.")
        side[named] = split
    if (nowhere := side == "").any():
        raise StudyError(
            f"{int(nowhere.sum())} of {len(side)} images are in neither {' nor '.join(LISTS.values())} of {folder}, "
            f"the first is {image_ids[nowhere].iloc[0]!r}. Complete the lists, or split anew with --resplit."
        )
    return side
