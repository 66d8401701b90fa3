"""Tables of results as text, CSV, JSON, LaTeX and Markdown, each with a title that says what it was computed from."""

from __future__ import annotations

import json
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from cxrfeat import _files as files
from cxrfeat import _html as html
from cxrfeat._html import cell
from cxrfeat.errors import EvaluationError

if TYPE_CHECKING:
    from cxrfeat._evaluate.scored import Scored

Row = dict[str, Any]

RANDOM = "RANDOM WEIGHTS: NOT A RESULT."
FORMATS = ("csv", "json", "latex", "markdown")
# Columns of a CSV that come first, in every table.
_FIRST = ("group", "label", "n", "positives", "patients", "positive_patients", "negative_patients", "prevalence")


class Bold(str):
    """A cell that Markdown and LaTeX print in bold."""


class Result(ABC):
    """What prints as a table: an evaluation, curves, a comparison."""

    @abstractmethod
    def title(self) -> str:
        """Return what the numbers are and what they were computed from."""

    @abstractmethod
    def tables(self) -> dict[str, list[Row]]:
        """Return the tables that people read, by title; the first belongs to the result's own title."""

    @abstractmethod
    def records(self) -> list[Row]:
        """Return every number, one row each, for CSV and data frames."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Return everything, as JSON has it; NaN stays NaN."""

    def notes(self) -> list[str]:
        """Return sentences that belong below the tables."""
        return []

    def problems(self) -> list[str]:
        """Return what must be read before the numbers."""
        return []

    def to_frame(self) -> pd.DataFrame:
        """Return every number as a data frame; the ends of intervals are columns of their own."""
        return pd.DataFrame(self.records())

    def render(self, kind: str) -> str:
        """Return it as text: `csv`, `json`, `latex` or `markdown`."""
        if kind == "csv":
            return csv_text(self.records())
        if kind == "json":
            return json_text(self.to_dict())
        parts = list(self.tables().items())
        if kind == "latex":
            captions = [f"{self.title()} {' '.join(self.notes())}", *(title for title, _ in parts[1:])]
            return "\n".join(
                latex(rows, caption, f"tab:cxrfeat-{k}")
                for k, (caption, (_, rows)) in enumerate(zip(captions, parts, strict=True), start=1)
            )
        if kind == "markdown":
            texts = [escaped(self.title())]
            for title, rows in parts:
                texts += [escaped(title)] * bool(title) + [markdown(rows)]
            texts += [escaped(note) for note in self.notes()]
            return "\n\n".join([*texts, *(f"- warning: {escaped(p)}" for p in self.problems())]) + "\n"
        raise EvaluationError(f"unknown table format {kind!r}; choose one of {', '.join(FORMATS)}.")

    def __repr__(self) -> str:
        parts = [self.title()]
        for title, rows in self.tables().items():
            parts += [title] * bool(title) + [pd.DataFrame(_texts(rows)).to_string(index=False)]
        return "\n".join([*parts, *self.notes(), *(f"warning: {p}" for p in self.problems())])

    def _repr_html_(self) -> str:
        titles = [self.title(), *list(self.tables())[1:]]
        shown = [html.page(t, rows=_texts(rows)) for t, rows in zip(titles, self.tables().values(), strict=True)]
        return "\n".join([*shown, *(html.page(note) for note in (*self.notes(), *self.problems()))])


def stamped(what: str, *all_scored: Scored) -> str:
    """Return a title: what it is, what it was computed from, and a warning of random weights or an unfair test."""
    stamp = f"{RANDOM} " if any(scored.random for scored in all_scored) else ""
    unfair = " ".join(u for scored in all_scored for u in scored.provenance.get("not_fair", []))
    caption = f"; {all_scored[0].caption()}" if len(all_scored) == 1 else ""
    return f"{stamp}{what}{caption}.{' NOT A FAIR TEST: ' + unfair if unfair else ''}"


def span_text(ends: Sequence[float] | None, digits: int = 3) -> str:
    """Return an interval as `0.712 to 0.803`, or a dash where it is not defined."""
    low, high = ends or (math.nan, math.nan)
    return "-" if math.isnan(low) or math.isnan(high) else f"{low:.{digits}f} to {high:.{digits}f}"


def p_text(p: float) -> str:
    """Return a p-value as papers print it."""
    return "-" if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def flat(row: Mapping[str, Any], digits: int = 3) -> Row:
    """Return a row with its intervals as text, for people."""
    return {key: span_text(value, digits) if isinstance(value, list | tuple) else value for key, value in row.items()}


def ends(row: Mapping[str, Any]) -> Row:
    """Return a row with intervals as two columns, and lists of labels as their number."""
    out: Row = {}
    for key, value in row.items():
        if key == "over":
            out[key] = len(value)
        elif isinstance(value, list | tuple):
            out[f"{key}_low"], out[f"{key}_high"] = value
        else:
            out[key] = value
    return out


def markdown(rows: Sequence[Row]) -> str:
    """Return rows as a Markdown table, numbers to the right."""
    columns = list(rows[0])
    lines = ["| " + " | ".join(escaped(c) for c in columns) + " |"]
    lines.append("|" + "|".join("---:" if _is_number(rows, c) else "---" for c in columns) + "|")
    lines += ["| " + " | ".join(_cells(row, columns, escaped, "**{}**")) + " |" for row in rows]
    return "\n".join(lines)


def _cells(row: Row, columns: Sequence[str], escape: Callable[[str], str], bold: str) -> list[str]:
    texts = {column: escape(cell(row.get(column))) for column in columns}
    return [bold.format(text) if isinstance(row.get(c), Bold) else text for c, text in texts.items()]


def escaped(text: str) -> str:
    """Return text that Markdown takes for nothing but text."""
    return re.sub(r"([\\`*_\[\]<>#|])", r"\\\1", " ".join(text.split()))


def latex(rows: Sequence[Row], caption: str, label: str) -> str:
    """Return rows as a LaTeX table for booktabs, macro and micro below a rule."""
    columns = list(rows[0])
    shape = "".join("r" if _is_number(rows, c) else "l" for c in columns)
    lines = [r"\begin{table}", r"\centering", rf"\caption{{{tex(caption)}}}", rf"\label{{{label}}}", r"\small"]
    lines += [rf"\begin{{tabular}}{{{shape}}}", r"\toprule", " & ".join(tex(c) for c in columns) + r" \\", r"\midrule"]
    for k, row in enumerate(rows):
        if k and str(row.get("label", "")).startswith("macro"):
            lines.append(r"\midrule")
        lines.append(" & ".join(_cells(row, columns, tex, r"\textbf{{{}}}")) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"]) + "\n"


_TEX = {character: f"\\{character}" for character in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
}


def tex(text: str) -> str:
    """Return text that LaTeX prints as it is."""
    return "".join(_TEX.get(character, character) for character in " ".join(text.split()))


def json_text(value: Any) -> str:
    """Return numbers as JSON text, NaN as null, since JSON has no NaN."""
    return json.dumps(html.plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as CSV, every key a column; the same columns first in every table."""
    table = pd.DataFrame(rows)
    return files.csv_text(table[[*(c for c in _FIRST if c in table), *(c for c in table if c not in _FIRST)]])


def _texts(rows: Sequence[Row]) -> list[Row]:
    return [{key: cell(value) for key, value in row.items()} for row in rows]


def _is_number(rows: Sequence[Row], column: str) -> bool:
    return any(isinstance(row.get(column), int | float) for row in rows)
