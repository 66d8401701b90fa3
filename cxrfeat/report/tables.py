"""Tables of results as rows, CSV, JSON, LaTeX and Markdown, each with a title that says what it stands on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cxrfeat.evaluate import delong
from cxrfeat.evaluate.scored import Scored


def auroc_rows(scored: Scored) -> list[dict[str, Any]]:
    """One row per label (n, positives, AUROC and its DeLong interval) and one for their mean."""
    rows: list[dict[str, Any]] = []
    for j, (label, at) in enumerate(zip(scored.labels, delong.intervals(scored.y, scored.p), strict=True)):
        known = int((~np.isnan(scored.y[:, j])).sum())
        rows.append(
            {
                "label": label,
                "n": known,
                "positives": int(scored.positives[j]),
                "auroc": at.value,
                "auroc_delong": [at.low, at.high],
            }
        )
    values = np.array([row["auroc"] for row in rows])
    over = int((~np.isnan(values)).sum())
    macro = float(np.nanmean(values)) if over else float("nan")
    rows.append({"label": f"macro over {over}", "n": len(scored), "positives": None, "auroc": macro})
    return rows


def flat(row: Mapping[str, Any], digits: int = 3) -> dict[str, Any]:
    """Return a row with its intervals as text, for people."""
    return {key: span_text(value, digits) if isinstance(value, list | tuple) else value for key, value in row.items()}


def span_text(ends: Sequence[float], digits: int = 3) -> str:
    """Return an interval as `0.712 to 0.803`, or a dash where it is not defined."""
    low, high = ends
    return "-" if np.isnan(low) or np.isnan(high) else f"{low:.{digits}f} to {high:.{digits}f}"


def title(what: str, scored: Scored) -> str:
    """Return a table's title: what it is, what it stands on, and loudly if that is random weights."""
    stamp = "RANDOM WEIGHTS: NOT A RESULT. " if scored.random else ""
    unfair = " ".join(scored.standing.get("not_fair", []))
    return f"{stamp}{what}; {scored.caption()}.{' NOT A FAIR TEST: ' + unfair if unfair else ''}"
