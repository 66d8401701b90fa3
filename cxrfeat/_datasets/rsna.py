"""RSNA pneumonia detection challenge (2018): films of ChestX-ray14 that radiologists looked at, with boxes."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pandas as pd

from cxrfeat._datasets.cells import coded
from cxrfeat._datasets.dataset import Dataset
from cxrfeat._datasets.release import cells_of, image_folder, known_by, one_table, tables_of
from cxrfeat.errors import StudyError

_log = logging.getLogger(__name__)

TABLES = ("stage_2_train_labels.csv", "stage_1_train_labels.csv")
MAPPING = "pneumonia-challenge-dataset-mappings_2018.json"
SIDE = 1024
"""Films are squares of this side, in pixels."""

_BOX = ("x", "y", "width", "height")
_COLUMNS = ("patientId", *_BOX, "Target")


def read(source: Path, images: Path | None = None) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Read the label table: one row per box, or one for a film without; `patientId` is the film, `Target` the label.

    If the mapping that the RSNA published is beside the table, patients and follow-up numbers are those of the NIH.
    """
    path = one_table(source, TABLES, _COLUMNS)
    raw = cells_of(path, ("patientId", "Target"))
    films = raw.assign(Pneumonia=coded(raw, ["Target"], path)["Target"]).groupby("patientId", sort=False)
    table = films["Pneumonia"].max().reset_index().rename(columns={"patientId": "image_id"})
    # Without an ending: the films are DICOM files, and people have them as PNG and JPEG too.
    table["path"] = f"{image_folder(source, images, 'stage_2_train_images').absolute()}/" + table["image_id"]
    table["patient_id"] = table["image_id"]
    if (path.parent / MAPPING).is_file():
        names = _nih_names(path.parent / MAPPING)
        nih = table["image_id"].map(names).fillna("")
        if (nih == "").any():
            raise StudyError(f"{path.parent / MAPPING} does not name {table['image_id'][nih == ''].iloc[0]!r}.")
        parts = nih.str.removesuffix(".png").str.split("_", expand=True)
        table["patient_id"], table["follow_up"] = parts[0].str.lstrip("0"), parts[1].astype(float)
    else:
        _log.warning(
            "%s is not beside %s: each film counts as a patient of its own, and two films of one patient may be in two "
            "splits.", MAPPING, path.name,
        )  # fmt: skip
    return table, ("Pneumonia",)


def boxes(source: Path) -> pd.DataFrame | None:
    """Read the boxes of the label table; None where there is none."""
    path = next(iter(tables_of(source, TABLES, _COLUMNS)), None)
    if path is None:
        return None
    raw = cells_of(path, _COLUMNS)
    found = raw[raw["Target"].str.strip().isin(("1", "1.0"))]
    table = found[["patientId", *_BOX]].rename(columns={"patientId": "image_id"}).assign(label="Pneumonia")
    return table.assign(frame_width=SIDE, frame_height=SIDE)


DATASET = Dataset(
    title="the RSNA pneumonia challenge",
    recognises=known_by(TABLES, _COLUMNS, by_name=True),
    read=read,
    labels=("Pneumonia",),
    boxes=boxes,
    name="RSNA",
    image_ids=r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    get="Download `stage_2_train_labels.csv` and `stage_2_train_images` from "
    "https://www.kaggle.com/c/rsna-pneumonia-detection-challenge, and `pneumonia-challenge-dataset-mappings_2018.json` "
    "from https://www.rsna.org/rsnai/ai-image-challenge/rsna-pneumonia-detection-challenge-2018, into one folder.",
    licence="Non-commercial use and academic research, as the terms of the challenge say; the images are those of "
    "ChestX-ray14.",
    citation="Shih G, Wu CC, Halabi SS, et al. Augmenting the National Institutes of Health chest radiograph dataset "
    "with expert annotations of possible pneumonia. Radiology: Artificial Intelligence 2019; 1(1):e180041.",
    traps=(
        "`patientId` names a film and not a patient. Put the mapping beside the table: it says which NIH patient each "
        "film is of. Without it splits are not by patient, and `study build` says so.",
        "The films are among those of ChestX-ray14: never train on one and test on the other.",
        "`Target` is 1 where there are opacities that look like pneumonia. 0 includes films that are abnormal "
        "otherwise.",
        "The table has one row per box: 30,227 rows for 26,684 films. The test films of the challenge have no labels.",
    ),
    command="cxrfeat study build rsna-pneumonia-detection-challenge -o studies/rsna.csv",
    counts={"images": 26_684, "Pneumonia": 6_012},
    counted="the table of stage 2; it has 30,227 rows and 9,555 boxes",
)


def _nih_names(path: Path) -> dict[str, str]:
    try:
        return {str(row["subset_img_id"]): str(row["img_id"]) for row in json.loads(path.read_text(encoding="utf-8"))}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise StudyError(f"{path} is not the mapping that the RSNA published: {error!r}.") from error
