"""What a dataset declares: how its folder or table is recognised and read, and which boxes and metadata it has."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cxrfeat._registry import Registry
from cxrfeat.errors import StudyError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """One kind of folder or table that a study can be read from.

    Another package adds one by an entry point in the group `cxrfeat.datasets`; `read_study` and `cxrfeat study build`
    then recognise it.

    Attributes
    ----------
    title : str
        What it is, for messages: `a ChestX-ray14 release`.
    recognises : callable
        Path of a file or folder -> whether it is of this kind. It must be fast and must not raise.
    read : callable
        `read(source, images, **options)` -> (table, labels): one row per image with `image_id`, `path` (absolute, or
        relative to the source's folder), `patient_id`, the metadata that it has, and one column per label (1, 0 or NaN
        for unknown); and the names of the label columns. A column `split` (`train`, `val`, `test`, or empty) is kept;
        without it the images are split by patient. A label of -1 is uncertain; `read_study` decides what it means.
        `images` is the image folder if one is named. `options` are the keyword-only parameters of the function: those
        of `read_study` that this kind takes.
    metadata : sequence of str
        Columns of that table that the study keeps beside `view`, `sex`, `age` and `follow_up`.
    labels : sequence of str
        The labels that it has; empty if they depend on the source.
    boxes : callable, optional
        Path of a box list, or of its folder -> a box table (see `read_boxes`), or None if it is none of
        this dataset's.
    name, image_ids : str, optional
        The dataset's name, and a regular expression of its image ids: with them, tables say which images a backbone has
        seen, or may have seen, in pretraining.
    generic : bool
        Recognises a shape, such as any table, and not one dataset; asked after all others.
    hashes : bool
        Its ids of patients are those of a hospital, and hashed even if `read_study` is given no salt.
    get, licence, citation : str
        For the documentation: how to get it, under which terms, and what to cite.
    traps : sequence of str
        What is easily got wrong, in sentences.
    command : str
        The command that builds a study of it, with the name of its folder.
    counts : mapping
        Published numbers: `images`, `patients`, `images in SPLIT`, or positives by label. `study describe` compares a
        study that was built from the dataset with them.
    counted : str
        Who published these numbers.

    Examples
    --------
    >>> import cxrfeat as cxr
    >>> import pandas as pd
    >>> def read(source, images):
    ...     table = pd.read_csv(source / "ward.csv", dtype={"patient_id": str})
    ...     return table.assign(path="films/" + table["image_id"]), ["Effusion"]
    >>> ward = cxr.Dataset(
    ...     title="films of our ward", recognises=lambda source: (source / "ward.csv").is_file(), read=read
    ... )
    >>> ward.options
    ()
    """

    title: str
    recognises: Callable[[Path], bool]
    read: Callable[..., tuple[pd.DataFrame, Sequence[str]]]
    metadata: Sequence[str] = ()
    labels: Sequence[str] = ()
    boxes: Callable[[Path], pd.DataFrame | None] | None = None
    name: str = ""
    image_ids: str = ""
    generic: bool = False
    hashes: bool = False
    get: str = ""
    licence: str = ""
    citation: str = ""
    traps: Sequence[str] = ()
    command: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    counted: str = ""

    @property
    def options(self) -> tuple[str, ...]:
        """Options of `read_study` that its reader takes: the keyword-only parameters of `read`."""
        parameters = inspect.signature(self.read).parameters.values()
        return tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)


DATASETS: Registry[Dataset] = Registry(
    "dataset",
    "cxrfeat.datasets",
    {
        "nih": "cxrfeat._datasets.nih:DATASET",
        "nih-google": "cxrfeat._datasets.nih:GOOGLE",
        "rsna": "cxrfeat._datasets.rsna:DATASET",
        "chexpert": "cxrfeat._datasets.chexpert:DATASET",
        "chexpert-plus": "cxrfeat._datasets.chexpert:PLUS",
        "mimic-cxr": "cxrfeat._datasets.mimic:DATASET",
        "padchest": "cxrfeat._datasets.padchest:DATASET",
        "vindr-cxr": "cxrfeat._datasets.vindr:DATASET",
        "covid-19": "cxrfeat._datasets.covid:DATASET",
        "classes": "cxrfeat._datasets.folders:CLASSES",
        "dicom": "cxrfeat._datasets.folders:DICOM",
        "table": "cxrfeat._datasets.table:DATASET",
    },
    StudyError,
)
