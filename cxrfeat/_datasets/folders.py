"""Folders without a table: a folder per class, and DICOM files, whose headers are the table."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import pandas as pd

from cxrfeat._datasets.dataset import Dataset
from cxrfeat._datasets.nih import years
from cxrfeat._datasets.table import split_name
from cxrfeat._images import SUFFIXES, dicom
from cxrfeat._labels import canonical
from cxrfeat._study import SPLITS
from cxrfeat.errors import StudyError

_log = logging.getLogger(__name__)

_ABSENT = {"normal", "no finding", "no findings", "healthy", "negative"}
_NO_CLASSES = {"images", "masks", "img", "dicom", "annotations"}
_ADDRESSES = {"PatientAddress", "PatientTelephoneNumbers", "PatientTelecomInformation", "OtherPatientIDs"}
_TAGS = {"PatientSex": "sex", "PatientAge": "age", "ViewPosition": "view"}


def read_classes(
    source: Path, images: Path | None = None, *, patient: str | None = None
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Read folders of images named after their class, in `train`, `val` and `test` if there are such folders.

    A class is a label, but for names such as `normal`, which are the absence of every label. `patient` is a regular
    expression that finds the patient in a file's name, in its first group.
    """
    _no_images(images)
    rows = [
        (file.relative_to(source).as_posix(), file.name, folder.name, split)
        for split, folder in _class_folders(source)
        for file in _images_in(folder)
    ]
    table = pd.DataFrame(rows, columns=["path", "file", "class", "split"]).astype(str)
    table["image_id"] = table["file"] if table["file"].is_unique else table["path"].str.replace("/", "-")
    table["patient_id"] = _patients(table, source, patient)
    labels = {
        name: canonical(name) for name in table["class"].unique() if name.lower().replace("_", " ") not in _ABSENT
    }
    for name, label in labels.items():
        table[label] = (table["class"] == name).astype(float)
    return table if table["split"].any() else table.drop(columns="split"), tuple(labels.values())


def read_dicom(
    source: Path, images: Path | None = None, *, patient: str | None = None, keep: Iterable[str] = ()
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Read the headers of DICOM files: patient, sex, age and view, and the attributes of `keep`; there are no labels.

    `patient` is the attribute that identifies patients, by default `PatientID`.
    """
    _no_images(images)
    pydicom = dicom.package()
    if named := [one for one in (patient, *keep) if one and _names_a_person(one)]:
        raise StudyError(f"the attribute {named[0]} names a person, so that no study keeps it.")
    attribute = patient or "PatientID"
    wanted = [attribute, *_TAGS, *keep]
    rows, bad = [], []
    for file in _dicom_in(source):
        try:
            header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=wanted)
        except Exception as error:  # whatever a damaged header raises
            # Not the error's message: it may quote a value, and with it a patient's name.
            bad.append(f"{file.relative_to(source)} ({type(error).__name__})")
            continue
        cells = [_text(header.get(tag, "")) for tag in wanted]
        rows.append((file.relative_to(source).as_posix(), file.name, *cells))
    if bad:
        _log.warning("%d DICOM files cannot be read and are left out, the first is %s", len(bad), bad[0])
    table = pd.DataFrame(rows, columns=["path", "file", "patient_id", *_TAGS.values(), *keep]).astype(str)
    unnamed = table["patient_id"] == ""
    if unnamed.any():
        raise StudyError(
            f"{source}: {int(unnamed.sum())} of {len(table)} DICOM files have no {attribute}, the first is "
            f"{table['path'][unnamed].iloc[0]!r}. Name another attribute with `patient`, such as StudyInstanceUID."
        )
    table["age"] = years(table["age"])
    table["image_id"] = table["file"] if table["file"].is_unique else table["path"].str.replace("/", "-")
    return table, ()


def _text(value: object) -> str:
    """A header's value as a cell; several are joined as DICOM writes them."""
    several = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    return "\\".join(map(str, several)).strip()


def _names_a_person(attribute: str) -> bool:
    from pydicom.datadict import dictionary_VR, tag_for_keyword

    tag = tag_for_keyword(attribute)
    return tag is not None and (dictionary_VR(tag) == "PN" or attribute in _ADDRESSES)


CLASSES = Dataset(
    title="a folder per class",
    recognises=lambda source: len({folder.name for _, folder in _class_folders(source)}) > 1,
    read=read_classes,
    generic=True,
)
DICOM = Dataset(
    title="a folder of DICOM files",
    recognises=lambda source: source.is_dir() and next(_dicom_in(source, most=200), None) is not None,
    read=read_dicom,
    generic=True,
    hashes=True,
)


def _no_images(images: Path | None) -> None:
    if images is not None:
        raise StudyError("the images are in the folder itself; leave out `images`, or name a table.")


def _class_folders(source: Path, split: str = "") -> list[tuple[str, Path]]:
    """(split, folder) of every class: folders of images, or with `images/`, but for masks and folders with a table."""
    if not source.is_dir():
        return []
    found = []
    for folder in sorted(path for path in source.iterdir() if path.is_dir() and path.name[0] != "."):
        if not split and split_name(folder.name) in SPLITS:
            found += _class_folders(folder, split_name(folder.name))
        elif folder.name.lower() not in _NO_CLASSES and not any(folder.glob("*.csv")):
            found += [(split, folder) for _ in islice(_images_in(folder), 1)]
    return found


def _images_in(folder: Path) -> Iterator[Path]:
    place = folder / "images" if (folder / "images").is_dir() else folder
    return (path for path in sorted(place.iterdir()) if path.suffix.lower() in SUFFIXES)


def _patients(table: pd.DataFrame, source: Path, pattern: str | None) -> pd.Series:
    if pattern is None:
        _log.warning(
            "%s does not say whose the images are: each counts as another patient. If file names do, give `patient`, a "
            "regular expression with the patient in its first group.", source,
        )  # fmt: skip
        return table["image_id"]
    try:
        found = table["file"].str.extract(f"(?:{pattern})")
    except (re.error, ValueError) as error:
        raise StudyError(f"`patient={pattern}` is no regular expression with a group: {error}.") from error
    if found[0].isna().any():
        raise StudyError(f"`patient={pattern}` finds no patient in {table['file'][found[0].isna()].iloc[0]!r}.")
    return found[0]


def _dicom_in(source: Path, most: int | None = None) -> Iterator[Path]:
    """DICOM files among the first `most` files of a folder and those in it, by their ending or their first bytes."""
    for path in islice(_walked(source), most):
        if path.suffix.lower() in (".dcm", ".dicom"):
            yield path
        elif not path.suffix:
            with path.open("rb") as file:
                if file.read(132)[128:] == b"DICM":
                    yield path


def _walked(source: Path) -> Iterator[Path]:
    """Every file below a folder, in order; nothing is listed before it is asked for."""
    for folder, below, files in os.walk(source):
        below.sort()
        yield from (Path(folder, name) for name in sorted(files))
