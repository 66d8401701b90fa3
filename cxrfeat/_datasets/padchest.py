"""PadChest: findings as terms of a tree, in lists that are written as Python writes them."""

from __future__ import annotations

import ast
import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from cxrfeat._datasets.dataset import Dataset
from cxrfeat._datasets.release import cells_of, image_folder, known_by, one_table
from cxrfeat._labels import NIH_LABELS, canonical
from cxrfeat._study import numbers
from cxrfeat.errors import StudyError

_log = logging.getLogger(__name__)

TABLES = ("PADCHEST_chest_x_ray_images_labels_160K*.csv",)

_NEEDED = ("ImageID", "ImageDir", "PatientID", "Labels")
_NAMES = {
    "ImageID": "image_id", "PatientID": "patient_id", "StudyID": "study_id", "PatientSex_DICOM": "sex",
    "Projection": "view",
}  # fmt: skip
_MORE = ("StudyDate_DICOM", "PatientBirth", "MethodLabel", *_NAMES)

_NAMED = (
    *NIH_LABELS, "Fracture", "Tuberculosis", "Granuloma", "Bronchiectasis", "Air Trapping", "Flattened Diaphragm",
    "Hemidiaphragm Elevation", "Hilar Enlargement", "Costophrenic Angle Blunting", "Aortic Elongation",
    "Aortic Atheromatosis", "Scoliosis",
)  # fmt: skip
LABELS = {name: name.lower() for name in _NAMED} | {
    "Effusion": "pleural effusion",
    "Infiltration": "infiltrates",
    "Edema": "pulmonary edema",
    "Fibrosis": "pulmonary fibrosis",
    "Pleural_Thickening": "pleural thickening",
    "Hernia": "hiatal hernia",
}
"""The term of the tree that each label is; a label has the terms under its own too."""

UNDER = {
    "infiltrates": ("interstitial pattern", "alveolar pattern"),
    "interstitial pattern": (
        "ground glass pattern", "reticular interstitial pattern", "reticulonodular interstitial pattern",
        "miliary opacities",
    ),
    "alveolar pattern": ("consolidation", "air bronchogram"),
    "consolidation": ("air bronchogram",),
    "atelectasis": (
        "total atelectasis", "lobar atelectasis", "segmental atelectasis", "laminar atelectasis", "round atelectasis",
        "atelectasis basal",
    ),
    "nodule": ("multiple nodules",),
    "granuloma": ("calcified granuloma",),
    "mass": ("mediastinal mass", "breast mass", "pleural mass", "pulmonary mass", "soft tissue mass"),
    "pneumothorax": ("hydropneumothorax",),
    "pleural effusion": (
        "loculated pleural effusion", "loculated fissural effusion", "hydropneumothorax", "empyema", "hemothorax",
    ),
    "pleural thickening": ("apical pleural thickening", "calcified pleural thickening"),
    "pneumonia": ("atypical pneumonia", "viral pneumonia"),
    "tuberculosis": ("tuberculosis sequelae",),
    "pulmonary fibrosis": ("post radiotherapy changes", "asbestosis signs"),
    "fracture": ("clavicle fracture", "humeral fracture", "vertebral fracture", "rib fracture"),
    "rib fracture": ("callus rib fracture",),
    "hilar enlargement": ("adenopathy", "vascular hilar enlargement"),
    "adenopathy": ("calcified adenopathy",),
    "calcified adenopathy": ("calcified mediastinal adenopathy",),
    "vascular hilar enlargement": ("pulmonary artery enlargement",),
    "aortic elongation": (
        "descendent aortic elongation", "ascendent aortic elongation", "aortic button enlargement",
        "supra aortic elongation",
    ),
}  # fmt: skip
"""The tree of PadChest below the terms of `LABELS`."""

NOTHING_SAID = {"exclude", "suboptimal study", "unchanged"}
"""Terms that leave every finding unknown if there is no other."""

BROKEN = {
    "216840111366964012283393834152009033102258826_00-059-087.png",
    "216840111366964012339356563862009072111404053_00-043-192.png",
    "216840111366964012373310883942009117084022290_00-064-025.png",
    "216840111366964012373310883942009152114636712_00-102-045.png",
    "216840111366964012373310883942009170084120009_00-097-074.png",
    "216840111366964012487858717522009280135853083_00-075-001.png",
    "216840111366964012558082906712009327122220177_00-102-064.png",
    "216840111366964012819207061112010281134410801_00-129-131.png",
    "216840111366964012819207061112010306085429121_04-020-102.png",
    "216840111366964012819207061112010307142602253_04-014-084.png",
    "216840111366964012819207061112010315104455352_04-024-184.png",
    "216840111366964012959786098432011033083840143_00-176-115.png",
    "216840111366964012989926673512011074122523403_00-163-058.png",
    "216840111366964012989926673512011083134050913_00-168-009.png",
    "216840111366964012989926673512011151082430686_00-157-045.png",
    "216840111366964013076187734852011291090445391_00-196-188.png",
    "216840111366964013590140476722013043111952381_02-065-198.png",
    "216840111366964013590140476722013058110301622_02-056-111.png",
    "216840111366964013686042548532013208193054515_02-026-007.png",
    "216840111366964013829543166512013353113303615_02-092-190.png",
    "216840111366964013962490064942014134093945580_01-178-104.png",
}
"""Files of the release that are missing or cannot be decoded, as users of it report."""


