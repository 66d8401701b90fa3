"""The study: the table of images that everything else is joined to, by `image_id` and never by position.

A study file is a plain CSV, or Parquet with the same columns. Reserved columns are `image_id`, `path`, `patient_id`,
`split`, `view`, `sex`, `age` and `follow_up`; of the others, a column whose values are all 1, 0 or empty is a label
(1 present, 0 absent, empty unknown), and anything else is kept as it is, to group by. Labels that the study's
provenance names as soft may be probabilities too. Paths are relative to the file's own folder unless they
are absolute, so that a study and its images can move together.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxrfeat import _files as files
from cxrfeat import _parquet as parquet
from cxrfeat._labels import NIH_LABELS, canonical, choose, nih_first
from cxrfeat._remote import Place, Url, clean, is_remote, join
from cxrfeat.errors import LeakageError, NotFoundError, StudyError

if TYPE_CHECKING:
    from cxrfeat._summary import Summary

_log = logging.getLogger(__name__)

SPLITS = ("train", "val", "test")
REQUIRED = ("image_id", "path", "patient_id", "split")
RESERVED = (*REQUIRED, "view", "sex", "age", "follow_up")
KIND = "study"
NEARLY = 0.9
_AT_ONCE = 1 << 18
"""Rows that are written as text at a time."""
_WRITTEN = ("0", "1", "0.0", "1.0", "")


@dataclass(frozen=True, eq=False, repr=False)
class Study:
    """A checked table of images. `read_study` reads one.

    Every image has an id of its own, every label is 1, 0 or NaN (unknown), and no patient is in two splits: a table
    that breaks this is refused when the study is made. Labels that `provenance` names under `soft` may be
    probabilities.

    Attributes
    ----------
    table : pandas.DataFrame
        One row per image, index 0..n-1. `image_id`, `path`, `patient_id` and `split` are strings; label columns are
        float64 (1, 0 or NaN for unknown).
    labels : tuple of str
        The label columns, in order.
    name : str
        Short name, used in file names.
    root : pathlib.Path
        The folder that relative paths start from; of a study at an address, that of its folder.
    provenance : mapping
        How it was made: `dataset`, `source` (a file name), `splits` (origin, version of the method, shares, seed),
        what was decided about labels, and `derived`, what was done to other studies. Empty if that is not known.

    Examples
    --------
    >>> import cxrfeat as cxr
    >>> study = cxr.read_study("sample")
    >>> study.split("test").with_labels(["Effusion", "Mass"])
    Study 'sample': 57 images, 46 patients, 2 labels; test 57
    >>> study.y.shape
    (150, 14)
    >>> study.save("studies/sample.csv").name
    'sample.csv'
    """

    table: pd.DataFrame
    labels: tuple[str, ...]
    name: str
    root: Place = field(default_factory=Path.cwd)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check(self.table, self.labels, self.name, self.provenance.get("soft", ()))

    def __repr__(self) -> str:
        counts = self.table["split"].value_counts()
        patients = self.table["patient_id"].nunique()
        parts = [f"{len(self)} images", f"{patients} patients", f"{len(self.labels)} labels"]
        splits = ", ".join(f"{s} {counts[s]}" for s in self.splits)
        return f"Study {self.name!r}: {', '.join(parts)}" + (f"; {splits}" if splits else "")

    def _repr_html_(self) -> str:
        return self.describe()._repr_html_()

    def __len__(self) -> int:
        return len(self.table)

    @property
    def ids(self) -> npt.NDArray[np.str_]:
        """Image ids, str (n,)."""
        return self.table["image_id"].to_numpy(dtype=str)

    @property
    def patients(self) -> npt.NDArray[np.str_]:
        """Patient ids, str (n,)."""
        return self.table["patient_id"].to_numpy(dtype=str)

    @property
    def y(self) -> npt.NDArray[np.float64]:
        """Labels, float64 (n, labels): 1 present, 0 absent, NaN unknown, as every probability between is."""
        found = np.array(self.targets)
        found[(found > 0) & (found < 1)] = np.nan
        return found

    @property
    def targets(self) -> npt.NDArray[np.float64]:
        """Labels, float64 (n, labels), with probabilities between 0 and 1, for heads that learn from soft targets."""
        return self.table[list(self.labels)].to_numpy(dtype=np.float64)

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that have images, train, val and test first."""
        present = set(self.table["split"].unique())
        return tuple(s for s in SPLITS if s in present) + tuple(sorted(present.difference(SPLITS, {""})))

    @property
    def sha256(self) -> str:
        """Hash of the table's content: image ids, patients, labels, splits and metadata. Paths do not count."""
        return _digest(_csv_parts(self.table, self.table["image_id"].array.argsort(), without="path"))

    def paths(self) -> list[Place]:
        """Absolute path, or address, of every image, in row order."""
        return [join(self.root, path) for path in self.table["path"]]

    def split(self, *names: str) -> Study:
        """Return the part of the study in the splits named.

        Parameters
        ----------
        *names : str
            `train`, `val`, `test`; a StudyError is raised if one has no images.
        """
        there = ", ".join(self.splits) or "none"
        if absent := [name for name in names if name not in self.splits]:
            raise StudyError(f"study {self.name!r} has no images in split {absent[0]!r}; it has {there}.")
        return self.take(self.table["split"].isin(names).to_numpy())

    def take(self, rows: npt.NDArray[np.bool_] | npt.NDArray[np.int64] | Sequence[int]) -> Study:
        """Return the rows chosen by a mask or by positions, as a study.

        Parameters
        ----------
        rows : ndarray of bool (n,), or of int
            Which images.
        """
        rows = np.asarray(rows)
        table = self.table.iloc[rows].reset_index(drop=True)
        if table.empty or (rows.dtype != bool and np.bincount(rows % len(self)).max() > 1):
            return replace(self, table=table)
        found = copy(self)  # without another check: these are rows that were checked, each once
        object.__setattr__(found, "table", table)
        return found

    def with_labels(self, wanted: Iterable[str]) -> Study:
        """Return the study with these labels only, in this order; the other label columns are dropped.

        Parameters
        ----------
        wanted : iterable of str
            Labels, synonyms allowed, in the order they are to have.
        """
        chosen = choose(wanted, self.labels)
        rest = [c for c in self.table.columns if c not in self.labels]
        return replace(self, table=self.table[[*rest, *chosen]], labels=chosen)

    def with_splits(self, splits: npt.ArrayLike, **how: Any) -> Study:
        """Return the study with other splits.

        Parameters
        ----------
        splits : array-like of str (n,)
            The split of each image; empty for none.
        **how
            Where they come from, for `provenance`.
        """
        table = self.table.assign(split=np.asarray(splits, dtype=str))
        return replace(self, table=table, provenance={**self.provenance, "splits": how})

    def join(self, image_ids: Sequence[str] | npt.NDArray[np.str_]) -> Study:
        """Return the rows of these ids, in their order.

        Parameters
        ----------
        image_ids : sequence of str
            The ids; a StudyError is raised if one is not in the study.
        """
        rows = pd.Index(self.table["image_id"]).get_indexer(pd.Index(image_ids))
        if (rows < 0).any():
            missing = np.asarray(image_ids)[rows < 0].tolist()
            raise StudyError(
                f"{len(missing)} of {len(rows)} images are not in study {self.name!r}, the first is {missing[0]!r}. "
                "Use the study they were made from."
            )
        return self.take(rows)

    def describe(self) -> Summary:
        """Count images, patients and positives, by split and label."""
        from cxrfeat._summary import summarise  # it knows what a study is

        return summarise(self)

    def save(self, path: str | Path | None = None, *, overwrite: bool = False) -> Path:
        """Write the study as CSV or Parquet, and its provenance beside it; relative paths start from the new place.

        Parameters
        ----------
        path : str or Path, optional
            The file to write, Parquet if it ends in `.parquet`; by default `studies/NAME.csv`, or with more than a
            million images `studies/NAME.parquet`.
        overwrite : bool
            Replace another study of that name. The study's own source and files that are no studies never are.

        Raises
        ------
        StudyError, OutputError
            If there is another study or file of that name.
        """
        path = Path("studies", self.name + parquet.ending_of(len(self))) if path is None else Path(path)
        table = self.table.assign(path=_relocate(self.table["path"], self.root, path.parent.resolve()))
        is_parquet = path.suffix == parquet.ENDING

        if path.exists() and (is_parquet or not path.is_file() or files.sha256(path) != _digest(_csv_parts(table))):
            source = [] if _provenance(path) else [join(self.root, self.provenance.get("source", ""))]
            files.check_output(path, own=is_study_file(path), inputs=source, overwrite=None)
            if not overwrite and not (is_parquet and read_study_file(path).table.equals(table)):
                raise StudyError(f"{path} holds another study; replace it with `overwrite=True`, or name another file.")
        if is_parquet:
            soft = self.provenance.get("soft", ())
            types = {label: "float64" if label in soft else "int8" for label in self.labels}
            types |= {column: "float64" for column in ("age", "follow_up") if column in table}
            parquet.write(path, table, KIND, types)
        else:
            with files.atomic_path(path) as draft, draft.open("wb") as file:
                file.writelines(_csv_parts(table))
        about = {"format": "cxrfeat-study", "format_version": 1, "sha256": files.sha256(path), **self.provenance}
        about["own_sha256"] = files.own_hash(about, "own_sha256")
        files.write_atomically(beside(path), json.dumps(about, indent=2) + "\n")
        return path


