"""Reading a study from whatever holds it: a study file, a dataset's folder, any table, the embedded sample."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from pandas.api.types import is_string_dtype

from cxrfeat import _remote as remote
from cxrfeat import _sample as sample
from cxrfeat._datasets.anonymise import anonymised
from cxrfeat._datasets.cells import Policy, decide
from cxrfeat._datasets.dataset import DATASETS, Dataset
from cxrfeat._datasets.spreadsheet import chosen, first
from cxrfeat._images import SUFFIXES
from cxrfeat._labels import choose, nih_first
from cxrfeat._project import study_path
from cxrfeat._remote import Place, Url
from cxrfeat._split import assign
from cxrfeat._study import (
    RESERVED,
    Study,
    beside,
    cleaned,
    is_study_file,
    looks_like_labels,
    numbers,
    one_each,
    read_study_file,
)
from cxrfeat.errors import NotFoundError, StudyError

_log = logging.getLogger(__name__)

Missing = Literal["error", "skip", "keep"]

_SHAPE = {"image_id", "path", "patient", "findings", "separator", "split", "unmentioned", "readers", "encoding"}
"""Options on what a source looks like; a dataset whose reader does not take them is not asked."""


def read_study(
    source: str | Place | Study | None = None,
    *,
    labels: Iterable[str] = (),
    name: str | None = None,
    dataset: str | None = None,
    images: str | Place | None = None,
    image_id: str | None = None,
    path: str | None = None,
    patient: str | None = None,
    findings: str | None = None,
    separator: str = "|",
    split: str | None = None,
    uncertain: Policy | None = None,
    soft: bool = False,
    unmentioned: Literal["unknown", "negative"] = "unknown",
    readers: Literal["any", "majority", "mean"] = "majority",
    where: Mapping[str, str] | Iterable[str] = (),
    drop_duplicates: bool = False,
    encoding: str | None = None,
    keep: Iterable[str] = (),
    one_per: Literal["patient", "study"] | None = None,
    resplit: bool = False,
    val: float = 0.1,
    test: float = 0.2,
    seed: int = 0,
    missing: Missing = "error",
    anonymise: str | None = None,
    build: bool = False,
) -> Study:
    """Read a study, or build one from a dataset's folder or a table.

    A finished study is read as it is: a study file, the name of one under `studies/`, or `sample`, the embedded one.
    Anything else is built: columns are found, labels read, images looked for, and patients split into train, val and
    test. Official lists and split columns are used where there are any; otherwise every label is spread in proportion.

    Parameters
    ----------
    source : str, Path or Study, optional
        A study file, a study's name, `sample`, a dataset's folder, or a table with one row per image; study files and
        tables also at an address, such as `s3://bucket/study.csv`. A `Study` is returned as it is. By default the
        only study under `studies/`.
    labels : iterable of str
        Labels to use, in this order; synonyms are allowed. By default all. Of a table these are the label columns,
        holding 1, 0 or nothing (also true/false, yes/no), by default every column that holds nothing else; with
        `findings` they are the findings that may occur.
    name : str, optional
        The study's name; by default the folder's or file's.
    dataset : str, optional
        What `source` is, such as `nih` or `table`; by default it is recognised.
    images : str or Path, optional
        The image folder, also at an address, if it is not beside the table. Relative paths start there.
    image_id, path, patient, split : str, optional
        Columns of a table; by default those called `image_id`, `path`, `patient_id` and `split`. Without an id column
        the path is the id, and without a path column the id is the file's name. For a folder per class, `patient` is a
        regular expression that finds the patient in a file's name, in its first group; for DICOM files, an attribute.
    findings : str, optional
        A column of a table that names the findings in one cell, as `Effusion|Mass`.
    separator : str
        What separates two findings of that column.
    uncertain : str or float, mapping, or iterable of str, optional
        What -1 (in a table also `u` or `uncertain`) means: `unknown`, `positive`, `negative`, or a probability between
        0 and 1. For single labels: `{"Atelectasis": "positive"}` or `["Atelectasis=positive"]`. By default unknown, but
        in a table of your own such a cell is an error. The study records it.
    soft : bool
        Where `uncertain` does not say otherwise, -1 is the probability 0.5. Heads that take soft targets learn from
        probabilities; for all others, and for every evaluation, such labels are unknown.
    unmentioned : {"unknown", "negative"}
        What it means that a report does not mention a finding, for datasets that leave such cells empty: CheXpert and
        MIMIC-CXR. An image without any label stays unknown.
    readers : {"any", "majority", "mean"}
        When a finding is present that not all readers see, for VinDr-CXR; `mean` gives the share of readers, a
        probability.
    where : mapping, or iterable of str
        Use only the rows of a table with this value in this column, as `{"modality": "X-ray"}` or `["modality=X-ray"]`.
        Several values of one column are alternatives. Of a dataset, a column that the study has, as `view`.
    drop_duplicates : bool
        Of rows with the same image id use the first, instead of refusing them.
    encoding : str, optional
        Of a table; by default UTF-8 or UTF-16 as the file says, else that of Windows in Western Europe.
    keep : iterable of str
        More columns to keep, to group by. Otherwise `view`, `sex`, `age` and `follow_up` are kept.
    one_per : {"patient", "study"}, optional
        Use one image of each: frontal before lateral, then the earliest follow-up, then the first id.
    resplit : bool
        Split again, even if the dataset has official lists or a split column.
    val, test : float
        Shares of all images. `test` counts only without official lists; if these name no validation images, `val` is
        carved from their training patients.
    seed : int
        Seed of the split.
    missing : {"error", "skip", "keep"}
        What to do if images are not on disk: refuse, leave out their rows, or keep them unchecked.
    anonymise : str, optional
        A salt: a secret text with which the ids of patients and studies are hashed (HMAC-SHA256, 16 hexadecimal
        digits), the same way in every study, so that studies of one salt share their patients. Without it the ids of
        DICOM headers are hashed without a secret, and those of tables are taken as they are.
    build : bool
        Build the study even if `source` is a finished one, or there is a finished study of that name. Any option that
        changes how it is built implies it.

    Returns
    -------
    Study
        Checked: ids are unique and no patient is in two splits.

    Raises
    ------
    NotFoundError
        If the source, a table, the image folder or an image is missing.
    StudyError
        If the source cannot be read as a study; the message names file and row.
    LeakageError
        If its own split puts one patient in two splits.

    Examples
    --------
    >>> import cxrfeat as cxr
    >>> study = cxr.read_study("sample")
    >>> study
    Study 'sample': 150 images, 136 patients, 14 labels; train 76, val 17, test 57
    >>> cxr.read_study("sample", labels=["Effusion", "Mass"], resplit=True, seed=1).labels
    ('Effusion', 'Mass')
    >>> table = cxr.copy_sample("xrays")
    >>> len(cxr.read_study(table, images="xrays/images", path="file", patient="patient", findings="findings"))
    150
    """
    asked = {**locals(), "labels": tuple(labels), "keep": tuple(keep)}
    if isinstance(source, Study):
        return source.with_labels(labels) if labels else source
    changed = {
        key for key, usual in (read_study.__kwdefaults__ or {}).items() if asked[key] != usual and (asked[key] or usual)
    }
    plain = not changed - {"labels", "name", "build"}
    folder = None if images is None else _folder_of(images)
    place, address = _place_of(source, build)
    if str(source) == sample.NAME and place == Path(sample.NAME):
        if plain:
            return read_study_file(sample.path(), asked["labels"] or None, name)
        place, name = sample.folder(), name or sample.NAME
    elif plain and not build and is_study_file(place):
        return read_study_file(place, asked["labels"] or None, name, address and address.parent)
    if not place.exists():
        raise NotFoundError(f"there is no study, folder or table {place}.")
    kind = _recognise(place, dataset, changed & _SHAPE, address)
    table, found = kind.read(place, folder, **{key: asked[key] for key in kind.options})
    if where and "where" not in kind.options:
        table = chosen(table, place, where)
    found = found if asked["labels"] else nih_first(map(str, found))
    if asked["labels"] and "labels" not in kind.options:
        found = choose(asked["labels"], found)
    root = address.parent if address else (place if place.is_dir() else place.parent).resolve()
    table = _unique(
        _kept(table, found, (*(c for c in kind.metadata if c in table), *asked["keep"]), place), place, drop_duplicates
    )
    table = _present(table, folder or root, root, missing)
    if one_per:
        table = one_each(table, one_per, place).reset_index(drop=True)
    table, decided = decide(table, found, uncertain, soft)
    listed = None if resplit else _listed(table, kind)
    y, patients = table[list(found)].to_numpy(dtype=float), table["patient_id"].to_numpy(dtype=str)
    table["split"], splits = assign(y, patients, listed, val=val, test=test, seed=seed)
    about = {"dataset": kind.title, "source": place.name, "splits": splits, **decided}
    about |= {key: asked[key] for key in ("unmentioned", "readers") if key in kind.options}
    about |= {"one_per": one_per} if one_per else {}
    table, hidden = anonymised(table, anonymise, kind.hashes)
    about |= hidden
    if kind.counts:
        about["published"] = {"by": kind.counted, **kind.counts}
    order = [c for c in RESERVED if c in table] + [c for c in table if c not in RESERVED]
    usual = place.stem if kind.generic and place.is_file() else root.name
    return Study(cleaned(table[order]), tuple(map(str, found)), name or usual, root, about)


def _folder_of(images: str | Place) -> Place:
    """The image folder that is named, which must be there; a web server does not say."""
    folder = remote.place(images).expanduser()
    if not folder.is_dir() and not (isinstance(folder, Url) and folder.is_web):
        raise NotFoundError(f"there is no image folder {folder}.")
    return folder


def _place_of(source: str | Place | None, build: bool) -> tuple[Path, Url | None]:
    """The file or folder that is meant; of a table at an address a copy, and the address."""
    given = None if source is None else remote.place(source).expanduser()
    address = given if build and given is not None else study_path(given)
    if not isinstance(address, Url):
        return address, None
    from cxrfeat._remote import copies

    try:
        copy = copies.fetch(address)
    except NotFoundError:
        if not address.is_dir():
            raise
        raise StudyError(f"{address} is a folder: name its table, and the folder of the films in `images`.") from None
    about = beside(copy)
    try:
        copies.fetch(address.with_name(about.name))
    except NotFoundError:
        about.unlink(missing_ok=True)
    return copy, address


def _recognise(source: Path, named: str | None, given: set[str], address: Url | None) -> Dataset:
    """The dataset named, else the first that recognises the source and takes the options that are given."""
    kinds = [DATASETS[named]] if named is not None else sorted(DATASETS, key=lambda kind: kind.generic)
    known = []
    for kind in kinds:
        if named is not None or kind.recognises(source):
            if address and not kind.generic:
                raise StudyError(
                    f"{address} is of {kind.title}, which has other tables beside it. Copy these to a folder here, and "
                    "name the folder of the films in `images`; or read this table alone with `dataset=table`."
                )
            if given <= set(kind.options):
                return kind
            known.append(kind)
    if known:
        raise StudyError(f"{known[0].title} has no option `{min(given.difference(known[0].options))}`.")
    titles = ", ".join(kind.title for kind in kinds[:-1]) + f" or {kinds[-1].title}"
    raise StudyError(f"{source} is not recognised as {titles}. Name its table, with one row per image.")


def _listed(table: pd.DataFrame, kind: Dataset) -> npt.NDArray[np.str_] | None:
    """The splits that a source gives; none if it is a dataset's table of train alone, so that there is a test split."""
    listed = table["split"].to_numpy(dtype=str) if "split" in table else None
    return None if listed is not None and not kind.generic and set(listed) == {"train"} else listed


