"""VinDr-CXR, of PhysioNet and of the Kaggle challenge VinBigData: three radiologists an image, with boxes."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from cxrfeat._datasets.cells import coded
from cxrfeat._datasets.dataset import Dataset
from cxrfeat._datasets.release import cells_of, image_folder, known_by, tables_of
from cxrfeat._images import dicom
from cxrfeat._labels import NO_FINDING, canonical
from cxrfeat._study import numbers
from cxrfeat.errors import StudyError

_log = logging.getLogger(__name__)

Readers = Literal["any", "majority", "mean"]

FINDINGS = (
    "Aortic enlargement", "Atelectasis", "Calcification", "Cardiomegaly", "Clavicle fracture", "Consolidation",
    "Edema", "Emphysema", "Enlarged PA", "ILD", "Infiltration", "Lung Opacity", "Lung cavity", "Lung cyst",
    "Mediastinal shift", "Nodule/Mass", "Pleural effusion", "Pleural thickening", "Pneumothorax",
    "Pulmonary fibrosis", "Rib fracture", "Other lesion", "COPD", "Lung tumor", "Pneumonia", "Tuberculosis",
    "Other diseases",
)  # fmt: skip
"""22 local and 5 global labels, as the tables name them; the sixth global one is `No finding`."""

LABEL_TABLES, BOX_TABLES = (
    tuple(f"{folder}{name}_{part}.csv" for folder in ("", "annotations/") for part in ("train", "test"))
    for name in ("image_labels", "annotations")
)
KAGGLE = ("train.csv",)
SIZES = "train_meta.csv"

_LABELS = ("image_id", "Aortic enlargement", "Lung Opacity")
_BOX = ("x_min", "y_min", "x_max", "y_max")
_BOXES = ("image_id", "class_name", *_BOX)
_OTHER = {"Other disease": "Other diseases"}  # as the table of the training set has it


def read(
    source: Path, images: Path | None = None, *, readers: Readers = "majority"
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Read the labels of each image; `readers` says when a finding that not all radiologists see is present.

    `any`: one of them sees it; `majority`: more than half do; `mean`: the share that does, a probability. Images of
    the test set have one row, which five radiologists agreed on.
    """
    labelled = {path: _read_labels(path) for path in tables_of(source, LABEL_TABLES, _LABELS)} or {
        path: _from_boxes(path) for path in tables_of(source, KAGGLE, _BOXES)[:1]
    }
    combine = {"any": "max", "majority": "mean", "mean": "mean"}
    if readers not in combine:
        raise StudyError(f"`readers` is any, majority or mean, not {readers!r}.")
    base = source if source.is_dir() else source.parent
    folder = image_folder(base.parent if base.name == "annotations" else base, images)
    found = []
    for path, part in labelled.items():
        split = "test" if "test" in path.stem else "train"
        y = part.groupby(level="image_id", sort=False).agg(combine[readers])
        y = (y > 0.5).astype(float) if readers == "majority" else y
        where = folder / split if (folder / split).is_dir() else folder
        # Without an ending: the images are .dicom, and people convert them. No table names patients.
        about = {"image_id": y.index, "path": f"{where.absolute()}/" + y.index, "patient_id": y.index, "split": split}
        found.append(pd.concat([pd.DataFrame(about, index=y.index), y], axis=1))
    return pd.concat(found, ignore_index=True), tuple(next(iter(labelled.values())).columns)


def boxes(source: Path) -> pd.DataFrame | None:
    """Read the boxes of every radiologist; None where there are none, or nothing says how large the images are.

    The tables do not say how large an image is: that is in `train_meta.csv`, which Kaggle's users made, or else in the
    headers of the DICOM files.
    """
    tables = tables_of(source, (*BOX_TABLES, *KAGGLE), _BOXES)
    if not tables:
        return None
    raw = pd.concat([cells_of(path, _BOXES) for path in tables], ignore_index=True)
    raw = raw[raw["x_min"] != ""]
    corner = raw[list(_BOX)].apply(numbers)
    found = raw[["image_id"]].assign(label=raw["class_name"].replace(_OTHER), x=corner["x_min"], y=corner["y_min"])
    found["width"], found["height"] = corner["x_max"] - corner["x_min"], corner["y_max"] - corner["y_min"]
    sizes = _sizes(tables[0].parent, found["image_id"].unique())
    return found.join(sizes, on="image_id").dropna(subset=["frame_width"]) if len(sizes) else None