def is_study_file(path: str | Path) -> bool:
    """Whether there is a CSV with the columns that a study needs, or a study as Parquet."""
    if Path(path).suffix == parquet.ENDING:
        return parquet.holds(Path(path), KIND)
    return set(REQUIRED) <= files.csv_columns(path)


def read_study_file(
    path: str | Path, labels: Iterable[str] | None = None, name: str | None = None, root: Place | None = None
) -> Study:
    """Read a study file, as `Study.save` writes it; `labels` chooses among its labels, and orders them.

    `root` is where its paths start, if that is not its own folder.

    Every column of 1, 0 and empty that is not reserved is a label, the 14 NIH findings first and in their order.
    """
    path = Path(path)
    if not path.is_file():
        raise NotFoundError(f"there is no file {path}.")
    as_parquet = path.suffix == parquet.ENDING
    table = parquet.read(path, StudyError) if as_parquet else files.read_csv(path)
    if missing := [c for c in REQUIRED if c not in table.columns]:
        raise StudyError(
            f"{path} has no column {missing[0]!r}; a study has {', '.join(REQUIRED)} and one column per label. "
            "`cxrfeat study build` makes one from any CSV."
        )
    about = _provenance(path)
    soft = about.get("soft", ())
    if as_parquet:
        found = [str(c) for c in table.select_dtypes("number") if c not in RESERVED]
    else:
        found = [c for c in table.columns if c not in RESERVED and (c in soft or looks_like_labels(table[c]))]
    for label in [] if as_parquet else found:
        bad = table[label][~table[label].str.strip().isin(_WRITTEN)]
        if label in soft:
            bad = bad[~numbers(bad).between(0, 1)]
        if len(bad):
            raise StudyError(
                f"{path}, row {bad.index[0] + 2}, column {label!r}: {bad.iloc[0]!r} is not a label; 1 is present, 0 "
                "absent, and an empty cell unknown."
            )
    for column in {*found, "age", "follow_up"} & set(table.columns):
        cells = table[column]
        table[column] = cells.astype(np.float64) if pd.api.types.is_numeric_dtype(cells) else numbers(cells)
    study = Study(cleaned(table), nih_first(found), name or path.stem, root or path.parent.resolve(), about)
    return study.with_labels(labels) if labels is not None else study


