"""150 real chest X-rays of NIH ChestX-ray14, laid out as the release is. Terms and citation: README.md beside this."""

from __future__ import annotations

import filecmp
import shutil
from pathlib import Path

import pandas as pd

from cxrfeat._files import atomic_path
from cxrfeat._labels import NO_FINDING
from cxrfeat._study import Study, read_study
from cxrfeat.errors import StudyError

NAME = "sample"
TABLE = "xrays.csv"
BOXES = "BBox_List_2017.csv"


def folder() -> Path:
    """The folder with the release's files: `images/`, `Data_Entry_2017_v2020.csv`, boxes and lists."""
    return Path(__file__).resolve().parent


def path() -> Path:
    """The sample as a study file."""
    return folder() / "sample.csv"


def study() -> Study:
    """The sample as a study: 150 images of 136 patients, the 14 labels, splits train, val and test."""
    return read_study(path(), name=NAME)


def holds(other: Study) -> bool:
    """Whether all images of a study are the sample's own or copies, so that random weights may stand in unasked.

    Parameters
    ----------
    other : Study
        Any study.
    """
    own = folder() / "images"
    return all(
        own in file.resolve().parents or ((own / file.name).is_file() and file.is_file() and _same(own, file))
        for file in other.paths()
    )


def copy(to: str | Path) -> Path:
    """Copy the sample out, as what people have: a folder of images and one table.

    Parameters
    ----------
    to : str or Path
        A folder that is new or empty. It gets `images/`, the boxes of the radiologists, the terms (README.md), and
        `xrays.csv` with a row per image: `file`, `patient`, `sex`, `age`, `view`, and `findings` as `Effusion|Mass` or
        `No Finding`. Splits are not in it.

    Returns
    -------
    Path
        The table.

    Raises
    ------
    StudyError
        If the folder is a file or holds something already.
    """
    to = Path(to)
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise StudyError(f"{to} is there already and not an empty folder; name a new one.")
    whole = study()
    shutil.copytree(folder() / "images", to / "images")
    for name in (BOXES, "README.md"):
        shutil.copyfile(folder() / name, to / name)
    table = pd.DataFrame(
        {
            "file": [file.name for file in whole.paths()],
            "patient": whole.table["patient_id"],
            "sex": whole.table["sex"],
            "age": whole.table["age"].astype(int),
            "view": whole.table["view"],
        }
    )
    named = ["|".join(label for label, y in zip(whole.labels, row, strict=True) if y == 1) for row in whole.y]
    with atomic_path(to / TABLE) as part:
        table.assign(findings=[text or NO_FINDING for text in named]).to_csv(part, index=False)
    return to / TABLE


def _same(own: Path, file: Path) -> bool:
    return filecmp.cmp(own / file.name, file, shallow=False)
