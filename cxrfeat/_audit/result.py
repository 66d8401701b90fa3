"""Copies that were found: a table, ids to drop, a contact sheet."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cxrfeat._audit import pixels
from cxrfeat._files import csv_for, write_atomically
from cxrfeat._project import leaks_folder
from cxrfeat._recipe import Recipe
from cxrfeat._report import tables
from cxrfeat._study import SPLITS, Study

if TYPE_CHECKING:
    from cxrfeat._report.canvas import Canvas

KINDS = ("file", "pixels", "near", "unverified")
FEWEST = 20
"""Images of different patients from which on a distribution can be read."""

Row = dict[str, Any]


@dataclass(frozen=True, repr=False)
class Leaks(tables.Result):
    """What `leaks` returns. It prints as a table, in a notebook too.

    Attributes
    ----------
    studies : list of Study
        What was searched.
    pairs : list of dict
        One per pair of images of two patients, or of two studies. `how`: `file` (the same bytes), `pixels` (the same
        decoded pixels), `near` (alike on pixels) or `unverified` (alike by embeddings, where a file cannot be read);
        `similarity`, the correlation of pixels; `cosine`, of embeddings or of small pictures, the larger one; of both
        images `study_a`, `image_a`, `split_a` and so on; and `patient_same`, whether two studies write one patient id.
    same_patient : int
        Pairs of one patient that are as alike by cosine. They are in one split, and harmless.
    compared : int
        Candidates whose pixels were compared.
    threshold : float
        Correlation from which on a candidate is called a copy; NaN where there were too few images to read it from.
    expected_false : float
        False pairs above the threshold on average.
    unread : int
        Images that could not be read.
    recipe : Recipe or None
        Of the embeddings that were searched; None if there were none.
    """

    studies: list[Study]
    pairs: list[Row]
    same_patient: int
    compared: int
    threshold: float
    expected_false: float
    unread: int = 0
    recipe: Recipe | None = None

    def title(self) -> str:
        """What was searched."""
        names = " and ".join(f"{study.name} ({len(study):,} images)" for study in self.studies)
        return f"Copies of images under two patients in {names}"

    def tables(self) -> dict[str, list[Row]]:
        """How many pairs, by where the two images are and how they were found."""
        counts = Counter((self._where(row), row["how"]) for row in self.pairs)
        places = dict.fromkeys(place for place, _ in counts) or ["no copies"]
        return {"": [{"images in": place} | {kind: counts[place, kind] for kind in KINDS} for place in places]}

    def _where(self, row: Row) -> str:
        if row["study_a"] != row["study_b"]:
            return f"{row['study_a']} and {row['study_b']}"
        own = f"{row['study_a']}: " if len(self.studies) > 1 else ""
        if row["split_a"] == row["split_b"]:
            return f"{own}{row['split_a'] or 'no split'}, both"
        return own + " and ".join(sorted((row["split_a"], row["split_b"]), key=_rank))

    def notes(self) -> list[str]:
        """How it was searched, and how sure it is."""
        if np.isfinite(self.threshold):
            by = f"embeddings ({self.recipe.describe()}) and small pictures" if self.recipe else "small pictures"
            notes = [
                f"Near copies: {self.compared:,} candidates by {by}. A copy correlates by {self.threshold:.2f} or more "
                f"on pixels; {self.expected_false:g} false pairs are expected there, by how alike different patients "
                "of these images are."
            ]
        else:
            notes = [f"Near copies were not looked for: that takes images of {FEWEST} patients that can be read."]
        if self.same_patient:
            notes.append(f"{self.same_patient:,} pairs of one patient are as alike by cosine; they are in one split.")
        return notes

    def problems(self) -> list[str]:
        """What must be read first."""
        found = [f"{self.unread:,} images could not be read."] * bool(self.unread)
        if apart := sum(crossing(row) for row in self.pairs):
            found.append(f"leakage: {apart:,} pairs of copies are in two splits or in two studies.")
        return found

    def records(self) -> list[Row]:
        """One row per pair."""
        return self.pairs

    def to_dict(self) -> Row:
        """Everything, as JSON has it."""
        studies = {study.name: len(study) for study in self.studies}
        recipe = self.recipe.describe() if self.recipe else None
        return {"format": "cxrfeat-leaks", **vars(self), "studies": studies, "recipe": recipe}

    def drop(self, study: str | None = None) -> list[str]:
        """Ids to leave out of a study, by default the first, so that no pair is left.

        Of two studies the later one loses the image; of two splits the one that is fitted on, so that a published test
        set stays as it is; within a split the second. `subset_study` takes them as `drop`.

        Parameters
        ----------
        study : str, optional
            Its name.
        """
        order = [one.name for one in self.studies]
        gone: set[tuple[str, str]] = set()
        for row in self.pairs:
            a, b = ((row[f"study_{side}"], row[f"image_{side}"]) for side in "ab")
            if a in gone or b in gone:
                continue
            if a[0] != b[0]:
                gone.add(max(a, b, key=lambda one: order.index(one[0])))
            else:
                gone.add(a if _rank(row["split_a"]) < _rank(row["split_b"]) else b)
        return sorted(image for name, image in gone if name == (study or order[0]))

    def plot(self, most: int = 24) -> Canvas:
        """Draw pairs side by side, the least alike first, since these are the doubtful ones; `.save(path)` writes it.

        Parameters
        ----------
        most : int
            Pairs on the sheet.
        """
        from cxrfeat._report import contact

        paths = {(s.name, i): path for s in self.studies for i, path in zip(s.ids.tolist(), s.paths(), strict=True)}
        several = len(self.studies) > 1
        rows = []
        for row in sorted(self.pairs, key=lambda row: np.nan_to_num(row["similarity"], nan=-1.0))[:most]:
            sides = [
                (
                    pixels.picture(paths[row[f"study_{side}"], row[f"image_{side}"]]),
                    row[f"image_{side}"],
                    " ".join(filter(None, (row[f"study_{side}"] if several else "", row[f"split_{side}"]))),
                )
                for side in "ab"
            ]
            rows.append((sides[0], sides[1], f"{row['how']}, {tables.cell(row['similarity'], 2)}"))
        left = [f"The {len(rows)} least alike of {len(self.pairs):,} pairs."] if len(rows) < len(self.pairs) else []
        return contact.sheet(rows, self.title(), " ".join([*self.notes(), *left]))

    def save(self, folder: str | Path | None = None) -> list[Path]:
        """Write the pairs, the ids to drop and the contact sheet.

        Parameters
        ----------
        folder : path, optional
            By default `studies/NAME.leaks`, after the first study.

        Returns
        -------
        list of pathlib.Path
            `pairs.csv`; `drop.txt` with ids of the first study, `drop-NAME.txt` of each other; `pairs.png` if any.
        """
        own, folder = not folder, Path(folder) if folder else leaks_folder(self.studies[0])
        pairs = folder / "pairs.csv"
        written = [write_atomically(pairs, csv_for(pairs, self.to_frame(), None, overwrite=own or None))]
        for k, study in enumerate(self.studies):
            text = "".join(f"{one}\n" for one in self.drop(study.name))
            written.append(write_atomically(folder / (f"drop-{study.name}.txt" if k else "drop.txt"), text))
        return [*written, self.plot().save(folder / "pairs.png")] if self.pairs else written


def crossing(row: Row) -> bool:
    """Whether a pair is in two studies, or in two splits of one."""
    apart = bool(row["split_a"] and row["split_b"] and row["split_a"] != row["split_b"])
    return apart or row["study_a"] != row["study_b"]


def _rank(split: str) -> int:
    """Place of a split: what is fitted on comes first."""
    return SPLITS.index(split) if split in SPLITS else len(SPLITS)
