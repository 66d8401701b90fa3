"""Splitting by patient with the labels in proportion: iterative stratification.

The order is that of Sechidis, Tsoumakas and Vlahavas, "On the stratification of multi-label data", ECML PKDD 2011,
LNAI 6913, pp. 145-158, with patients as the units: the label with the fewest images left is dealt out first. The rule
is not theirs. A split is chosen as seats are in the method of Sainte-Lague, by its need for the label relative to its
share, so that patients with many images are spread in proportion too. (By the absolute need, version 1, the split with
the largest share gets them all: train had 4.5 images a patient on ChestX-ray14, and validation 2.1.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cxrfeat.errors import HeadError, StudyError

if TYPE_CHECKING:
    from cxrfeat._study import Study

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Texts = npt.NDArray[np.str_]

VERSION = 2
"""Of the method, recorded wherever a split is made; splits that exist are never made again."""

_MOVES = 300
_VALIDATION, _FEWEST_PATIENTS = 0.15, 8


def stratified(y: Floats, patients: npt.NDArray, shares: Mapping[str, float], seed: int = 0) -> Texts:
    """Give every image a split, str (n,), whole patients at a time, with every label in proportion to the shares.

    `y` is float (n, labels); only 1 counts. `seed` decides between patients that are alike; the order of the rows has
    no influence. Raises a StudyError for shares that make no sense, or fewer patients than splits.
    """
    wanted = {name: share for name, share in shares.items() if share}
    if not wanted or min(wanted.values()) < 0:
        raise StudyError(f"a split needs shares of 0 or more and one above 0, not {dict(shares)}.")
    who, unit = np.unique(patients, return_inverse=True)
    if len(who) < len(wanted):
        raise StudyError(f"{len(who)} patients cannot be split into {', '.join(wanted)}: each needs at least one.")
    images = np.bincount(unit, minlength=len(who)).astype(np.int64)
    positive = np.nan_to_num(y) == 1
    counts = np.zeros((len(who), y.shape[1]))
    for label, row in enumerate(positive.T):
        counts[:, label] = np.bincount(unit[row], minlength=len(who))
    fractions = np.array(list(wanted.values())) / sum(wanted.values())
    split = _deal(counts, images, fractions, np.random.default_rng(seed))
    _refine(split, np.column_stack([counts, images, np.ones(len(who))]), fractions)
    _fill_empty(split, images, len(wanted))
    return np.array(list(wanted))[split[unit]]


def assign(
    y: Floats, patients: Texts, listed: Texts | None = None, *, val: float = 0.1, test: float = 0.2, seed: int = 0
) -> tuple[Texts, dict[str, Any]]:
    """Give every image `train`, `val` or `test`, str (n,): as published in `listed` if that is given, else stratified.

    A list that names no validation image has some carved from its training patients; `val` and `test` are shares of
    all images, and `test` counts only without a list. There is no split without labels, since there is nothing to learn
    from. Returns also how it came about. Raises a StudyError if the shares leave nothing to train on.
    """
    if listed is None and not y.shape[1]:
        return np.full(len(y), "", dtype="U5"), {}
    if not (val >= 0 and test >= 0 and val + test < 1):
        raise StudyError(f"validation and test shares of {val:g} and {test:g} leave no images to train on.")
    how = {"version": VERSION, "val": val, "test": test, "seed": seed}
    if listed is None:
        shares = {"train": 1 - val - test, "val": val, "test": test}
        return stratified(y, patients, shares, seed), {"origin": "stratified by patient", **how}
    train = listed == "train"
    if not val or not train.any() or (listed == "val").any():
        return listed, {"origin": "as published"}
    split, share = listed.astype(object), min(val * len(y) / train.sum(), 0.5)
    split[train] = stratified(y[train], patients[train], {"train": 1 - share, "val": share}, seed)
    return split.astype(str), {"origin": "as published, val carved from train by patient", **how}


def resolve_splits(study: Study, seed: int) -> tuple[Study, str]:
    """Return a study with a validation split, carved from train by patient if it has none, and where it comes from."""
    if not study.labels:
        raise HeadError(f"study {study.name!r} has no labels to learn; it can be predicted only.")
    if "train" not in study.splits:
        raise HeadError(
            f"study {study.name!r} has no split 'train' to learn from; `cxrfeat study build --resplit` makes splits."
        )
    if "val" in study.splits:
        return study, f"the study's own val split, {len(study.split('val'))} images"
    splits, patients = study.table["split"].to_numpy(dtype=str), study.patients
    train = splits == "train"
    if len(np.unique(patients[train])) < _FEWEST_PATIENTS:
        return study, f"none: train has fewer than {_FEWEST_PATIENTS} patients to carve one from"
    splits[train] = stratified(study.y[train], patients[train], {"train": 1 - _VALIDATION, "val": _VALIDATION}, seed)
    held = splits == "val"
    who = len(np.unique(patients[held]))
    carved = study.with_splits(splits, origin="val carved from train by patient", version=VERSION, seed=seed)
    return carved, f"carved from train by patient with seed {seed}: {held.sum()} images of {who} patients"


def _deal(counts: Floats, images: Ints, shares: Floats, rng: np.random.Generator) -> Ints:
    want = shares[:, None] * counts.sum(axis=0)  # (splits, labels), brought up to date once a label
    room = shares * images.sum()
    split = np.full(len(images), -1)
    chance = rng.random(len(images))
    left = counts.copy()
    while left.any():
        totals = left.sum(axis=0)
        label = int(np.where(totals > 0, totals, np.inf).argmin())
        members = (left[:, label] > 0).nonzero()[0]
        members = members[np.lexsort((chance[members], -images[members], -left[members, label]))]
        split[members] = _apportion(left[members, label], want[:, label], shares)
        for k in range(len(shares)):
            mine = members[split[members] == k]
            want[k] -= counts[mine].sum(axis=0)
            room[k] -= images[mine].sum()
        left[members] = 0
    rest = (split < 0).nonzero()[0]
    rest = rest[np.lexsort((chance[rest], -images[rest]))]
    split[rest] = _apportion(images[rest].astype(np.float64), room, shares)
    return split


def _apportion(amounts: Floats, want: Floats, shares: Floats) -> list[int]:
    """Deal amounts, largest first, so that at every step each split has its part: what it wants, or else its share.

    Plain lists: 30,000 patients in 60 ms.
    """
    part = np.maximum(want, 0.0) if (want > 0).any() else shares
    weight = (part / part.sum() * amounts.sum()).tolist()
    need, chosen = list(weight), []
    splits = [k for k, value in enumerate(weight) if value > 0]
    for amount in amounts.tolist():
        best = max(splits, key=lambda k: (need[k] - amount / 2) / weight[k])
        need[best] -= amount
        chosen.append(best)
    return chosen


def _refine(split: Ints, amounts: Floats, shares: Floats) -> None:
    """Move single patients while a label is off by more than an image, each time the move that helps most.

    Patients with many findings leave little room to later labels; on tables with few of them nothing is left to do.
    `amounts` are images with each label, images and patients, float (patients, labels + 2).
    """
    held = np.stack([amounts[split == k].sum(axis=0) for k in range(len(shares))])
    off = held - shares[:, None] * amounts.sum(axis=0)
    weight = np.ones(amounts.shape[1])
    weight[-2:] = 0.1, 0.1
    own = 2 * (amounts**2 @ weight)
    for _ in range(_MOVES):
        if np.abs(off[:, :-2]).max(initial=0.0) <= 1:
            return
        toward = amounts @ (off * weight).T  # (patients, splits)
        gain = 2 * (toward[np.arange(len(split)), split][:, None] - toward) - own[:, None]
        gain[np.arange(len(split)), split] = 0.0
        patient, new = np.unravel_index(int(gain.argmax()), gain.shape)
        if gain[patient, new] <= 0:
            return
        off[split[patient]] -= amounts[patient]
        off[new] += amounts[patient]
        split[patient] = new


def _fill_empty(split: Ints, images: Ints, splits: int) -> None:
    """Give a split without patients the smallest patient of the split with the most; only tiny tables come here."""
    for empty in range(splits):
        if not (split == empty).any():
            largest = np.bincount(split, minlength=splits).argmax()
            members = (split == largest).nonzero()[0]
            split[members[images[members].argmin()]] = empty
