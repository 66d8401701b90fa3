"""CheXpert with the test set of CheXlocalize, and CheXpert Plus: folders of patients, studies and views."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from cxrfeat._datasets.cells import coded
from cxrfeat._datasets.dataset import Dataset
from cxrfeat._datasets.release import cells_of, image_folder, known_by, one_table, tables_of
from cxrfeat._labels import canonical
from cxrfeat._remote import Place
from cxrfeat._study import numbers
from cxrfeat.errors import StudyError

_log = logging.getLogger(__name__)

FINDINGS = (
    "No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema",
    "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture",
    "Support Devices",
)  # fmt: skip
"""In the order of the tables."""

TABLES = tuple(
    f"{folder}{file}.csv"
    for folder in ("", "CheXpert/", "CheXpert-v1.0*/")
    for file in ("train", "valid", "test", "val_labels", "test_labels")
)
PLUS_TABLES = ("df_chexpert_plus_*.csv",)
CONTOURS = ("gt_annotations_test.json", "gt_annotations_val.json")

_NEEDED = ("Path", "Enlarged Cardiomediastinum", "Pleural Effusion", "Support Devices")
_NAMES = {"Sex": "sex", "Age": "age", "Frontal/Lateral": "frontal_lateral", "AP/PA": "ap_pa"}  # as Plus has them
_MORE = (*_NAMES, "Airspace Opacity", *FINDINGS)
_PLUS = ("path_to_image", "deid_patient_id", "split")
_SPLITS = {"train": "train", "valid": "val", "val": "val", "test": "test"}
_SEXES = {"Female": "F", "Male": "M", "Unknown": ""}

Unmentioned = Literal["unknown", "negative"]


def read(
    source: Path, images: Path | None = None, *, unmentioned: Unmentioned = "unknown"
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Read the tables of a folder, or one of them: `train.csv`, `valid.csv`, and the test labels of CheXlocalize.

    `CheXpert-v1.0`, `CheXpert-v1.0-small` and the folders of the batches are found in the source or around its tables.
    """
    parts = []
    for path in _once(tables_of(source, TABLES, _NEEDED)):
        raw = cells_of(path, _NEEDED, _MORE)
        findings = [c for c in raw if c in FINDINGS or c == "Airspace Opacity"]
        part = _of_paths(raw["Path"], path, path.parent if images is None else images)
        parts.append(pd.concat([part, _facts(raw.rename(columns=_NAMES)), coded(raw, findings, path)], axis=1))
    return with_unmentioned(pd.concat(parts, ignore_index=True), unmentioned)


