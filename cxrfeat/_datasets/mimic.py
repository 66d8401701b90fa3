"""MIMIC-CXR-JPG: the tables of the release, joined by image and study."""

from __future__ import annotations

import logging
from pathlib import Path

import pandas as pd

from cxrfeat._datasets.cells import coded
from cxrfeat._datasets.chexpert import FINDINGS, Unmentioned, with_unmentioned
from cxrfeat._datasets.dataset import Dataset
from cxrfeat._datasets.release import cells_of, image_folder, tables_of
from cxrfeat._files import csv_columns
from cxrfeat._labels import canonical
from cxrfeat.errors import NotFoundError, StudyError

_log = logging.getLogger(__name__)

METADATA, SPLIT = "mimic-cxr-2.*-metadata.csv", "mimic-cxr-2.*-split.csv"
LABELS = ("mimic-cxr-2.*-chexpert.csv", "mimic-cxr-2.*-negbio.csv", "mimic-cxr-2.*-test-set-labeled.csv")

_IMAGE = ("dicom_id", "subject_id", "study_id")
_FINDINGS = ("Enlarged Cardiomediastinum", "Support Devices")


def read(
    source: Path, images: Path | None = None, *, unmentioned: Unmentioned = "unknown"
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Read the tables of a folder. The labels are CheXpert's, or those of the table that is named as the source.

    Of `mimic-cxr-2.1.0-test-set-labeled.csv` only the studies that radiologists labelled are read; it has no patients,
    which come from the metadata.
    """
    folder = source if source.is_dir() else source.parent
    images_table = _only(folder, METADATA, _IMAGE)
    table = cells_of(images_table, _IMAGE, ("ViewPosition",)).rename(
        columns={"dicom_id": "image_id", "subject_id": "patient_id", "ViewPosition": "view"}
    )
    split = cells_of(_only(folder, SPLIT, ("dicom_id", "split")), ("dicom_id", "split")).set_index("dicom_id")["split"]
    table["split"] = table["image_id"].map(split).fillna("").replace("validate", "val")
    where = f"{image_folder(folder, images, 'files').absolute()}/p"
    patient, study = table["patient_id"], table["study_id"]
    table["path"] = where + patient.str[:2] + "/p" + patient + "/s" + study + "/" + table["image_id"] + ".jpg"
    labels = source if set(_FINDINGS) <= csv_columns(source) else _only(folder, LABELS[0], _FINDINGS)
    raw = cells_of(labels, ("study_id", *_FINDINGS), ("Airspace Opacity", *FINDINGS))
    if raw["study_id"].duplicated().any():
        raise StudyError(f"{labels}: study_id {raw['study_id'][raw['study_id'].duplicated()].iloc[0]} is duplicated.")
    found = coded(raw, [str(c) for c in raw if c != "study_id"], labels).set_axis(raw["study_id"], axis=0)
    known = table["study_id"].isin(found.index)
    if "test-set" in labels.name:
        table = table[known]
    elif not known.all():
        _log.info("%d images are of studies without labels: they can be predicted only.", int((~known).sum()))
    table = pd.concat([table, found.reindex(table["study_id"]).set_axis(table.index, axis=0)], axis=1)
    return with_unmentioned(table, unmentioned)


DATASET = Dataset(
    title="MIMIC-CXR-JPG",
    recognises=lambda source: bool(
        tables_of(source, [METADATA], _IMAGE) if source.is_dir() else {*_IMAGE} <= csv_columns(source)
        or {"study_id", *_FINDINGS} <= csv_columns(source)
    ),
    read=read,
    metadata=("study_id",),
    labels=tuple(map(canonical, FINDINGS)),
    name="MIMIC-CXR",
    image_ids=r"[0-9a-f]{8}(-[0-9a-f]{8}){4}",
    get="Become a credentialed user of PhysioNet, sign the agreement of https://physionet.org/content/mimic-cxr-jpg/ "
    "and download `files/` (558 GB) and the tables `mimic-cxr-2.0.0-metadata`, `-split`, `-chexpert` and `-negbio` "
    "into one folder; leave them compressed.",
    licence="PhysioNet Credentialed Health Data License 1.5.0: each user signs it; no redistribution.",
    citation="Johnson AEW, Pollard TJ, Greenbaum NR, et al. MIMIC-CXR-JPG, a large publicly available database of "
    "labeled chest radiographs. arXiv:1901.07042, 2019. Data: https://doi.org/10.13026/jsn5-t979.",
    traps=(
        "Labels are of studies, from their reports: all images of a study have the same. Studies without labels have "
        "no row in the table of labels; their images are kept, and can be predicted only.",
        "An empty cell means that the report does not mention the finding. It is unknown; `--unmentioned negative` "
        "takes it for absent. -1 means that the report is uncertain: see `--uncertain`.",
        "The labels are those of the CheXpert labeller. To have others, name their table as SOURCE: "
        "`mimic-cxr-2.0.0-negbio.csv.gz`, or `mimic-cxr-2.1.0-test-set-labeled.csv` for the studies that a radiologist "
        "labelled, which has no patients; the metadata beside it has them.",
        "`validate` is read as `val`.",
    ),
    command="cxrfeat study build mimic-cxr-jpg/2.1.0 -o studies/mimic.csv",
    counts={
        "images": 377_110, "patients": 65_379, "images in train": 368_960, "images in val": 2_991,
        "images in test": 5_159,
    },
    counted="PhysioNet, and the release's table of splits",
)  # fmt: skip


def _only(folder: Path, name: str, columns: tuple[str, ...]) -> Path:
    """The newest table of that name."""
    found = tables_of(folder, [name], columns)
    if not found:
        raise NotFoundError(f"{folder} has no {name.replace('2.*', '2.0.0')}.gz, which the release has.")
    return found[-1]
