"""Differences between runs: a forest plot, and the tables of a comparison."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cxrfeat._evaluate.comparison import ALPHA
from cxrfeat._report import style, tables

if TYPE_CHECKING:
    from cxrfeat._evaluate.comparison import Comparison

HEADINGS = {
    "run": "run",
    "label": "label",
    "positives": "n+",
    "auroc_baseline": "baseline",
    "auroc": "AUROC",
    "difference": "difference",
    "difference_bootstrap": "patients 95 %",
    "p": "p DeLong",
    "p_patients": "p patients",
    "p_patients_holm": "p Holm",
}
"""Columns of the tables that people read, in order; Holm's correction is of `p patients`. CSV and JSON have more."""


def forest(comparison: Comparison, path: str | Path, title: str = "") -> list[Path]:
    """Draw the difference in AUROC of every label and their mean, with 95 % intervals over patients.

    A filled mark is a difference that holds after Holm's correction (patients as clusters); an open one is not.

    Parameters
    ----------
    comparison : Comparison
        What `evaluate.comparison.compare` found.
    path : str or Path
        The picture to write; its ending names the format, and PNG, SVG and the data as CSV are written beside it.
    title : str
        What stands above.

    Returns
    -------
    list of Path
        PNG (or the ending asked for), SVG, and the CSV.
    """
    others = [scored.name for scored in comparison.scored[1:]]
    by_run = {name: [row for row in comparison.rows if row["run"] == name] for name in others}
    labels = [row["label"] for row in by_run[others[0]]]
    figure, (axes,) = style.new_figure(5.6, 0.8 + len(labels) * (0.1 + 0.13 * len(others)))
    at = np.arange(len(labels))[::-1].astype(float)
    step = 0.72 / len(others)
    handles = []
    for k, name in enumerate(others):
        where = at + 0.36 - step * (k + 0.5) if len(others) > 1 else at
        colour = style.COLOURS[k % len(style.COLOURS)]
        for y, row in zip(where, by_run[name], strict=True):
            low, high = _bar(row, comparison)
            macro, holds = row["label"] == "macro", row["p_patients_holm"] < ALPHA
            axes.hlines(y, low, high, color=colour, linewidth=1.1)
            axes.plot(
                row["difference"], y, "D" if macro else "o", color=colour, markersize=4.4 if macro else 3.8,
                markerfacecolor=colour if holds or macro else "white", markeredgewidth=0.9,
            )  # fmt: skip
            axes.annotate(
                _numbers(row, low, high),
                (1.02, y),
                xycoords=("axes fraction", "data"),
                va="center",
                fontsize=6.0,
                color="0.2",
            )
        handles.append(axes.plot([], [], "o-", color=colour, markersize=3.8)[0])
    axes.axvline(0, color="0.4", linewidth=0.8)
    axes.set_yticks(at, [style.pretty(label) for label in labels])
    axes.set(xlabel=f"AUROC minus that of {comparison.baseline.name}", ylim=(-0.7, len(labels) - 0.3))
    axes.grid(axis="x", color="0.92", linewidth=0.6)
    if len(others) > 1:
        style.legend_below(figure, handles, others, columns=min(len(others), 3))
    bars = "paired bootstrap over patients" if comparison.replicates else "DeLong with patients as clusters"
    caption = f"{comparison.caption()}. Bars: 95 %, {bars}; p: paired DeLong test with patients "
    caption += "as clusters, after Holm's correction; filled: p < 0.05. Diamond: macro, without a test."
    what = title or f"{' and '.join(others)} against {comparison.baseline.name}"
    style.annotate(figure, what, caption, comparison.random)
    return style.save(figure, path, pd.DataFrame([tables.ends(row) for row in comparison.rows]))


def rows_to_read(comparison: Comparison) -> list[dict[str, Any]]:
    """The columns of `HEADINGS`, intervals as text; the run's column only where there are several."""
    several = len(comparison.scored) > 2
    found = []
    for row in comparison.rows:
        name = row["label"] + (f" over {len(row['over'])}" if "over" in row else "")
        short = {key: row.get(key) for key in HEADINGS if several or key != "run"} | {"label": name}
        for key in ("p", "p_patients", "p_patients_holm"):
            short[key] = p_text(row[key])
        found.append({HEADINGS[key]: value for key, value in tables.flat(short).items()})
    return found


def title(comparison: Comparison) -> str:
    """The title of a comparison's table: what it stands on, and loudly if that is random weights."""
    stamp = f"{tables.RANDOM} " if comparison.random else ""
    unfair = [u for scored in comparison.scored for u in scored.standing.get("not_fair", [])]
    end = f" NOT A FAIR TEST: {' '.join(unfair)}" if unfair else ""
    return f"{stamp}AUROC against {comparison.baseline.name}; {comparison.caption()}.{end}"


def render(comparison: Comparison, kind: str) -> str:
    """Return the comparison as text in one of the formats of `cxrfeat._report.tables.FORMATS`."""
    said = " ".join(comparison.conclusions)
    if kind == "csv":
        about = {"random_weights": comparison.random, "n_images": len(comparison.baseline)}
        return tables.csv_text([tables.ends(row) | about for row in comparison.rows])
    if kind == "json":
        return tables.json_text(comparison.to_dict())
    if kind == "latex":
        name = "-".join(scored.name for scored in comparison.scored)
        return tables.latex(rows_to_read(comparison), f"{title(comparison)} {said}", f"tab:compare-{name}")
    return f"{title(comparison)}\n\n{tables.markdown(rows_to_read(comparison))}\n\n{said}\n"


def p_text(p: float) -> str:
    """Return a p-value as papers print it."""
    return "-" if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def _bar(row: dict[str, Any], comparison: Comparison) -> tuple[float, float]:
    """Ends of the interval that is drawn: the bootstrap's, or without one DeLong's over patients."""
    nothing = (math.nan, math.nan)
    low, high = row["difference_bootstrap"] if comparison.replicates else row.get("difference_delong_patients", nothing)
    return low, high


def _numbers(row: dict[str, Any], low: float, high: float) -> str:
    if math.isnan(row["difference"]):
        return "not defined"
    span = "" if math.isnan(low) else f" [{low:+.3f}, {high:+.3f}]"
    p = "" if row["label"] == "macro" else f"  p {p_text(row['p_patients_holm'])}"
    return f"{row['difference']:+.3f}{span}{p}"
