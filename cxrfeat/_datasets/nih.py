"""NIH ChestX-ray14: the release's folder to a study, and the labels that Google's radiologists gave some of its images.

Wang et al., "ChestX-ray8: Hospital-scale chest X-ray database and benchmarks", CVPR 2017, pp. 3462-3471.
Images and tables: https://nihcc.app.box.com/v/ChestXray-NIHCC.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from cxrfeat._datasets.cells import coded, named
from cxrfeat._datasets.dataset import Dataset
from cxrfeat._datasets.release import cells_of, known_by, locate, one_table, tables_of
from cxrfeat._files import read_csv
from cxrfeat._labels import NIH_LABELS, canonical
from cxrfeat._remote import Place
from cxrfeat._study import numbers
from cxrfeat.errors import NotFoundError, StudyError

TABLES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")
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
_GOOGLE_TABLES = (
    "*test_labels.csv", "*validation_labels.csv",
    "four_findings_expert_labels/*test_labels.csv", "four_findings_expert_labels/*validation_labels.csv",
    "google2019_nih-chest-xray-labels.csv",  # both, as TorchXRayVision has them
)  # fmt: skip
_GOOGLE_FINDINGS = ("Pneumothorax", "Nodule or mass", "Airspace opacity", "Fracture")
_GOOGLE = ("Image Index", *_GOOGLE_FINDINGS, "Set Id")
_YEARS = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}


def read(
    source: Path, images: Path | None = None, *, resplit: bool = False, missing: str = "error"
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Read a release folder, or its table: the 14 labels, ages in years, and the official lists beside it.

    Without `images` they are looked for in `images/`, in `images_001/images/` to `images_012/images/`, or in the folder
    itself.
    """
    path = one_table(source, TABLES, _NEEDED)
    raw = cells_of(path, _NEEDED, _COLUMNS)
    labels = named(raw.pop("Finding Labels"), "|", NIH_LABELS, f"{path}, column 'Finding Labels'")
    table = _films(raw.join(labels), path.parent, images, missing)
    if not resplit and (lists := _read_lists(path.parent, table["image_id"])) is not None:
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


