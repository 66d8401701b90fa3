"""HTML of objects in a notebook: a title, a few facts, a table. Everything is escaped."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any


def page(title: str, facts: Mapping[str, Any] | None = None, rows: Sequence[Mapping[Any, Any]] = ()) -> str:
    """Return a title, facts as a two-column table, and rows as a table with the keys of the first as headings.

    Floats have three decimals; NaN and None are a dash.
    """
    parts = [f"<p><strong>{escape(title)}</strong></p>"]
    if facts:
        cells = "".join(f"<tr><th>{escape(str(k))}</th><td>{_cell(v)}</td></tr>" for k, v in facts.items())
        parts.append(f"<table>{cells}</table>")
    if rows:
        head = "".join(f"<th>{escape(str(column))}</th>" for column in rows[0])
        body = "".join("<tr>" + "".join(f"<td>{_cell(row.get(c))}</td>" for c in rows[0]) + "</tr>" for row in rows)
        parts.append(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")
    return "\n".join(parts)


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else escape(str(value))
