"""How values are shown: as a table's cell, as JSON, and objects in a notebook as HTML, everything escaped."""

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
        cells = "".join(f"<tr><th>{escape(str(k))}</th><td>{escape(cell(v))}</td></tr>" for k, v in facts.items())
        parts.append(f"<table>{cells}</table>")
    if rows:
        head = "".join(f"<th>{escape(str(column))}</th>" for column in rows[0])
        lines = ("".join(f"<td>{escape(cell(row.get(c)))}</td>" for c in rows[0]) for row in rows)
        body = "".join(f"<tr>{line}</tr>" for line in lines)
        parts.append(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")
    return "\n".join(parts)


def cell(value: Any, digits: int = 3) -> str:
    """Return a value as it is printed: a dash for what is not defined."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)


def plain(value: Any) -> Any:
    """Return a value as JSON holds it: NaN and infinity become null, arrays lists, and other objects their text."""
    if hasattr(value, "tolist"):  # numpy arrays and scalars
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(v) for v in value]
    return value if isinstance(value, str | int | bool | None) else str(value)