def read_google(
    source: Path, images: Path | None = None, *, missing: str = "error"
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Read the labels of four findings that radiologists at Google agreed on, with their sets `val` and `test`."""
    parts = []
    for path in tables_of(source, _GOOGLE_TABLES, _GOOGLE):
        raw = cells_of(path, (*_GOOGLE, *_COLUMNS))
        labels = coded(raw, _GOOGLE_FINDINGS, path, {"YES": 1.0, "NO": 0.0, "": np.nan})
        parts.append(raw.drop(columns=list(_GOOGLE_FINDINGS)).rename(columns={"Set Id": "split"}).join(labels))
    folder = source if source.is_dir() else source.parent
    table = _films(pd.concat(parts, ignore_index=True), folder, images, missing)
    return table, tuple(map(canonical, _GOOGLE_FINDINGS))


DATASET = Dataset(
    title="a ChestX-ray14 release",
    recognises=known_by(TABLES, _NEEDED, by_name=True),
    read=read,
    labels=NIH_LABELS,
    boxes=boxes,
    name="ChestX-ray14",
    image_ids=r"\d{8}_\d{3}(\.png)?",
    get="Download `images_001.tar.gz` to `images_012.tar.gz`, `Data_Entry_2017_v2020.csv`, `train_val_list.txt`, "
    "`test_list.txt` and `BBox_List_2017.csv` from https://nihcc.app.box.com/v/ChestXray-NIHCC into one folder, and "
    "unpack the images there (45 GB).",
    licence="No restriction on use. Give the link above, cite the paper, and acknowledge the NIH Clinical Center.",
    citation="Wang X, Peng Y, Lu L, Lu Z, Bagheri M, Summers RM. ChestX-ray8: Hospital-scale chest X-ray database and "
    "benchmarks on weakly-supervised classification and localization of common thorax diseases. CVPR 2017, 3462-3471.",
    traps=(
        "The labels were extracted from reports by software; the authors give an accuracy of more than 90 %. Nothing "
        "is uncertain in the table, and what was not mentioned is absent.",
        "The table of 2017 has ages up to 414 years. Ages over 120 are read as unknown.",
        "The official lists name no validation images; 10 % of all are taken from the training patients.",
        "`BBox_List_2017.csv` has 984 boxes on 880 images, of eight findings; it writes `Infiltrate` for "
        "`Infiltration`.",
    ),
    command="cxrfeat study build ChestX-ray14 -o studies/nih.csv",
    counts={
        "images": 112_120, "patients": 30_805, "images in test": 25_596, "Atelectasis": 11_559, "Cardiomegaly": 2_776,
        "Effusion": 13_317, "Infiltration": 19_894, "Mass": 5_782, "Nodule": 6_331, "Pneumonia": 1_431,
        "Pneumothorax": 5_302, "Consolidation": 4_667, "Edema": 2_303, "Emphysema": 2_516, "Fibrosis": 1_686,
        "Pleural_Thickening": 3_385, "Hernia": 227,
    },
    counted="the release's table, and its README for the list",
)  # fmt: skip
GOOGLE = Dataset(
    title="Google's labels for ChestX-ray14",
    recognises=known_by(_GOOGLE_TABLES, _GOOGLE),
    read=read_google,
    labels=tuple(map(canonical, _GOOGLE_FINDINGS)),
    get="Download `test_labels.csv` and `validation_labels.csv` of `four_findings_expert_labels` from "
    "https://cloud.google.com/healthcare-api/docs/resources/public-datasets/nih-chest. The images are those of "
    "ChestX-ray14: name their folder with `--images`.",
    licence="Of the labels: for research and education only. Of the images: as ChestX-ray14.",
    citation="Majkowska A, Mittal S, Steiner DF, et al. Chest radiograph interpretation with deep learning models: "
    "assessment with radiologist-adjudicated reference standards and population-adjusted evaluation. Radiology 2020; "
    "294(2):421-431.",
    traps=(
        "`Airspace opacity` is read as `Lung Opacity`, and `Nodule or mass` as `Nodule/Mass`. `Pneumothorax` has the "
        "name of an NIH label and another meaning: radiologists looked at the image.",
        "The images are also in ChestX-ray14, the `val` part among its training images. To add these labels to those "
        "of the NIH, merge the two studies with `--same-patients`, this one first.",
    ),
    command="cxrfeat study build google-labels --images ChestX-ray14/images -o studies/nih-google.csv",
    counts={
        "images": 4_376, "patients": 1_695, "images in val": 2_414, "images in test": 1_962, "Fracture": 186,
        "Pneumothorax": 238, "Lung Opacity": 2_166, "Nodule/Mass": 605,
    },
    counted="the two published tables",
)  # fmt: skip


def _films(raw: pd.DataFrame, folder: Path, images: Place | None, missing: str) -> pd.DataFrame:
    """The table with the usual columns; a path is empty where no folder has it, or `images/` if it may be missing."""
    table = raw.rename(columns=_COLUMNS)
    if "age" in table:
        table["age"] = years(table["age"])
    folders = [*([images] if images is not None else []), *_image_folders(images or folder)]
    table["path"] = locate(table["image_id"], [*dict.fromkeys(folders)])
    if missing == "keep":
        table["path"] = table["path"].where(table["path"] != "", "images/" + table["image_id"])
    return table


def years(ages: pd.Series) -> pd.Series:
    """Ages in years: plain numbers as in the 2020 table, or `058Y`, `006M`, `010D` as in the older one.

    The older table has ages up to 414 years; what is over 120 is unknown.
    """
    codes, texts = pd.factorize(ages)
    parts = pd.Series(texts, dtype=object).astype(str).str.extract(r"^\s*(\d+(?:\.\d+)?)\s*([YMWDymwd]?)\s*$")
    years = numbers(parts[0]) * parts[1].str.upper().map(_YEARS).fillna(1.0)
    return pd.Series(years.where(years <= 120).round(3).to_numpy()[codes], index=ages.index)


def _image_folders(folder: Place) -> list[Place]:
    parts = sorted(p / "images" if (p / "images").is_dir() else p for p in folder.glob("images_*") if p.is_dir())
    plain = [folder / "images"] if (folder / "images").is_dir() else []
    return [*plain, *parts] or [folder]


def _read_lists(folder: Path, image_ids: pd.Series) -> np.ndarray | None:
    """The official split of each image, `train` or `test`, or None without lists."""
    absent = [file for file in LISTS.values() if not (folder / file).is_file()]
    if len(absent) == len(LISTS):
        return None
    if absent:
        raise NotFoundError(
            f"{folder / absent[0]} is missing, and the other list is not; add it, or use `resplit=True`."
        )
    split = np.full(len(image_ids), "", dtype="U5")
    for name, file in LISTS.items():
        listed = image_ids.isin((folder / file).read_text(encoding="utf-8-sig").split()).to_numpy()
        if (both := listed & (split != "")).any():
            raise StudyError(f"{image_ids[both].iloc[0]!r} is in both {' and '.join(LISTS.values())} of {folder}.")
        split[listed] = name
    if (nowhere := split == "").any():
        raise StudyError(
            f"{int(nowhere.sum())} of {len(split)} images are in neither {' nor '.join(LISTS.values())} of {folder}, "
            f"the first is {image_ids[nowhere].iloc[0]!r}. Complete the lists, or use `resplit=True`."
        )
    return split