def read_plus(
    source: Path, images: Path | None = None, *, unmentioned: Unmentioned = "unknown"
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Read the table of CheXpert Plus, and labels from `chexbert_labels/report_fixed.json` if that is beside it."""
    path = one_table(source, PLUS_TABLES, _PLUS)
    raw = cells_of(path, _PLUS, ("frontal_lateral", "ap_pa", "age", "sex", "race"))  # and no report
    table = _of_paths(raw["path_to_image"], path, image_folder(source, images, "PNG", "PNG/PNG", "DICOM", "images"))
    # Without an ending: the table says .jpg, and the images are PNG or DICOM files.
    table["path"] = table["path"].str.removesuffix(".jpg")
    table["patient_id"], table["split"] = raw["deid_patient_id"], raw["split"].replace(_SPLITS)
    table["race"] = raw.get("race", "")
    table = pd.concat([table, _facts(raw)], axis=1)
    labels = path.parent / "chexbert_labels" / "report_fixed.json"
    if not labels.is_file():
        _log.warning("%s is not there: the study has no labels.", labels)
        return table, ()
    try:
        found = pd.read_json(labels, lines=True, dtype=False)
        found = found.drop_duplicates("path_to_image").set_index("path_to_image")[list(FINDINGS)].astype(float)
    except (ValueError, KeyError) as error:
        raise StudyError(f"{labels} does not have the labels of CheXpert Plus, a line each: {error}.") from error
    found = found.reindex(raw["path_to_image"]).set_axis(table.index, axis=0).rename(columns=canonical)
    return with_unmentioned(pd.concat([table, found], axis=1), unmentioned)


def boxes(source: Path) -> pd.DataFrame | None:
    """Read the contours of CheXlocalize as the boxes around them; None where there are none."""
    if source.is_dir():
        paths = [source / folder / file for folder in (".", "CheXlocalize") for file in CONTOURS]
        paths = [path for path in paths if path.is_file()]
    else:
        paths = [source] if source.name in CONTOURS else []
    rows = [row for path in paths for row in _contours(path)]
    columns = ["image_id", "label", "x", "y", "width", "height", "frame_width", "frame_height", "patient_id"]
    return pd.DataFrame(rows, columns=columns) if paths else None


def with_unmentioned(table: pd.DataFrame, policy: Unmentioned) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The table and its labels, with what a report does not mention as asked; without any label all stays unknown."""
    labels = tuple(name for name in map(canonical, FINDINGS) if name in table)
    if policy == "negative":
        found = table[list(labels)]
        table[list(labels)] = found.fillna(0.0).where(found.notna().any(axis=1), np.nan)
    elif policy != "unknown":
        raise StudyError(f"`unmentioned` is unknown or negative, not {policy!r}.")
    return table, labels


def _facts(raw: pd.DataFrame) -> pd.DataFrame:
    """View, sex and age, as far as a table has them."""
    facts = {}
    if "frontal_lateral" in raw and "ap_pa" in raw:
        facts["view"] = raw["ap_pa"].where(raw["frontal_lateral"] == "Frontal", "L")
    if "sex" in raw:
        facts["sex"] = raw["sex"].replace(_SEXES)
    if "age" in raw:
        facts["age"] = numbers(raw["age"]).replace(0, np.nan)
    return pd.DataFrame(facts, index=raw.index)


def _once(paths: list[Path]) -> list[Path]:
    """The tables, one of each split: `valid.csv` and `val_labels.csv` have the same images, and so have copies."""
    kept: dict[str, Path] = {}
    for path in paths:
        kept.setdefault(_SPLITS.get(path.name.partition(".")[0].partition("_")[0], path.name), path)
    return list(kept.values())


def _of_paths(paths: pd.Series, table: Path, folder: Place) -> pd.DataFrame:
    """Id, patient, study, split and place of each image, from paths as `CheXpert-v1.0/train/patient1/study2/view3.jpg`.

    What comes before the split in a path depends on the release. The folder of a patient is where one of the folders
    of the split has it.
    """
    parts = [path.rsplit("/", 4)[-4:] for path in paths.tolist()]  # four times as fast as pandas would split them
    for row, cells in enumerate(parts):
        if len(cells) < 4 or cells[0] not in _SPLITS or not cells[1].startswith("patient"):
            raise StudyError(
                f"{table}, row {row + 2}: {paths.iloc[row]!r} is not a path as "
                "train/patient00001/study1/view1_frontal.jpg."
            )
    place = {(split, who): at for split in {cells[0] for cells in parts} for who, at in _patients(folder, split)}
    base = folder.absolute()
    columns = {
        "image_id": [f"{patient}_{study}_{view.partition('.')[0]}" for _, patient, study, view in parts],
        "path": [
            f"{place.get((split, patient)) or f'{base}/{split}/{patient}'}/{study}/{view}"
            for split, patient, study, view in parts
        ],
        "patient_id": [patient for _, patient, _, _ in parts],
        "study_id": [f"{patient}_{study}" for _, patient, study, _ in parts],
        "split": [_SPLITS[split] for split, _, _, _ in parts],
    }
    return pd.DataFrame(columns, index=paths.index)


def _patients(folder: Place, split: str) -> Iterator[tuple[str, str]]:
    """Each patient of a split and his folder: below `train/`, or `CheXpert-v1.0 batch 2 (train 1)/` and its like."""
    near = [*folder.glob(split), *folder.glob(f"CheXpert*/{split}"), *folder.glob(_SPLITS[split])]
    for place in (*near, *folder.glob(f"*batch*({split}*"), *folder.parent.glob(f"*batch*({split}*")):
        for root in (place, place / split):
            if root.is_dir():
                yield from ((path.name, str(path)) for path in root.absolute().glob("patient*"))


def _contours(path: Path) -> Iterator[tuple[object, ...]]:
    try:
        for image, found in json.loads(path.read_text(encoding="utf-8")).items():
            height, width = found["img_size"]
            for label, contours in found.items():
                for contour in contours if label != "img_size" else ():
                    (x, y), (right, bottom) = np.min(contour, axis=0), np.max(contour, axis=0)
                    yield image, label, x, y, right - x, bottom - y, width, height, image.partition("_")[0]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StudyError(f"{path} does not have contours as CheXlocalize does: {error!r}.") from error


_LICENCE = (
    "Stanford University School of Medicine research use agreement: non-commercial research, no redistribution. "
    "Each user registers."
)
_UNMENTIONED = (
    "An empty cell means that the report does not mention the finding. It is unknown, which leaves few negatives: "
    "Atelectasis has 33,376 positives and 1,328 negatives. Most papers take it for absent: `--unmentioned negative`.",
    "-1 means that the report is uncertain. It is unknown unless `--uncertain` says otherwise.",
)
DATASET = Dataset(
    title="CheXpert",
    recognises=known_by(TABLES, _NEEDED),
    read=read,
    metadata=("study_id",),
    labels=tuple(map(canonical, FINDINGS)),
    boxes=boxes,
    name="CheXpert",
    image_ids=r"patient\d{5,}_study\d+_view\d+_(frontal|lateral)",
    get="Register at https://aimi.stanford.edu/datasets/chexpert-chest-x-rays and download `CheXpert-v1.0` (439 GB) or "
    "`CheXpert-v1.0-small` (11 GB), with `train.csv` and `valid.csv`. The folder may be that of the release or the one "
    "that holds its batches. The test set and its contours are in CheXlocalize, "
    "https://stanfordaimi.azurewebsites.net/datasets/23c56a0d-15de-405b-87c8-99c30138950c: name its folder as SOURCE.",
    licence=_LICENCE,
    citation="Irvin J, Rajpurkar P, Ko M, et al. CheXpert: a large chest radiograph dataset with uncertainty labels "
    "and expert comparison. AAAI 2019; 33:590-597. CheXlocalize: Saporta A, Gui X, Agrawal A, et al. Benchmarking "
    "saliency methods for chest X-ray interpretation. Nature Machine Intelligence 2022; 4:867-878.",
    traps=(
        *_UNMENTIONED,
        "`No Finding` is 1 or empty in `train.csv`, never 0: no head can be fitted to it.",
        "`train.csv` is labelled from reports, `valid.csv` and the test set by radiologists who looked at the images.",
        "32,387 images are lateral views. Frontal ones alone: `--where view=AP --where view=PA`. The column AP/PA also "
        "has LL and RL, 17 times; one patient's sex is `Unknown`; an age of 0 is unknown; in twelve rows no finding "
        "has a label.",
        "`valid.csv` becomes the split `val`, so that there is no `test` split before the test set of CheXlocalize is "
        "there. `--resplit` makes one.",
        "Contours of CheXlocalize become the boxes around them.",
    ),
    command="cxrfeat study build CheXpert-v1.0-small -o studies/chexpert.csv",
    counts={
        "images": 223_648, "patients": 64_740, "images in train": 223_414, "images in val": 234,
    },
    counted="`train.csv` and `valid.csv` of version 1.0",
)  # fmt: skip
PLUS = Dataset(
    title="CheXpert Plus",
    recognises=known_by(PLUS_TABLES, _PLUS, by_name=True),
    read=read_plus,
    metadata=("study_id", "race"),
    labels=tuple(map(canonical, FINDINGS)),
    get="Register at https://aimi.stanford.edu/datasets/chexpert-plus and download `df_chexpert_plus_240401.csv`, "
    "`PNG` (or `DICOM`) and `chexbert_labels` into one folder.",
    licence=_LICENCE,
    citation="Chambon P, Delbrouck JB, Sounack T, et al. CheXpert Plus: augmenting a large chest X-ray dataset with "
    "text radiology reports, patient demographics and additional image formats. arXiv:2405.19538, 2024.",
    traps=(
        *_UNMENTIONED,
        "The table has the reports, and no labels. Labels are those of CheXbert, from "
        "`chexbert_labels/report_fixed.json`. Reports do not get into the study.",
        "The images are those of CheXpert: never train on one and test on the other.",
    ),
    command="cxrfeat study build chexpert-plus -o studies/chexpert-plus.csv",
    counts={"images": 223_462, "patients": 64_725},
    counted="the paper",
)
