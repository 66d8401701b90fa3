"""Splitting by patient with the labels in proportion: iterative stratification.

The method of Sechidis, Tsoumakas and Vlahavas, "On the stratification of multi-label data", ECML PKDD 2011, LNAI
6913, pp. 145-158, with patients in the place of samples: a patient counts as many times for a label as he or she has
images with it, and never stands on two sides.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from cxrfeat.errors import StudyError


def stratified(
    y: npt.NDArray[np.float64], patients: npt.NDArray[np.str_], shares: Mapping[str, float], seed: int = 0
) -> npt.NDArray[np.str_]:
    """Give every image a split, whole patients at a time, so that each label is spread in proportion.

    The label with the fewest images left is dealt out first, the patients with the most images of it first, each to
    the split that still wants most of this label (then most images, then the first named). Patients without any
    label come last and fill up the numbers.

    Parameters
    ----------
    y : ndarray, float (n, labels)
        1 present; 0 and NaN do not count.
    patients : ndarray of str (n,)
        Whose image it is.
    shares : mapping of str to float
        Share of the images for each split; they are scaled to add up to one.
    seed : int
        Orders patients that are alike; the order of the rows plays no part.

    Returns
    -------
    ndarray of str (n,)
        The split of each image.

    Raises
    ------
    StudyError
        If a share is negative, none is positive, or there are fewer patients than splits with a share.
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
    np.add.at(counts, unit, positive)
    side = _deal(counts, images, np.array(list(wanted.values())), np.random.default_rng(seed))
    _fill_empty(side, images, len(wanted))
    return np.array(list(wanted))[side[unit]]


def assign(
    y: npt.NDArray[np.float64],
    patients: npt.NDArray[np.str_],
    listed: npt.NDArray[np.str_] | None = None,
    *,
    val: float = 0.1,
    test: float = 0.2,
    seed: int = 0,
) -> npt.NDArray[np.str_]:
    """Give every image `train`, `val` or `test`: as listed where a list is given, else stratified.

    A list that names no validation image has some carved from its training patients.

    Parameters
    ----------
    y, patients, seed
        As in `stratified`.
    listed : ndarray of str (n,), optional
        The side of each image as published.
    val, test : float
        Shares of all images; `test` counts only without a list.

    Returns
    -------
    ndarray of str (n,)
        `train`, `val` or `test`.

    Raises
    ------
    StudyError
        If the shares leave nothing to train on, or there are too few patients.
    """
    if not (val >= 0 and test >= 0 and val + test < 1):
        raise StudyError(f"validation and test shares of {val:g} and {test:g} leave no images to train on.")
    if listed is None:
        return stratified(y, patients, {"train": 1 - val - test, "val": val, "test": test}, seed)
    side = listed.astype(object)
    train = side == "train"
    if val and train.any() and not (side == "val").any():
        share = min(val * len(y) / train.sum(), 0.5)
        side[train] = stratified(y[train], patients[train], {"train": 1 - share, "val": share}, seed)
    return side.astype(str)


def _deal(
    counts: npt.NDArray[np.float64],
    images: npt.NDArray[np.int64],
    shares: npt.NDArray[np.float64],
    rng: np.random.Generator,
) -> npt.NDArray[np.int64]:
    """Side of each patient, int (patients,), from images per patient and label, (patients, labels), and in all."""
    shares = shares / shares.sum()
    want = shares[:, None] * counts.sum(axis=0)  # (splits, labels), brought up to date once a label
    room = (shares * images.sum()).tolist()
    side = np.full(len(images), -1)
    chance = rng.random(len(images))
    left = counts.copy()
    while left.any():
        totals = left.sum(axis=0)
        label = int(np.where(totals > 0, totals, np.inf).argmin())
        members = (left[:, label] > 0).nonzero()[0]
        members = members[np.lexsort((chance[members], -images[members], -left[members, label]))]
        side[members] = _greedy(left[members, label].tolist(), images[members].tolist(), want[:, label].tolist(), room)
        for split in range(len(shares)):
            want[split] -= counts[members[side[members] == split]].sum(axis=0)
        left[members] = 0
    rest = (side < 0).nonzero()[0]
    rest = rest[np.lexsort((chance[rest], -images[rest]))]
    size = images[rest].tolist()
    side[rest] = _greedy([0.0] * len(rest), size, [0.0] * len(shares), room)
    return side


def _greedy(amounts: list[float], sizes: list[int], want: list[float], room: list[float]) -> list[int]:
    """Give each patient to the split that wants most; `want` and `room` are used up. Plain lists: 30,000 in 30 ms."""
    chosen = []
    splits = range(len(want))
    for amount, size in zip(amounts, sizes, strict=True):
        best = max(splits, key=lambda s: (want[s], room[s]))
        want[best] -= amount
        room[best] -= size
        chosen.append(best)
    return chosen


def _fill_empty(side: npt.NDArray[np.int64], images: npt.NDArray[np.int64], splits: int) -> None:
    """Give a split that got nobody the smallest patient of the split with the most; only tiny tables come here."""
    for split in range(splits):
        if not (side == split).any():
            largest = np.bincount(side, minlength=splits).argmax()
            members = (side == largest).nonzero()[0]
            side[members[images[members].argmin()]] = split
