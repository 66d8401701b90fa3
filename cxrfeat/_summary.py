"""What a study holds, counted: images, patients and positives, label by label and split by split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cxrfeat._study import Study


@dataclass(frozen=True)
class Summary:
    """Counts of a study.

    Attributes
    ----------
    name : str
        The study's name.
    images, patients : mapping of str to int
        By split, and under `all`. Images without a split count under `all` only.
    positives : mapping of str to mapping of str to int
        Label -> split (and `all`) -> number of images with it.
    unknown : mapping of str to int
        Label -> number of images for which it is unknown; labels known everywhere are left out.
    no_finding : mapping of str to int
        By split, and under `all`: images with every label known and none present.
    """

    name: str
    images: Mapping[str, int]
    patients: Mapping[str, int]
    positives: Mapping[str, Mapping[str, int]]
    unknown: Mapping[str, int]
    no_finding: Mapping[str, int]

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits, without `all`."""
        return tuple(s for s in self.images if s != "all")

    def leakage(self) -> str:
        """The leakage check in words. A study with a leak cannot be made, so what can be summarised has none."""
        if len(self.splits) < 2:
            return "leakage check: nothing to check, the study has fewer than two splits"
        return f"leakage check: passed, no patient stands in two of the splits {', '.join(self.splits)}"

    def rows(self) -> list[dict[str, Any]]:
        """One row per label for a table: its name, positives in all, share of the images, positives per split."""
        total = self.images["all"]
        counts = {**self.positives, "(no finding)": self.no_finding}
        return [
            {"label": label, "positive": n["all"], "share": f"{n['all'] / total:.1%}"} | {s: n[s] for s in self.splits}
            for label, n in counts.items()
        ]

    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return {**asdict(self), "leaking_patients": 0, "leakage_check": self.leakage()}


def summarise(study: Study) -> Summary:
    """Count a study's images, patients and positives per label and split.

    Parameters
    ----------
    study : Study
        What is counted.
    """
    side = study.table["split"].to_numpy(dtype=str)
    masks = {"all": np.ones(len(study), dtype=bool)} | {s: side == s for s in study.splits}
    y, patients = study.y, study.patients
    unknown = np.isnan(y).sum(axis=0)
    return Summary(
        name=study.name,
        images={s: int(m.sum()) for s, m in masks.items()},
        patients={s: len(set(patients[m])) for s, m in masks.items()},
        positives={
            label: {s: int((y[m, j] == 1).sum()) for s, m in masks.items()} for j, label in enumerate(study.labels)
        },
        unknown={label: int(n) for label, n in zip(study.labels, unknown, strict=True) if n},
        no_finding={s: int((y[m] == 0).all(axis=1).sum()) for s, m in masks.items()},
    )
