"""What a study holds, counted: images, patients and positives, label by label and split by split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cxrfeat import _html as html

if TYPE_CHECKING:
    from cxrfeat._study import Study


@dataclass(frozen=True, repr=False)
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

    def __repr__(self) -> str:
        lines = [f"study {self.name}"]
        for rows in (self.split_rows(), self.rows()):
            lines.append(" " * 20 + "".join(f"{name:>10}" for name in list(rows[0])[1:]))
            lines += [
                f"{first:20}" + "".join(f"{cell:>10}" for cell in cells) for first, *cells in map(dict.values, rows)
            ]
        return "\n".join([*lines, *self.notes()])

    def _repr_html_(self) -> str:
        tables = {f"Study {self.name}": self.split_rows(), "Images with each label": self.rows()}
        return "\n".join(
            [html.page(title, {}, rows) for title, rows in tables.items()] + [*map(html.page, self.notes())]
        )

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits, without `all`."""
        return tuple(s for s in self.images if s != "all")

    def leakage(self) -> str:
        """The leakage check in words. A study with a leak cannot be made, so what can be summarised has none."""
        if len(self.splits) < 2:
            return "leakage check: nothing to check, the study has fewer than two splits"
        return f"leakage check: passed, no patient is in two of the splits {', '.join(self.splits)}"

    def notes(self) -> list[str]:
        """What the counts do not show: labels unknown for some images, and the leakage check."""
        return [f"{label}: unknown for {n:,} images" for label, n in self.unknown.items()] + [self.leakage()]

    def split_rows(self) -> list[dict[str, Any]]:
        """One row per split, and one for all: images and patients."""
        return [{"split": s, "images": n, "patients": self.patients[s]} for s, n in self.images.items()]

    def rows(self) -> list[dict[str, Any]]:
        """One row per label for a table: its name, positives in all, share of the images, positives per split."""
        total = self.images["all"]
        return [
            {"label": label, "positive": n["all"], "share": f"{n['all'] / total:.1%}"} | {s: n[s] for s in self.splits}
            for label, n in self._counts().items()
        ]

    def _counts(self) -> dict[str, Mapping[str, int]]:
        return {**self.positives, "(no finding)": self.no_finding}

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
    split = study.table["split"].to_numpy(dtype=str)
    masks = {"all": np.ones(len(study), dtype=bool)} | {s: split == s for s in study.splits}
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