def _kept(table: pd.DataFrame, labels: Sequence[str], extra: Sequence[str], source: Path) -> pd.DataFrame:
    """The columns that a study keeps, with their types; every other column of the source is left out."""
    if table.empty:
        raise StudyError(f"{source} has no rows.")
    if absent := [column for column in extra if column not in table]:
        raise StudyError(
            f"{source} has no column {absent[0]!r} to `keep`; its columns are {', '.join(map(str, table))}."
        )
    wanted = dict.fromkeys([*RESERVED, *extra, *labels])
    kept = table[[column for column in wanted if column in table]].copy()
    for column in kept:
        if column in labels:
            kept[column] = kept[column].astype(float)
        elif column in ("age", "follow_up"):
            kept[column] = numbers(kept[column])
        else:
            cells = kept[column]
            kept[column] = (cells if is_string_dtype(cells) else cells.astype(object)).fillna("").astype(str)
            if column not in RESERVED and looks_like_labels(kept[column]):
                raise StudyError(
                    f"{source}: the column {column!r} holds 1, 0 and empty cells, so a study would read it as a "
                    "label. Name it in `labels`, or do not `keep` it."
                )
    return kept


def _unique(table: pd.DataFrame, source: Path, drop: bool) -> pd.DataFrame:
    doubled = table["image_id"].duplicated()
    if not doubled.any():
        return table
    row, name = first(table["image_id"], doubled)
    found = f"{source}, row {row}: image_id {name!r} is duplicated ({int(doubled.sum())} such rows)"
    if not drop:
        raise StudyError(
            f"{found}; every image needs an id of its own. Keep the first of each: `drop_duplicates=True`."
        )
    _log.warning("%s; the first row of each is kept.", found)
    return table[~doubled]