def beside(path: Path) -> Path:
    """Where it is written how a study was made."""
    return path.with_name(f"{path.name if path.suffix == parquet.ENDING else path.stem}.provenance.json")


def _provenance(path: Path) -> dict[str, Any]:
    """What is beside a study file on how it was made; nothing, with a warning, if the two do not fit."""
    about_file = beside(path)
    if not about_file.exists():
        return {}
    try:
        about = json.loads(about_file.read_text(encoding="utf-8"))
        own = about.pop("own_sha256", None)  # earlier files have none
        current = own in (None, files.own_hash(about, "own_sha256"))
        current = about.pop("format") == "cxrfeat-study" and about.pop("sha256") == files.sha256(path) and current
    except (OSError, ValueError, AttributeError, KeyError, TypeError, RecursionError):
        current = False
    if not current:
        _log.warning("%s does not fit %s, or is damaged: how the study was made is not known.", about_file, path.name)
        return {}
    return {key: value for key, value in about.items() if key != "format_version"}


def cleaned(table: pd.DataFrame) -> pd.DataFrame:
    """The table without what addresses in it carry of credentials, which stay in this process's memory."""
    texts = table.select_dtypes(exclude="number")
    marked = [str(c) for c in texts if texts[c].astype(str).str.contains("://", regex=False).any()]
    return table.assign(**{c: [clean(str(cell)) for cell in table[c]] for c in marked}) if marked else table


