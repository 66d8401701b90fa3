"""Charts of the HTML report: inline SVG that is whole without a script, and the points that hovering reads.

A chart is laid out here and drawn by the template; the script only shows and hides curves and reads out points.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cxrfeat._evaluate import delong, metrics
from cxrfeat._report import curves, tables
from cxrfeat._report.style import pretty

if TYPE_CHECKING:
    from cxrfeat._evaluate.scored import Scored
    from cxrfeat._run import Run

MOST = 400
"""Points of a curve at most: more than a screen shows, and few enough to keep the page small."""

WIDTH, HEIGHT = 460, 400
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 12, 44


@dataclass(frozen=True)
class Series:
    """One curve.

    Attributes
    ----------
    name : str
        As the legend has it.
    value : str
        What the legend says beside the name.
    rows : list of list of float
        One per point, a number for each of the chart's `columns`; infinite and undefined ones are None.
    step : bool
        Whether y holds from the point before, as precision does where average precision counts it.
    """

    name: str
    value: str
    rows: list[list[float | None]]
    step: bool = False


@dataclass(frozen=True)
class Chart:
    """Curves in one pair of axes.

    Attributes
    ----------
    key : str
        Unique on the page, of letters, digits and hyphens.
    title, about : str
        What it shows, and what that stands on: the text alternative.
    columns : tuple of str
        What a point is read out as.
    across, up : int
        The columns that are drawn as x and y.
    series : list of Series
    x_range, y_range : (float, float)
    diagonal : bool
        Whether y = x is drawn, dashed.
    marks : bool
        Whether points are marked.
    """

    key: str
    title: str
    about: str
    columns: tuple[str, ...]
    across: int
    up: int
    series: list[Series]
    x_range: tuple[float, float] = (0.0, 1.0)
    y_range: tuple[float, float] = (0.0, 1.0)
    diagonal: bool = False
    marks: bool = False
    box: tuple[int, int, int, int, int, int] = field(default=(WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM))

    def x(self, value: float) -> float:
        """Where a value lies, in the SVG's units."""
        low, high = self.x_range
        return round(LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT), 1)

    def y(self, value: float) -> float:
        """Where a value lies, in the SVG's units."""
        low, high = self.y_range
        return round(HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM), 1)

    def path(self, series: Series) -> str:
        """The `d` of a curve's path; a gap where a point is not defined."""
        parts, pen = [], "M"
        for row in series.rows:
            across, up = row[self.across], row[self.up]
            if across is None or up is None:
                pen = "M"
                continue
            if series.step and pen == "L":
                parts.append(f"V{self.y(up)}")
            parts.append(f"{pen}{self.x(across)} {self.y(up)}")
            pen = "L"
        return "".join(parts)

    def ticks(self, ends: tuple[float, float]) -> list[tuple[float, str]]:
        """Round values within an axis, with their text."""
        low, high = ends
        raw = (high - low) / 5
        power = 10.0 ** np.floor(np.log10(raw))
        step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
        values = np.arange(np.ceil(low / step - 1e-9), np.floor(high / step + 1e-9) + 1) * step
        return [(float(v), f"{v:g}" if abs(v) > 1e-12 else "0") for v in np.round(values, 10)]

    def data(self) -> dict[str, Any]:
        """What the script needs of it."""
        return {
            "columns": self.columns,
            "across": self.across,
            "up": self.up,
            "x": self.x_range,
            "y": self.y_range,
            "box": self.box,
            "series": [{"name": s.name, "rows": s.rows} for s in self.series],
        }


def roc(scored: Scored, key: str) -> Chart:
    """ROC curves of every label that has one."""
    found = []
    for j, (label, at) in enumerate(zip(scored.labels, delong.intervals(scored.y, scored.p), strict=True)):
        fpr, tpr, thresholds = metrics.roc_curve(scored.y[:, j], scored.p[:, j])
        if fpr.size:
            value = f"AUROC {at.value:.3f} {curves.span(at.low, at.high)}, n+ {scored.positives[j]:,}"
            found.append(Series(pretty(label), value, _rows(thresholds, tpr, fpr)))
    about = f"ROC curves of {len(found)} labels with AUROC and 95 % DeLong interval. {scored.caption()}."
    columns = ("threshold", "true positive rate", "false positive rate")
    return Chart(key, "ROC curves", about, columns, 2, 1, found, diagonal=True)


