"""Which rows a head learns from, and which it is tuned on: train and validation, separated by patient."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cxrfeat._split import VERSION, stratified
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
    if not study.labels:
        raise HeadError(f"study {study.name!r} has no labels to learn; it can be predicted only.")
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
    splits = study.table["split"].to_numpy(dtype=str)
    splits[train] = stratified(study.y[train], patients, {"train": 1 - SHARE, "val": SHARE}, seed)
    carved = study.with_splits(splits, origin="val carved from train by patient", version=VERSION, seed=seed)
    held = splits == "val"
    who = len(np.unique(study.patients[held]))
    return Splits(carved, f"carved from train by patient with seed {seed}: {int(held.sum())} images of {who} patients")