DATASET = Dataset(
    title="VinDr-CXR",
    recognises=lambda source: (
        known_by(LABEL_TABLES, _LABELS)(source) or known_by(KAGGLE, (*_BOXES, "class_id", "rad_id"))(source)
    ),
    read=read,
    labels=tuple(map(canonical, FINDINGS)),
    boxes=boxes,
    name="VinDr-CXR",
    image_ids=r"[0-9a-f]{32}",
    get="Become a credentialed user of PhysioNet, sign the agreement of https://physionet.org/content/vindr-cxr/ and "
    "download `train/`, `test/` and `annotations/`. The training part with 14 of the findings is also at "
    "https://www.kaggle.com/c/vinbigdata-chest-xray-abnormalities-detection: `train.csv` and `train/`.",
    licence="PhysioNet Credentialed Health Data License 1.5.0: each user signs it; no redistribution.",
    citation="Nguyen HQ, Lam K, Le LT, et al. VinDr-CXR: an open dataset of chest X-rays with radiologist's "
    "annotations. Scientific Data 2022; 9:429. Data: https://doi.org/10.13026/3akn-b287.",
    traps=(
        "Three radiologists labelled each training image and often disagree. `--readers any`, `majority` (the default) "
        "or `mean`, which gives probabilities: only heads that take soft targets use those between 0 and 1.",
        "The test images have one label each, on which five radiologists agreed.",
        "No table names patients: each image counts as a patient of its own, and no leakage can be checked.",
        "Boxes are of all three radiologists, so one finding may have three. They are in pixels of the original: "
        "their size is taken from the DICOM headers, or from `train_meta.csv` beside the table.",
        "`Pulmonary fibrosis` is read as `Fibrosis`, `Pleural effusion` as `Effusion`.",
    ),
    command="cxrfeat study build vindr-cxr -o studies/vindr.csv",
    counts={"images": 18_000, "images in train": 15_000, "images in test": 3_000},
    counted="the paper",
)


def _read_labels(path: Path) -> pd.DataFrame:
    """A row per image and radiologist, with the image as index."""
    raw = cells_of(path, _LABELS, (*FINDINGS, *_OTHER)).rename(columns=_OTHER)
    found = coded(raw, [name for name in FINDINGS if name in raw], path)
    return found.set_axis(pd.Index(raw["image_id"], name="image_id"), axis=0)


def _from_boxes(path: Path) -> pd.DataFrame:
    """The same from a table with a row per box, or one that says `No finding` for a radiologist who saw nothing."""
    raw = cells_of(path, (*_BOXES, "rad_id"))
    seen = pd.crosstab([raw["image_id"], raw["rad_id"]], raw["class_name"].map(canonical)) > 0
    seen = seen.reset_index("rad_id", drop=True).drop(columns=NO_FINDING, errors="ignore").astype(float)
    return seen.loc[:, [name for name in map(canonical, FINDINGS) if name in seen]].rename_axis(columns=None)


def _sizes(folder: Path, image_ids: np.ndarray) -> pd.DataFrame:
    """Width and height of the originals, for those that are known."""
    if (folder / SIZES).is_file():
        raw = cells_of(folder / SIZES, ("image_id", "dim0", "dim1")).set_index("image_id")
        return pd.DataFrame({"frame_width": numbers(raw["dim1"]), "frame_height": numbers(raw["dim0"])})
    root = folder.parent if folder.name == "annotations" else folder
    rows = {}
    for image_id in image_ids:
        names = (root / part / f"{image_id}{end}" for part in ("train", "test", ".") for end in (".dicom", ".dcm"))
        if (file := next((path for path in names if path.is_file()), None)) is not None:
            reader = dicom.package()
            try:
                header = reader.dcmread(file, stop_before_pixels=True, specific_tags=["Rows", "Columns"])
                rows[image_id] = (float(header.Columns), float(header.Rows))
            except Exception as error:  # whatever a damaged header raises
                _log.warning("%s: its size cannot be read: %s", file, error)
    if not rows:
        _log.warning(
            "%s has boxes that cannot be used: nothing says how large the images are. Put the DICOM files or %s there.",
            folder, SIZES,
        )  # fmt: skip
    return pd.DataFrame.from_dict(rows, orient="index", columns=["frame_width", "frame_height"])