def precision_recall(scored: Scored, key: str) -> Chart:
    """Precision and recall of every label that has a positive."""
    found = []
    for j, label in enumerate(scored.labels):
        y, p = scored.y[:, j], scored.p[:, j]
        precision, recall, thresholds = metrics.precision_recall_curve(y, p)
        if recall.size:
            value = f"AP {metrics.average_precision(y, p):.3f}, prevalence {np.nanmean(y):.3f}"
            rows = _rows(thresholds, precision, recall)
            found.append(Series(pretty(label), value, [[None, rows[0][1], 0.0], *rows], step=True))
    about = f"Precision over recall for {len(found)} labels, with average precision. {scored.caption()}."
    return Chart(key, "Precision and recall", about, ("threshold", "precision", "recall"), 2, 1, found)


def reliability(scored: Scored, key: str) -> Chart:
    """Share of positives over the mean probability of 15 equal bins."""
    found = []
    for j, label in enumerate(scored.labels):
        y, p = scored.y[:, j], scored.p[:, j]
        predicted, observed, count = metrics.calibration_bins(y, p)
        full = count > 0
        if full.any():
            value = f"ECE {metrics.expected_calibration_error(y, p):.3f}, Brier {metrics.brier(y, p):.3f}"
            rows = _rows(predicted[full], observed[full], count[full].astype(np.float64))
            found.append(Series(pretty(label), value, rows))
    about = f"Share of positives over mean probability in 15 equal bins, {len(found)} labels. {scored.caption()}."
    columns = ("mean probability", "share of positives", "images")
    return Chart(key, "Calibration", about, columns, 0, 1, found, diagonal=True, marks=True)


def training(run: Run, key: str) -> Chart | None:
    """Loss over training as `history.csv` has it; None where the head leaves none."""
    file = run.path / "history.csv"
    if not file.is_file():
        return None
    history = pd.read_csv(file)
    names = [str(c) for c in history if "loss" in str(c) or "objective" in str(c)]
    names = [name for name in names if np.isfinite(history[name].to_numpy(dtype=float)).any()]
    if not names or history.empty:
        return None
    across = next((c for c in ("epoch", "iteration", "step") if c in history), None)
    x = history[across].to_numpy(dtype=float) if across else np.arange(1, len(history) + 1, dtype=float)
    values = history[names].to_numpy(dtype=float)
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    room = (high - low) * 0.06 or abs(high) * 0.06 or 1.0
    found = [Series(pretty(n), f"last {history[n].iloc[-1]:.4g}", _rows(x, values[:, k])) for k, n in enumerate(names)]
    end = float(x[-1]) if x[-1] > x[0] else float(x[0]) + 1
    about = f"Training of {run.describe()}: {', '.join(pretty(n) for n in names)} over {across or 'step'}."
    ends = (float(x[0]), end), (low - room, high + room)
    return Chart(key, "Training", about, (across or "step", "loss"), 0, 1, found, *ends, marks=len(x) <= 40)


def as_json(charts: Sequence[Chart]) -> dict[str, Any]:
    """The points of every chart by its key, without what JSON does not have."""
    return json.loads(tables.json_text({chart.key: chart.data() for chart in charts}))


def _rows(*columns: np.ndarray) -> list[list[float | None]]:
    """Columns to points, thinned; four digits are more than a screen shows."""
    keep = curves.thinned(len(columns[0]), MOST)
    rows = np.column_stack([column[keep] for column in columns])
    return [[float(f"{v:.4g}") if np.isfinite(v) else None for v in row] for row in rows]
