"""Tables of the HTML report: cells with a text to read and a value to sort by."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cxrfeat._report import tables
from cxrfeat._report.style import pretty

if TYPE_CHECKING:
    from cxrfeat._evaluate import Evaluation
    from cxrfeat._run import Run


@dataclass(frozen=True)
class Cell:
    """One cell: its text, what it is sorted by (a number where it begins with one), whether it stands to the right."""

    text: str
    key: str
    number: bool


@dataclass(frozen=True)
class Table:
    """A table: title, what it stands on, column names, rows of cells."""

    title: str
    caption: str
    columns: list[str]
    rows: list[list[Cell]]


def table(title: str, rows: Sequence[Mapping[str, Any]], caption: str = "") -> Table:
    """Make a table of rows that share their keys."""
    columns = list(rows[0]) if rows else []
    return Table(title, caption, columns, [[cell(row.get(column)) for column in columns] for row in rows])


def cell(value: Any) -> Cell:
    """One value: numbers as `tables.cell` prints them; intervals and shares sort by the number they begin with."""
    text = pretty(tables.cell(value))
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Cell(text, "" if math.isnan(value) else repr(float(value)), True)
    begins = re.match(r"^<?\s*([+-]?\d+(?:\.\d+)?)(?:%| to |$)", text)
    return Cell(text, begins.group(1) if begins else ("" if text == "-" else text), bool(begins) or text == "-")


def made_by(run: Run, evaluation: Evaluation) -> list[tuple[str, str]]:
    """What was done to get this run, as pairs of a name and a text."""
    rows = [("Head", f"{run.kind}, {len(run.labels)} labels")]
    for recipe in run.recipes:
        policy = (recipe.augmentation or {}).get("name", "none")
        rows += [
            ("Backbone", recipe.describe()),
            ("Preprocessing", f"{recipe.preprocessing}, {recipe.interpolation} to {recipe.size} x {recipe.size}"),
            ("Augmentation", f"{policy}, seed {recipe.seed}" if recipe.passes else "none"),
            ("Weights file", f"{recipe.weights}, SHA-256 {recipe.weights_sha256}"),
            ("Recipe", f"SHA-256 {recipe.sha256}"),
        ]
    fitted = run.fitted_on
    if fitted.images:
        who = f"{fitted.images:,} images of {fitted.patients:,} patients"
        rows.append(("Fitted on", f"split {', '.join(fitted.splits)}: {who}, {len(fitted.passes)} renderings of each"))
    rows += [
        (name, text)
        for name, text in (("Class weights", run.options.weighting), ("Validation", run.validation))
        if text
    ]
    settings = {**run.options.settings, **run.notes}
    # What the solver notes of every label is for head.json, not for reading.
    short = [f"{key}={value}" for key, value in settings.items() if not isinstance(value, Mapping)]
    if short:
        rows.append(("Settings", ", ".join(short)))
    if (calibration := run.calibration).get("method"):
        rows.append(("Calibration", f"{calibration['method']} on {calibration.get('split') or 'no split'}"))
    rows.append(("Thresholds", str(evaluation.scored.standing.get("thresholds", "none"))))
    rows.append(("Evaluated on", evaluation.scored.caption()))
    versions = ", ".join(f"{k} {v}" for k, v in run.versions.items())
    rows += [("Seed", str(run.options.seed)), ("Made", run.created)]
    return [*rows, ("Versions", versions)] if versions else rows