def _present(table: pd.DataFrame, where: Place, root: Place, missing: Missing) -> pd.DataFrame:
    """Leave out the rows whose image is missing, or refuse; an empty path is one that the reader did not find."""
    if missing == "keep" and table["path"].str.lower().str.endswith(SUFFIXES).all():
        return table.reset_index(drop=True)
    table["path"], absent = _located(root, table["path"])
    if missing == "keep" or not absent.any():
        return table.reset_index(drop=True)
    lost = table[absent].iloc[0]
    name = repr(lost["path"] or lost["image_id"])
    if absent.all():
        raise StudyError(
            f"none of the {len(table)} images is under {where}, the first is {name}; name their folder with `images`."
        )
    found = f"{int(absent.sum())} of {len(table)} images are not under {where}, the first is {name}"
    if missing == "error":
        raise NotFoundError(f"{found}. Put them there, or leave their rows out with `missing=skip`.")
    _log.warning("%s; their rows are left out.", found)
    return table[~absent].reset_index(drop=True)


def _located(root: Place, paths: pd.Series) -> tuple[list[str], npt.NDArray[np.bool_]]:
    """Paths, with the ending that a table left out, and which of the files are missing, bool (n,).

    Each folder is listed once: asking for 112,120 files takes minutes.
    """
    addresses = _at_addresses(root, paths)

    @cache
    def names(folder: str) -> set[str]:
        if folder in addresses:
            return addresses[folder]
        try:
            return set(os.listdir(os.path.join(str(root), folder)))  # noqa: PTH118, PTH208 - 187,641 times
        except OSError:
            return set()

    @cache
    def whole(folder: str) -> dict[str, str]:
        return _by_stem(names(folder))

    found, absent = [], np.zeros(len(paths), dtype=bool)
    for i, path in enumerate(paths):
        folder, slash, name = path.rpartition("/")
        folder = folder or slash
        there = name if name in names(folder) else whole(folder).get(name, "")
        absent[i] = not (name and there)
        found.append(path if absent[i] else path.removesuffix(name) + there)
    return found, absent


