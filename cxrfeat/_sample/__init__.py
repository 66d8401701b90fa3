"""150 real chest X-rays of NIH ChestX-ray14, laid out as the release is. Terms and citation: README.md beside this."""

from __future__ import annotations

import filecmp
import shutil
from pathlib import Path

from cxrfeat._files import atomic_path
from cxrfeat._labels import NO_FINDING
from cxrfeat._study import Study, read_study_file
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
    return read_study_file(path())


def holds(other: Study) -> bool:
    """Whether all images of a study are the sample's own or copies, so that random weights are allowed unasked."""
    own = folder() / "images"

    def same(file: Path) -> bool:
        twin = own / file.name
        return twin.is_file() and file.is_file() and filecmp.cmp(twin, file, shallow=False)

    return all(isinstance(file, Path) and (own in file.resolve().parents or same(file)) for file in other.paths())


def copy_sample(folder: str | Path) -> Path:
    """Copy 150 real chest X-rays into a folder: images and one table, to try things on.

    Parameters
    ----------
    folder : str or Path
        A folder that is new or empty. It gets `images/`, the boxes of the radiologists, the terms (README.md), and
        `xrays.csv` with a row per image: `file`, `patient`, `sex`, `age`, `view`, and `findings` as `Effusion|Mass` or
        `No Finding`. There are no splits in it.

    Returns
    -------
    Path
        The table.

    Raises
    ------
    StudyError
        If the folder is a file or is not empty.

    Examples
    --------
    >>> import cxrfeat as cxr
    >>> cxr.copy_sample("my-xrays").as_posix()
    'my-xrays/xrays.csv'
    """
    to, whole, own = Path(folder), study(), path().parent
    interrupted = {BOXES, "README.md", "images"}  # the table comes last: without it, the rest is of a killed process
    if to.exists() and (not to.is_dir() or any(p.name not in interrupted and p.name[0] != "." for p in to.iterdir())):
        raise StudyError(f"{to} exists and is not an empty folder; name a new one.")
    draft = to / ".images"  # a disk that fails leaves no half image
    try:
        for left in (draft, to / "images"):
            shutil.rmtree(left, ignore_errors=True)
        shutil.copytree(own / "images", draft).rename(to / "images")
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    for name in (BOXES, "README.md"):
        with atomic_path(to / name) as part:
            shutil.copyfile(own / name, part)
    table = whole.table[["patient_id", "sex", "age", "view"]].rename(columns={"patient_id": "patient"})
    table.insert(0, "file", [file.name for file in whole.paths()])
    named = ["|".join(label for label, y in zip(whole.labels, row, strict=True) if y == 1) for row in whole.y]
    with atomic_path(to / TABLE) as part:
        table.assign(findings=[text or NO_FINDING for text in named]).astype({"age": int}).to_csv(part, index=False)
    return to / TABLE