def check(table: pd.DataFrame, labels: Sequence[str], name: str, soft: Container[str] = ()) -> None:
    """Raise a StudyError for the first thing that keeps `table` from being a study; `soft` labels are probabilities."""
    if not len(table):
        raise StudyError(f"study {name!r} has no images.")
    for column in (*REQUIRED, *labels):
        if column not in table.columns:
            raise StudyError(f"study {name!r} has no column {column!r}.")
    for column in ("image_id", "patient_id"):
        cells = table[column]
        empty = ((cells if isinstance(cells.dtype, pd.StringDtype) else cells.astype(str)).str.strip() == "").to_numpy()
        if empty.any():
            raise StudyError(f"study {name!r}, row {int(empty.argmax()) + 2}: {column} is empty.")
    doubled = table["image_id"].duplicated().to_numpy()
    if doubled.any():
        row = int(doubled.argmax())
        raise StudyError(
            f"study {name!r}, row {row + 2}: image_id {table['image_id'].iloc[row]!r} is duplicated "
            f"({int(doubled.sum())} duplicated ids in all); every image needs an id of its own."
        )
    for label in labels:  # one by one, since all of them take as much memory as the table
        y = table[label].to_numpy(dtype=np.float64)
        bad = ~(np.isnan(y) | (((y >= 0) & (y <= 1)) if label in soft else ((y == 0) | (y == 1))))
        if bad.any():
            row = int(bad.argmax())
            raise StudyError(
                f"study {name!r}, row {row + 2}, column {label!r}: {y[row]:g} is not a label; "
                "1 is present, 0 absent, and NaN or an empty cell unknown."
            )
    check_leakage(table, name)


def check_leakage(table: pd.DataFrame, name: str = "") -> None:
    """Raise a LeakageError if a patient has images in two splits; images without a split do not count."""
    seen = table.loc[table["split"] != "", ["patient_id", "split"]].drop_duplicates()
    shared = seen["patient_id"][seen["patient_id"].duplicated(keep=False)]
    if shared.empty:
        return
    patients = tuple(sorted(set(shared)))
    splits = seen[seen["patient_id"].isin(patients)].groupby("patient_id")["split"].agg(sorted)
    pairs = Counter(pair for found in splits for pair in combinations(found, 2))
    where = "; ".join(f"{a} and {b}: {count}" for (a, b), count in sorted(pairs.items()))
    some = ", ".join(patients[:10]) + (f" and {len(patients) - 10} more" if len(patients) > 10 else "")
    raise LeakageError(
        f"leakage in study {name!r}: {len(patients)} patient{'s' * (len(patients) > 1)} in more than one split "
        f"({where}): {some}. Build the study again with `resplit=True`.",
        patients,
    )


def one_each(table: pd.DataFrame, unit: str, source: object) -> pd.DataFrame:
    """One row of each patient or study: of a frontal image, then the earliest follow-up, then the first id."""
    column = {"patient": "patient_id", "study": "study_id"}.get(unit)
    if column is None:
        raise StudyError(f"`one_per` is patient or study, not {unit!r}.")
    if column not in table:
        raise StudyError(f"{source} has no column {column!r}, which says what images belong together.")
    lateral = ~table.get("view", pd.Series("", table.index)).str.upper().str.startswith(("PA", "AP"))
    order = table[[column, "image_id"]].assign(lateral=lateral, follow_up=table.get("follow_up", 0))
    first = order.sort_values(["lateral", "follow_up", "image_id"]).drop_duplicates(column)
    return table[table.index.isin(first.index)]


