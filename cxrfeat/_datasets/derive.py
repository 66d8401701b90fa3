"""Studies made of studies: other names of labels, several merged, a part, another split."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from cxrfeat._datasets.dataset import DATASETS
from cxrfeat._datasets.reading import read_study
from cxrfeat._datasets.spreadsheet import chosen
from cxrfeat._labels import canonical, kinds_of, nih_first
from cxrfeat._split import assign
from cxrfeat._study import REQUIRED, RESERVED, Study, one_each
from cxrfeat.errors import NotFoundError, StudyError

_log = logging.getLogger(__name__)

AnyStudy = str | Path | Study | None


def map_study(
    study: AnyStudy = None,
    *,
    to: str | Study | Iterable[str] = (),
    rename: Mapping[str, str] | Iterable[str] = (),
    name: str | None = None,
) -> Study:
    """Give labels their usual names, and a study the labels of another.

    A label of `to` that the study lacks is derived where that can be done: it is present where a kind of it is (Edema
    is a kind of Lung Opacity), and absent where what it is a kind of is absent. Elsewhere it is unknown, never 0.

    Parameters
    ----------
    study : str, Path or Study, optional
        As in `read_study`.
    to : str, Study, or iterable of str
        The labels to have, in this order: those of a dataset (`nih`), of another study, or names. Other labels are
        dropped. By default the study's own, under their usual names.
    rename : mapping, or iterable of str
        Names for labels of the study, as `{"wet lung": "Edema"}` or `["wet lung=Edema"]`; used first.
    name : str, optional
        Of the new study; by default `NAME-mapped`.

    Returns
    -------
    Study
        With the same images, patients and splits.

    Raises
    ------
    StudyError
        If a label to rename is not in the study, or two labels would have one name.

    Examples
    --------
    >>> import cxrfeat as cxr
    >>> study = cxr.read_study("sample")
    >>> cxr.map_study(study, to=["Pleural Effusion", "Lung Opacity"]).labels
    ('Effusion', 'Lung Opacity')
    """
    study = read_study(study)
    pairs = dict(rename.items() if isinstance(rename, Mapping) else map(_pair, rename))
    if absent := [label for label in pairs if label not in study.labels]:
        raise StudyError(f"study {study.name!r} has no label {absent[0]!r}; it has {', '.join(study.labels)}.")
    names = {label: pairs.get(label) or canonical(label) for label in study.labels}
    for label, new in names.items():
        if twin := next((other for other in names if other != label and names[other] == new), None):
            raise StudyError(f"study {study.name!r}: the labels {label!r} and {twin!r} are both {new!r}; `rename` one.")
    table = study.table.rename(columns=names)
    own, wanted = list(names.values()), _wanted(to)
    for label in wanted:
        if label not in own:
            below, above = kinds_of(label, own)
            present = (table[below] == 1).any(axis=1).to_numpy()
            absent_above = (table[above] == 0).any(axis=1).to_numpy()
            table[label] = np.select([present & absent_above, present, absent_above], [np.nan, 1.0, 0.0], np.nan)
            of = " and ".join([*below, *above])
            _log.info("%s: %s", label, f"derived from {of}" if of else "the study does not have it; unknown")
    labels = tuple(wanted or own)
    rest = [column for column in study.table if column not in study.labels]
    soft = [names[label] for label in study.provenance.get("soft", ()) if names.get(label) in labels]
    renamed = {a: b for a, b in names.items() if a != b}
    about = _derived(study, "map", {"soft": soft}, labels=list(labels), renamed=renamed)
    return Study(table[[*rest, *labels]], labels, name or f"{study.name}-mapped", study.root, about)


def merge_studies(
    *studies: AnyStudy,
    name: str | None = None,
    same_patients: bool = False,
    resplit: bool = False,
    val: float = 0.1,
    test: float = 0.2,
    seed: int = 0,
) -> Study:
    """Put several studies together: all their images, and all their labels under their usual names.

    A label that a study does not have is unknown for its images. The column `study` says where an image is from, to
    group results by.

    Parameters
    ----------
    *studies : str, Path or Study
        Two or more, as in `read_study`. Their names must differ.
    name : str, optional
        Of the new study; by default their names with `+` between.
    same_patients : bool
        The same patient id is the same patient in all of them, and the same image file the same image: for each of its
        labels the first study that knows it counts. Otherwise ids of patients get the study's name, and image ids too
        if one is in two studies.
    resplit : bool
        Split again by patient. Otherwise every image keeps its split.
    val, test, seed
        As in `read_study`, for `resplit`.

    Returns
    -------
    Study
        Its paths are absolute.

    Raises
    ------
    LeakageError
        If a patient would be in two splits.
    StudyError
        If fewer than two studies are named, or two have the same name.

    Examples
    --------
    >>> import cxrfeat as cxr
    >>> study = cxr.read_study("sample")
    >>> ours, theirs = study.split("train"), study.split("test").with_labels(["Mass"])
    >>> cxr.merge_studies(ours, cxr.subset_study(theirs, name="theirs")).y.shape
    (133, 14)
    """
    parts = [map_study(study, name=study.name) for study in map(read_study, studies)]
    names = [study.name for study in parts]
    if len(parts) < 2 or len(set(names)) < len(names):
        raise StudyError(f"name two or more studies of different names, not {', '.join(names) or 'none'}.")
    tables = [study.table.assign(path=[str(path) for path in study.paths()]) for study in parts]
    for table, study in zip(tables, parts, strict=True):
        if "study" not in table:
            table.insert(len(REQUIRED), "study", study.name)
        if not same_patients:
            table["patient_id"] = f"{study.name}-" + table["patient_id"]
    merged = pd.concat(tables, ignore_index=True)
    if not same_patients and merged["image_id"].duplicated().any():
        merged["image_id"] = np.concatenate(
            [f"{study.name}-" + table["image_id"] for study, table in zip(parts, tables, strict=True)]
        )
    labels = nih_first(dict.fromkeys(label for study in parts for label in study.labels))
    texts = [str(c) for c in merged if c not in labels and c not in ("age", "follow_up")]
    merged[texts] = merged[texts].astype(object).fillna("").astype(str)
    if same_patients and (twice := merged["image_id"].duplicated(keep=False)).any():
        merged = _joined(merged, twice)
    order = [c for c in RESERVED if c in merged] + [c for c in merged if c not in (*RESERVED, *labels)] + [*labels]
    merged = merged[order].reset_index(drop=True)
    how: dict[str, Any] = {"origin": "as in each study"}
    if resplit:
        y, patients = merged[list(labels)].to_numpy(dtype=float), merged["patient_id"].to_numpy(dtype=str)
        merged["split"], how = assign(y, patients, val=val, test=test, seed=seed)
    about = {
        "dataset": "several studies",
        "derived": [{"how": "merge", "of": {s.name: s.sha256 for s in parts}, "same_patients": same_patients}],
        "soft": sorted({label for study in parts for label in study.provenance.get("soft", ())}),
        "splits": how,
    }
    about = {key: value for key, value in about.items() if value}
    return Study(merged, labels, name or "+".join(names), Path.cwd(), about)


def subset_study(
    study: AnyStudy = None,
    *,
    where: Mapping[str, str] | Iterable[str] = (),
    split: Iterable[str] = (),
    labels: Iterable[str] = (),
    one_per: Literal["patient", "study"] | None = None,
    only: Iterable[str] | str | Path = (),
    drop: Iterable[str] | str | Path = (),
    name: str | None = None,
) -> Study:
    """Take a part of a study: some rows, some labels.

    Parameters
    ----------
    study : str, Path or Study, optional
        As in `read_study`.
    where : mapping, or iterable of str
        Only rows with this value in this column, as `{"view": "PA"}` or `["view=PA"]`; several values of one column are
        alternatives.
    split : iterable of str
        Only these splits.
    labels : iterable of str
        Only these labels, in this order.
    one_per : {"patient", "study"}, optional
        One image of each: frontal before lateral, then the earliest follow-up, then the first id.
    only, drop : iterable of str, or path
        Image ids to take, and to leave out; or a text file with an id in each line.
    name : str, optional
        Of the new study; by default `NAME-subset`.

    Returns
    -------
    Study
        With the splits that its images had.

    Raises
    ------
    StudyError
        If nothing is left, or a column, split or label is not in the study.

    Examples
    --------
    >>> import cxrfeat as cxr
    >>> cxr.subset_study("sample", where=["view=PA"], one_per="patient", labels=["Mass"])
    Study 'sample-subset': 95 images, 95 patients, 1 labels; train 51, val 14, test 30
    """
    study = read_study(study)
    part = study.split(*split) if (split := tuple(split)) else study
    table = part.table
    if where:
        texts = chosen(table.drop(columns=list(part.labels)).astype(str), Path(study.name), where)
        table = table.loc[texts.index]
    wanted, unwanted = _ids(only), _ids(drop)
    table = table[table["image_id"].isin(wanted)] if wanted else table
    table = table[~table["image_id"].isin(unwanted)]
    if table.empty:
        raise StudyError(f"nothing is left of study {study.name!r}.")
    if one_per:
        table = one_each(table, one_per, f"study {study.name!r}")
    where = dict(where) if isinstance(where, Mapping) else list(where)
    about = _derived(study, "subset", where=where, split=split, one_per=one_per, images=len(table))
    found = replace(part, table=table.reset_index(drop=True), name=name or f"{study.name}-subset", provenance=about)
    return found.with_labels(labels) if (labels := tuple(labels)) else found


def resplit_study(
    study: AnyStudy = None, *, val: float = 0.1, test: float = 0.2, seed: int = 0, name: str | None = None
) -> Study:
    """Split a study again, by patient and with every label in proportion.

    Parameters
    ----------
    study : str, Path or Study, optional
        As in `read_study`.
    val, test : float
        Shares of all images.
    seed : int
        Seed of the split.
    name : str, optional
        Of the new study; by default `NAME-resplit`.

    Returns
    -------
    Study
        The same images in other splits.

    Raises
    ------
    StudyError
        If the shares make no sense, or there are fewer patients than splits.

    Examples
    --------
    >>> import cxrfeat as cxr
    >>> cxr.resplit_study("sample", val=0, test=0.5)
    Study 'sample-resplit': 150 images, 136 patients, 14 labels; train 75, test 75
    """
    study = read_study(study)
    splits, how = assign(study.y, study.patients, val=val, test=test, seed=seed)
    about = _derived(study, "resplit", {"splits": how})
    table = study.table.assign(split=splits)
    return replace(study, table=table, name=name or f"{study.name}-resplit", provenance=about)


def _derived(study: Study, how: str, changed: Mapping[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    """The provenance of a study made of another; published counts are not its any more."""
    step = {"how": how, "of": {study.name: study.sha256}, **{key: value for key, value in options.items() if value}}
    about = {**study.provenance, "derived": [*study.provenance.get("derived", ()), step], **(changed or {})}
    return {key: value for key, value in about.items() if value and key != "published"}


def _pair(text: str) -> tuple[str, str]:
    old, sign, new = text.partition("=")
    if not (sign and old and new):
        raise StudyError(f"`rename` takes OLD=NEW, not {text!r}.")
    return old, new


def _wanted(to: str | Study | Iterable[str]) -> list[str]:
    """The labels to have; none if the study keeps its own."""
    if isinstance(to, str) and to in DATASETS:
        labels = tuple(DATASETS[to].labels)
        if not labels:
            raise StudyError(f"the dataset {to!r} has no labels of its own; name a study, or labels.")
        return list(labels)
    if isinstance(to, (str, Study)):
        return list(map(canonical, read_study(to).labels))
    return list(dict.fromkeys(map(canonical, to)))


def _joined(merged: pd.DataFrame, twice: pd.Series) -> pd.DataFrame:
    """One row for an image of several studies; of each cell the first that is known counts."""
    same = merged[twice].groupby("image_id")["path"].agg(lambda paths: len({Path(p).resolve() for p in paths}))
    if (same > 1).any():
        raise StudyError(
            f"the image {same[same > 1].index[0]!r} is another file in each study. If these are other images, leave "
            "out `same_patients`."
        )
    texts = [str(c) for c in merged if merged[c].dtype == object or pd.api.types.is_string_dtype(merged[c])]
    known = merged.assign(**{c: merged[c].mask(merged[c] == "") for c in texts})
    joined = known[twice].groupby("image_id", sort=False).first().reset_index()
    return pd.concat([joined[list(merged)], merged[~twice]], ignore_index=True).fillna(dict.fromkeys(texts, ""))


def _ids(ids: Iterable[str] | str | Path) -> set[str]:
    if not isinstance(ids, (str, Path)):
        return set(ids)
    if not Path(ids).is_file():
        raise NotFoundError(f"there is no file {ids}; name a text file with an image id in each line.")
    return {line.strip() for line in Path(ids).read_text(encoding="utf-8-sig").splitlines()} - {""}
