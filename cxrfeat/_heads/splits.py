"""Which rows a head learns from, and which it is tuned on: train and validation, separated by patient."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cxrfeat._split import stratified
from cxrfeat._study import Study, check_leakage
from cxrfeat.errors import HeadError

SHARE = 0.15
FEWEST_PATIENTS = 8


@dataclass(frozen=True)
class Splits:
    """A study with its splits resolved: a validation split carved from train is in the table too.

    `note` says where validation comes from.
    """

    study: Study
    note: str

    @property
    def train(self) -> Study:
        """Images to learn from."""
        return self.study.split("train")

    @property
    def validation(self) -> Study | None:
        """Images for early stopping, calibration and thresholds; None if there are too few patients for any."""
        return self.study.split("val") if "val" in self.study.splits else None


def resolve_splits(study: Study, seed: int) -> Splits:
    """Take the study's own validation split, or carve one from train by patient, stratified by label."""
    check_leakage(study.table, study.name)
    if "train" not in study.splits:
        raise HeadError(
            f"study {study.name!r} has no split 'train' to learn from; `cxrfeat study build --resplit` makes splits."
        )
    if "val" in study.splits:
        return Splits(study, f"the study's own val split, {len(study.split('val'))} images")
    train = (study.table["split"] == "train").to_numpy()
    patients = study.patients[train]
    if len(np.unique(patients)) < FEWEST_PATIENTS:
        return Splits(study, f"none: train has fewer than {FEWEST_PATIENTS} patients to carve one from")
    side = stratified(study.y[train], patients, {"train": 1 - SHARE, "val": SHARE}, seed)
    table = study.table.copy()
    table.loc[train, "split"] = side
    carved = Study(table, study.labels, study.name, study.root)
    held = int((side == "val").sum())
    who = len(np.unique(patients[side == "val"]))
    return Splits(carved, f"carved from train by patient with seed {seed}: {held} images of {who} patients")
