"""150 real chest X-rays of NIH ChestX-ray14, laid out as the release is. Terms and citation: README.md beside this."""

from __future__ import annotations

from pathlib import Path

from cxrfeat.study import Study, read_study

NAME = "sample"


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
    """Whether all images of a study are the sample's own, so that random weights may stand in without being asked."""
    return all(folder() in file.resolve().parents for file in other.paths())
