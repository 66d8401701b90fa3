"""HTML pages: templates, filled and escaped, with their style and script inside, and the tables in them."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from cxrfeat import __version__
from cxrfeat._report import tables
from cxrfeat._report.style import pretty

TEMPLATES = Path(__file__).resolve().parent / "templates"


@dataclass(frozen=True)
class Cell:
    """One cell: its text, what it is sorted by (a number where it begins with one), whether it stands to the right."""

    text: str
    key: str
    number: bool


@dataclass(frozen=True)
class Table:
    """A table: title, what it was computed from, column names, rows of cells."""

    title: str
    caption: str
    columns: list[str]
    rows: list[list[Cell]]


def table(title: str, rows: Sequence[Mapping[str, Any]], caption: str = "") -> Table:
    columns = list(rows[0]) if rows else []
    return Table(title, caption, columns, [[cell(row.get(column)) for column in columns] for row in rows])


def cell(value: Any) -> Cell:
    """One value: numbers as `tables.cell` prints them; intervals and shares sort by the number they begin with."""
    text = pretty(tables.cell(value))
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Cell(text, "" if math.isnan(value) else repr(float(value)), True)
    begins = re.match(r"^<?\s*([+-]?\d+(?:\.\d+)?)(?:%| to |$)", text)
    return Cell(text, begins.group(1) if begins else ("" if text == "-" else text), bool(begins) or text == "-")


def render(template: str, **context: Any) -> str:
    """Fill a template of `templates/`, everything escaped, with the page's style and script in it.

    The page's content security policy lets it load nothing, and run this one script, known by its hash.
    """
    script = (TEMPLATES / "report.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return _environment().get_template(template).render(
        version=__version__,
        style=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=f"sha256-{digest}",
        **context,
    )  # fmt: skip


@cache
def _environment() -> jinja2.Environment:
    loader = jinja2.FileSystemLoader(TEMPLATES)
    made = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    made.filters["code"] = _code
    return made


def _code(text: str) -> Markup:
    """A sentence with what stands between backticks set as code, everything escaped."""
    pieces = [escape(piece) for piece in text.split("`")]
    return Markup("").join(Markup("<code>{}</code>").format(p) if k % 2 else p for k, p in enumerate(pieces))
