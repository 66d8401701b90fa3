"""What predicts labels without looking at the image: its size, file format, depth, brightness, border, view."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import rankdata

from cxrfeat import _html as html
from cxrfeat._images import decode
from cxrfeat._progress import Progress, silent
from cxrfeat._remote import Place, readers
from cxrfeat._split import Floats, Ints, Texts, stratified
from cxrfeat._study import Study
from cxrfeat.errors import ImageError

LIMIT = 1000
FOLDS = 5
ERRORS = 3.5
"""Standard errors above 0.5 from which an AUROC is reported: a hundred and more of them are looked at."""

PROPERTIES = ("width", "height", "aspect", "format", "depth", "brightness", "border")
_BINS = 8


@dataclass(frozen=True, repr=False)
class Shortcuts:
    """What `shortcuts` returns. It prints as a table, in a notebook too.

    Attributes
    ----------
    name : str
        The study's.
    images, patients : int
        How many were looked at.
    rows : list of dict
        One per label: `label`, `positive`, the AUROC of each property alone, `together` (of all of them), and `best`
        (the larger of the best alone and all together). NaN where there are too few patients with or without the label.
        Empty without labels, and where no image can be read.
    """

    name: str
    images: int
    patients: int
    rows: list[dict[str, Any]]

    def __repr__(self) -> str:
        table = pd.DataFrame(self.rows).to_string(index=False, float_format="{:.3f}".format, na_rep="-")
        return "\n".join([self.title, table, *self.warnings()])

    def _repr_html_(self) -> str:
        return "\n".join([html.page(self.title, {}, self.rows), *map(html.page, self.warnings())])

    @property
    def title(self) -> str:
        """What the table shows, in a sentence."""
        return (
            f"Study {self.name}: AUROC without looking at the image, cross-validated by patient; {self.images} images "
            f"of {self.patients} patients"
        )

    def warnings(self) -> list[str]:
        """A sentence for each label that such a property tells better than chance does."""
        if not self.images:
            return [f"no image of study {self.name} can be read: nothing is scored without looking."]
        found = []
        for row in self.rows:
            if row["best"] >= 0.65 and row["best"] - ERRORS * row["standard_error"] > 0.5:
                alone = {key: row[key] for key in (*PROPERTIES, "view") if key in row}
                most = max(alone, key=lambda key: np.nan_to_num(alone[key]))
                found.append(
                    f"{row['label']}: AUROC {row['best']:.3f} without looking at the image ({most} alone: "
                    f"{alone[most]:.3f}). A model that scores near it may have learnt nothing else."
                )
        return found


def shortcuts(study: Study, *, limit: int = LIMIT, seed: int = 0, progress: Progress = silent) -> Shortcuts:
    """Score what tells labels without looking at the image.

    Width, height, aspect ratio, file format, bit depth, mean brightness, brightness of the border, and the view if the
    study has it: each alone (the share of the label in its bins) and all together (ridge regression on the bins), on
    patients that were not learnt from. No network is used. Where an AUROC here is high, a model may do as well for the
    same reason.

    Parameters
    ----------
    study : Study
        With labels, and its images on disk; an image that cannot be read is left out.
    limit : int
        Look at no more images than this, of patients drawn at random.
    seed : int
        Of that draw and the folds.
    progress : callable
        Called with the images done and their total.

    Returns
    -------
    Shortcuts
        A row per label, and warnings.

    Examples
    --------
    >>> import cxrfeat as cxr
    >>> study = cxr.read_study("sample").with_labels(["Effusion"])
    >>> found = cxr.shortcuts(study)
    >>> sorted(found.rows[0])[:5]
    ['aspect', 'best', 'border', 'brightness', 'depth']
    """
    study = _drawn(study, limit, seed)
    table = _measure(study, progress)
    seen = table.notna()["width"].to_numpy()
    if not seen.any() or not study.labels:
        return Shortcuts(study.name, int(seen.sum()), len(set(study.patients[seen])), [])
    study, table = study.take(seen), table[seen].reset_index(drop=True)
    scores, errors = _cross_validated(table, study.y, study.patients, seed)
    rows = []
    for j, label in enumerate(study.labels):
        mine = {name: float(value[j]) for name, value in scores.items()}
        row = {"label": label, "positive": int((study.y[:, j] == 1).sum()), **mine}
        rows.append({**row, "best": float(pd.Series(mine).max()), "standard_error": float(errors[j])})
    return Shortcuts(study.name, len(study), len(np.unique(study.patients)), rows)


def _drawn(study: Study, limit: int, seed: int) -> Study:
    if len(study) <= limit:
        return study
    who, unit = np.unique(study.patients, return_inverse=True)
    place = np.random.default_rng(seed).permutation(len(who))[unit]
    return study.take(np.sort(np.argsort(place, kind="stable")[:limit]))


def _measure(study: Study, progress: Progress) -> pd.DataFrame:
    """Properties of every image, a row each; numbers, and codes of what is none. NaN for an unreadable image."""
    rows = []
    paths = study.paths()
    with ThreadPoolExecutor(readers(paths, os.cpu_count() or 1)) as pool:
        for row in pool.map(_properties, paths):
            rows.append(row)
            progress(len(rows), len(study))
    table = pd.DataFrame(rows, columns=PROPERTIES)
    if "view" in study.table:
        table["view"] = study.table["view"].to_numpy()
    for name in {"format", "depth", "view"} & set(table):
        table[name] = pd.factorize(table[name])[0].astype(float)
    return table


def _properties(path: Place) -> tuple[Any, ...]:
    try:
        data = decode.read_bytes(path)
        grey = decode.decode_grey(data)
        dicom = data[128:132] == b"DICM"
        header = None if dicom else decode.check_header(data)
    except ImageError:
        return (np.nan,) * 7
    h, w = grey.shape
    edge = max(1, min(h, w) // 50)
    frame = np.concatenate([grey[:edge].ravel(), grey[-edge:].ravel(), grey[:, :edge].ravel(), grey[:, -edge:].ravel()])
    kind, depth = ("DICOM", "") if header is None else (header.format, header.mode)
    return w, h, w / h, kind, depth, float(grey.mean()), float(frame.mean())


def _cross_validated(table: pd.DataFrame, y: Floats, patients: Texts, seed: int) -> tuple[dict[str, Floats], Floats]:
    """AUROC per label of each property and of all together, the mean over folds; and the standard error of a guess's.

    A pooled AUROC would be below 0.5 where nothing is learnt, since a fold with more positives leaves fewer to learn
    from.
    """
    labels = y.shape[1]
    scores: dict[str, list[Floats]] = {str(name): [] for name in (*table, "together")}
    m, n = np.array([[len(np.unique(patients[one == value])) for one in y.T] for value in (1, 0)])
    enough = np.minimum(m, n) >= 2 * FOLDS
    if not enough.any():
        return dict.fromkeys(scores, np.full(labels, np.nan)), np.full(labels, np.nan)
    fold = stratified(y, patients, {str(k): 1.0 for k in range(FOLDS)}, seed)
    bins = {str(name): _binned(column) for name, column in table.items()}
    indicators = np.hstack([codes[:, None] == np.unique(codes) for codes in bins.values()]).astype(float)
    for train, held in ((fold != str(k), fold == str(k)) for k in range(FOLDS)):
        guesses = {name: _shares(codes, y, train) for name, codes in bins.items()}
        guesses["together"] = _together(indicators, y, train)
        for name, guess in guesses.items():
            one = np.full(labels, np.nan)
            for j in range(labels):
                rows = held & ~np.isnan(y[:, j])
                if enough[j] and len(set(y[rows, j])) == 2:
                    one[j] = _auroc(y[rows, j], guess[rows, j])
            scores[name].append(one)
    means = {name: pd.DataFrame(each).mean().to_numpy() for name, each in scores.items()}
    # By patients with and without the label.
    return means, np.where(enough, np.sqrt((m + n + 1) / (12 * m * n).clip(1)), np.nan)


def _binned(values: pd.Series) -> Ints:
    if values.nunique() <= 2 * _BINS:
        return pd.factorize(values)[0]
    return pd.qcut(values, _BINS, labels=False, duplicates="drop").to_numpy()


def _shares(codes: Ints, y: Floats, train: npt.NDArray[np.bool_]) -> Floats:
    """The share of each label among the training images of an image's bin, shrunk to the share in all."""
    known = ~np.isnan(y) & train[:, None]
    overall = np.where(known, y, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    out = np.empty(y.shape)
    for code in np.unique(codes):
        mine = codes == code
        seen = known & mine[:, None]
        out[mine] = (np.where(seen, y, 0).sum(axis=0) + 2 * overall) / (seen.sum(axis=0) + 2)
    return out


def _together(bins: Floats, y: Floats, train: npt.NDArray[np.bool_]) -> Floats:
    """Ridge regression on the bins of all properties: milliseconds, where boosted trees take seconds."""
    guesses = np.empty(y.shape)
    for j, value in enumerate(y.T):
        rows = train & ~np.isnan(value)
        x = bins[rows]
        guesses[:, j] = bins @ np.linalg.solve(x.T @ x + np.eye(x.shape[1]), x.T @ (value[rows] - 0.5))
    return guesses


def _auroc(y: Floats, score: Floats) -> float:
    """Mann and Whitney's statistic over the number of pairs."""
    positive = y == 1
    n = int(positive.sum())
    return float((rankdata(score)[positive].sum() - n * (n + 1) / 2) / (n * (len(y) - n)))