def identical_images(study: Study, sha256: npt.NDArray[np.uint8]) -> list[tuple[str, str]]:
    """Return pairs of ids whose files are the same bytes and that are in different splits, and log them.

    No patient is in two splits, so these are of two patients, or the patient column is wrong. `sha256` is uint8 (n, 32)
    in the study's order, zeros where it is unknown; each image is paired with the first of its twins.
    """
    table = study.table[["image_id", "split"]].assign(sha256=[row.tobytes() for row in sha256])
    table = table[sha256.any(axis=1) & (table["split"] != "").to_numpy()]
    twin = table.groupby("sha256")[["image_id", "split"]].transform("first")
    apart = twin["split"] != table["split"]
    pairs = list(zip(twin["image_id"][apart], table["image_id"][apart], strict=True))
    if pairs:
        some = "; ".join(f"{a} and {b}" for a, b in pairs[:5]) + (f"; and {len(pairs) - 5} more" * (len(pairs) > 5))
        count = "1 image is" if len(pairs) == 1 else f"{len(pairs)} images are"
        _log.warning(
            "leakage in study %r: %s byte-identical to one in another split, of another patient: %s. Correct the "
            "patient ids, or leave one of each out.",
            study.name, count, some,
        )  # fmt: skip
    return pairs


def numbers(column: pd.Series) -> pd.Series:
    """Texts to float64, NaN for what is no number; each different text is read once, so that long columns are fast."""
    codes, texts = pd.factorize(column)
    values = pd.to_numeric(pd.Series(texts, dtype=object).astype(str).str.strip(), errors="coerce").to_numpy(float)
    return pd.Series(np.append(values, np.nan)[codes], index=column.index, name=column.name)


def looks_like_labels(column: pd.Series, words: Container[str] = _WRITTEN, unknown: Container[str] = ("",)) -> bool:
    """Whether a column of texts holds labels, though a few of its cells may be mistakes, which the reader reports.

    Unknown cells do not count. One of the 14 findings needs a single cell of 1 or 0.
    """
    counts = column.value_counts()  # before texts are folded: there are fewer
    finding = canonical(str(column.name)) in NIH_LABELS
    if len(counts) > 100 + (1 - NEARLY) * len(column) and not finding:
        return False  # ids: too many different texts for nine in ten cells to be labels
    folded = [(str(text).strip().lower(), n) for text, n in zip(counts.index.tolist(), counts.tolist(), strict=True)]
    filled = sum(n for text, n in folded if text not in unknown)
    share = sum(n for text, n in folded if text in words and text not in unknown) / max(1, filled)
    return share >= NEARLY or (share > 0 and finding)


def _relocate(paths: Iterable[str], root: Place, here: Path) -> list[str]:
    """Rewrite paths that start from `root` to start from `here`; a folder is worked out once, not once an image."""

    @cache
    def moved(folder: str) -> str:
        place = join(root, folder)
        if isinstance(place, Url):
            return str(place).rstrip("/")
        try:
            return Path(os.path.relpath(place.absolute(), here)).as_posix()
        except ValueError:  # another drive on Windows
            return place.absolute().as_posix()

    return [
        clean(path) if is_remote(path) else f"{moved(folder + slash)}/{file}"
        for path, (folder, slash, file) in ((path, path.rpartition("/")) for path in paths)
    ]


def _digest(parts: Iterable[bytes]) -> str:
    found = hashlib.sha256()
    for part in parts:
        found.update(part)
    return found.hexdigest()


def _csv_parts(table: pd.DataFrame, order: npt.NDArray[np.int64] | None = None, without: str = "") -> Iterator[bytes]:
    """A table as CSV, some rows at a time; numbers without a fraction are written without one."""
    kinds = {}
    for name, column in table.items():
        if pd.api.types.is_float_dtype(column) and ((known := column.dropna()) % 1 == 0).all():
            kinds[name] = "int64" if len(known) == len(column) else "Int64"
    columns = [column for column in table if column != without]
    for start in range(0, max(len(table), 1), _AT_ONCE):
        rows = slice(start, start + _AT_ONCE)
        part = table[columns].iloc[rows if order is None else order[rows]].astype(kinds)
        yield part.to_csv(index=False, header=start == 0, lineterminator="\n").encode()