def _at_addresses(root: Place, paths: pd.Series) -> dict[str, set[str]]:
    """For each folder of the paths that is at an address, what is there of their files, or all that is there."""
    if not isinstance(root, Url) and not paths.str.contains("://", regex=False).any():
        return {}
    from cxrfeat._remote import transfer

    wanted: dict[str, list[str]] = {}
    for path in paths:
        folder, _, name = path.rpartition("/")
        wanted.setdefault(folder, []).append(name)
    listed: dict[str, set[str]] = {}
    asked: list[tuple[str, str, Url]] = []
    whole: dict[Url, str] = {}
    for folder, names in wanted.items():
        place = remote.join(root, folder) if folder else root
        if not isinstance(place, Url):
            continue
        listed[folder] = set()
        if place.is_web or all(name.lower().endswith(SUFFIXES) for name in names):
            asked += [(folder, name, place / name) for name in names if name]
        else:
            whole[place] = folder
    for (folder, name, _), found in zip(asked, transfer.stat([url for *_, url in asked]), strict=True):
        listed[folder] |= {name} if found else set()
    for place, there in transfer.listing(list(whole)).items():
        listed[whole[place]] = set(there)
    return listed


def _by_stem(names: Iterable[str]) -> dict[str, str]:
    """Image files by their name without its ending, where that is unambiguous."""
    pictures = [(name.rpartition(".")[0], name) for name in names if name.lower().endswith(SUFFIXES)]
    stems = Counter(stem for stem, _ in pictures)
    return {stem: name for stem, name in pictures if stems[stem] == 1}
