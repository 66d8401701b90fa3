"""Charts of the HTML report: inline SVG that is whole without a script, and the points that hovering reads.

A chart is laid out here and drawn by the template; the script only shows and hides curves and reads out points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from cxrfeat._html import plain
from cxrfeat._report import curves
from cxrfeat._report.style import pretty

if TYPE_CHECKING:
    from cxrfeat._evaluate.curves import Curves
    from cxrfeat._run import Run

MOST = 400
"""Points of a curve at most: more than a screen shows, and few enough to keep the page small."""

_NAMES = {
    "fpr": "false positive rate",
    "tpr": "true positive rate",
    "predicted": "mean probability",
    "observed": "share of positives",
    "n": "images",
    "low": "from",
    "high": "to",
}

WIDTH, HEIGHT = 460, 400
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 12, 44


@dataclass(frozen=True)
class Series:
    """One curve: its rows have a number for each of the chart's `columns`, None where it is infinite or undefined."""

    name: str
    value: str
    rows: list[list[float | None]]
    step: bool = False
    colour: int = 0


@dataclass(frozen=True)
class Chart:
    """Curves of one kind: the second column over the first; those of `bars` end a bar through each point.

    `layout` is `joint` (one pair of axes), `panels` (one for each curve) or `both`.
    """

    key: str
    title: str
    about: str
    columns: tuple[str, ...]
    series: list[Series]
    x_range: tuple[float, float] = (0.0, 1.0)
    y_range: tuple[float, float] = (0.0, 1.0)
    diagonal: bool = False
    marks: bool = False
    bars: tuple[int, int] | None = None
    layout: str = "joint"
    box: ClassVar = (WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM)

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
        for across, up, *_ in series.rows:
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

    def point(self, row: list[float | None]) -> str:
        pairs = zip(self.columns, row, strict=True)
        return ", ".join(f"{name} {value:g}" for name, value in pairs if value is not None)

    def data(self) -> dict[str, Any]:
        """What the script needs of it."""
        return {
            "columns": self.columns,
            "x": self.x_range,
            "y": self.y_range,
            "box": self.box,
            "series": [{"name": s.name, "rows": s.rows} for s in self.series],
        }


def chart(found: Curves, key: str) -> Chart:
    series = []
    for curve in found.curves:
        columns = list(curve.points.values())
        step = found.kind == "precision_recall"
        series.append(Series(pretty(curve.label), curve.value, _rows(*columns), step, curve.colour))
    names = [_NAMES.get(name, name) for name in (found.curves[0].points if found.curves else ("x", "y"))]
    straight = found.kind in ("roc", "calibration")
    about = f"{found.summary}. {found.caption()}" if found.summary else found.caption()
    layout = "panels" if found.kind == "calibration" else "both" if len(series) > curves.MANY else "joint"
    bars = (3, 4) if found.kind == "calibration" else None
    return Chart(
        key, found.heading, about, tuple(names), series, diagonal=straight, marks=bars is not None, bars=bars,
        layout=layout,
    )  # fmt: skip


def training(run: Run, key: str) -> Chart | None:
    """Loss over training as `history.csv` has it; None where the head leaves none."""
    history, across, names = curves.history_of(run.path / "history.csv")
    if history is None or not names or history.empty:
        return None
    x = history[across].to_numpy(dtype=float) if across else np.arange(1, len(history) + 1, dtype=float)
    values = history[names].to_numpy(dtype=float)
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    room = (high - low) * 0.06 or abs(high) * 0.06 or 1.0
    found = [
        Series(pretty(n), f"last {history[n].iloc[-1]:.4g}", _rows(x, values[:, k]), colour=k)
        for k, n in enumerate(names)
    ]
    end = float(x[-1]) if x[-1] > x[0] else float(x[0]) + 1
    about = f"Training of {run.describe()}: {', '.join(pretty(n) for n in names)} over {across or 'step'}."
    ends = (float(x[0]), end), (low - room, high + room)
    return Chart(key, "Training", about, (across or "step", "loss"), found, *ends, marks=len(x) <= 40)


def as_json(charts: Sequence[Chart]) -> dict[str, Any]:
    """The points of every chart by its key, without what JSON does not have."""
    return plain({chart.key: chart.data() for chart in charts if chart.layout != "panels"})


def _rows(*columns: np.ndarray) -> list[list[float | None]]:
    """Columns to points, thinned; four digits are more than a screen shows."""
    keep = curves.thinned(len(columns[0]), MOST)
    rows = np.column_stack([column[keep] for column in columns])
    return [[float(f"{v:.4g}") if np.isfinite(v) else None for v in row] for row in rows]