def read(
    source: Path, images: Path | None = None, *, labels: Iterable[str] = ()
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Read the table: the labels of `LABELS`, or those named, which may be any terms of PadChest's tree.

    Images are looked for in the folder that `ImageDir` names, and in the image folder itself. Files that are known to
    be broken are left out.
    """
    path = one_table(source, TABLES, _NEEDED)
    raw = cells_of(path, _NEEDED, _MORE)
    table = raw.rename(columns=_NAMES)
    folder = image_folder(source, images, "images")
    unpacked = {name for name in raw["ImageDir"].unique() if (folder / name).is_dir()}
    below = (raw["ImageDir"] + "/").where(raw["ImageDir"].isin(unpacked), "")
    table["path"] = f"{folder.absolute()}/" + below + raw["ImageID"]
    if "StudyDate_DICOM" in raw and "PatientBirth" in raw:
        table["age"] = numbers(raw["StudyDate_DICOM"].str[:4]) - numbers(raw["PatientBirth"])
    table = pd.concat([table, _findings(raw["Labels"], labels, path)], axis=1)
    broken = raw["ImageID"].isin(BROKEN)
    if broken.any():
        _log.info("%d images are left out: their files are missing or broken in the release.", int(broken.sum()))
    return table[~broken], tuple(dict.fromkeys(map(canonical, labels or LABELS)))


DATASET = Dataset(
    title="PadChest",
    recognises=known_by(TABLES, _NEEDED, by_name=True),
    read=read,
    metadata=("study_id", "MethodLabel"),
    labels=tuple(LABELS),
    name="PadChest",
    image_ids=r"\d{30,}_[\w-]+(\.png)?",
    get="Ask for access at https://bimcv.cipf.es/bimcv-projects/padchest/ and unpack the archives `0.zip` to "
    "`54.zip` (1 TB) to folders of their names, beside `PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz`; or "
    "all images into one folder.",
    licence="PadChest dataset research use agreement: research, no redistribution, no attempt to identify patients.",
    citation="Bustos A, Pertusa A, Salinas JM, de la Iglesia-Vayá M. PadChest: a large chest X-ray image dataset with "
    "multi-label annotated reports. Medical Image Analysis 2020; 66:101797.",
    traps=(
        "A label is a term of PadChest's tree with the terms under it, whole and never a part of a word: `subcutaneous "
        "emphysema` is no emphysema, and `pseudonodule` no nodule. `--label` takes any other term of the tree.",
        "27 % of the reports were labelled by physicians, the others by a network trained on these: `MethodLabel` says "
        "which, and is kept.",
        "Rows without labels are unknown, and so are those that say `exclude`, `suboptimal study` or `unchanged` "
        "and nothing else.",
        "The projections are PA, L, AP, AP_horizontal, COSTAL and EXCLUDE. Frontal films alone: `--where view=PA "
        "--where view=AP`.",
        "Images are PNG files of 16 bits. 21 of them are missing or broken and are left out.",
    ),
    command="cxrfeat study build PadChest -o studies/padchest.csv",
    counts={"images": 160_861, "patients": 67_625},
    counted="the table of 01.02.19, with the files that are left out",
)


def terms_of(label: str) -> set[str]:
    """The terms that a label stands for: its own and all under it in the tree."""
    term = LABELS.get(canonical(label), " ".join(label.lower().split()))
    return {term}.union(*map(terms_of, UNDER.get(term, ())))


def _findings(cells: pd.Series, labels: Iterable[str], path: Path) -> pd.DataFrame:
    """One column per label: 1 if a cell has a term of it, 0 if it has others, NaN if it says nothing of findings."""
    codes, texts = pd.factorize(cells.fillna("").str.strip())
    named: list[set[str]] = []
    for place, text in enumerate(texts):
        try:
            found = ast.literal_eval(text) if text.lower() not in ("", "nan") else []
            if not isinstance(found, list):
                raise ValueError("no list")
            named.append({" ".join(str(term).lower().split()) for term in found} - {""})
        except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
            row = int((codes == place).argmax()) + 2
            raise StudyError(f"{path}, row {row}, column 'Labels': {text[:60]!r} is no list of terms.") from error
    known = np.array([bool(found - NOTHING_SAID) for found in named])
    used = set().union(*named)
    columns = {}
    for label in labels or LABELS:
        terms = terms_of(label)
        if labels and canonical(label) not in LABELS and not terms & used:
            raise StudyError(f"{path}: {label!r} is no label, and no cell of 'Labels' has such a term.")
        there = np.array([bool(found & terms) for found in named])
        columns[canonical(label)] = np.where(known, there, np.nan)[codes]
    return pd.DataFrame(columns, index=cells.index)
