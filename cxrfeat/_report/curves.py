"""Figures of curves: all labels in one pair of axes, or a small panel for each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from cxrfeat._report import style
from cxrfeat.errors import NotFoundError

if TYPE_CHECKING:
    from cxrfeat._evaluate.curves import Curve, Curves
    from cxrfeat._run import Run

POINTS = 2000
"""Points of a curve at most; more cannot be seen."""
MANY = 6
"""Curves in one pair of axes at most, by default."""


def draw(found: Curves, layout: str = "auto", width: float | None = None, title: str = "") -> style.Drawing:
    """Draw curves, `panels`, in `one` pair of axes, or `auto`; see `Curves.plot`."""
    alone = found.kind in ("roc", "precision_recall")  # the others have too much in them to share axes
    if layout == "panels" or not alone or (layout == "auto" and len(found.curves) > MANY):
        figure = _panels(found, width or style.PAGE)
    else:
        figure = _one(found, width or 5.2)
    parts = [_frame(curve, found.kind) for curve in found.curves] or [pd.DataFrame({"label": []})]
    data = pd.concat(parts, ignore_index=True)
    return style.annotate(figure, title or found.heading, found.caption(), found.scored.random, data)


def _one(found: Curves, width: float) -> style.Drawing:
    figure, (axes,) = style.new_figure(width, width * 0.96)
    handles = [_curve(axes, found.kind, curve, **style.line_style(curve.colour)) for curve in found.curves]
    _unit_square(axes, *found.axes, diagonal=found.kind == "roc")
    names = [f"{style.pretty(curve.label)}  {curve.value}" for curve in found.curves]
    if handles:
        style.legend_below(figure, handles, names, found.summary, 2 if width >= 4.8 else 1)
    return figure


def _panels(found: Curves, width: float) -> style.Drawing:
    shown = [curve.label for curve in found.curves]
    figure, panels = style.panels(max(len(shown), 1), width)
    handles: dict[str, Any] = {}
    for curve, axes in zip(found.curves, panels, strict=False):
        if found.kind == "calibration":
            _calibration(axes, curve)
        elif found.kind == "thresholds":
            handles |= _sweep(axes, curve, found.marks.get(curve.label))
        else:
            _curve(axes, found.kind, curve, color=style.line_style(curve.colour)["color"])
        style.panel_title(axes, curve.label, curve.note)
        _unit_square(axes, diagonal=found.kind in ("roc", "calibration"))
        axes.set(xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
    style.outer_labels(figure, *found.axes)
    if handles or found.summary:
        style.legend_below(figure, list(handles.values()), list(handles), found.summary, columns=6)
    return figure


def _curve(axes: Axes, kind: str, curve: Curve, **look: Any) -> Any:
    x, y = (column[thinned(len(column))] for column in list(curve.points.values())[:2])
    # Precision holds until the next lower score: a staircase, as average precision counts it.
    return (axes.step(x, y, **look) if kind == "precision_recall" else axes.plot(x, y, **look))[0]


def _calibration(axes: Axes, curve: Curve) -> None:
    at, colour = curve.points, style.line_style(curve.colour)["color"]
    axes.vlines(at["predicted"], at["low"], at["high"], color=colour, linewidth=0.8, alpha=0.6)
    axes.plot(at["predicted"], at["observed"], color=colour, marker="o", markersize=2.4, linewidth=0.9)


def _sweep(axes: Axes, curve: Curve, mark: float | None) -> dict[str, Any]:
    threshold, *others = curve.points
    drawn: dict[str, Any] = {}
    for k, name in enumerate(others):
        look = style.line_style(k) | {"linewidth": 1.0}
        heading = name.upper() if len(name) < 4 else name
        (drawn[heading],) = axes.plot(curve.points[threshold], curve.points[name], **look)
    if mark is not None:
        drawn["stored threshold"] = axes.axvline(mark, color="0.45", linewidth=0.8)
    return drawn


def loss(run: Run, title: str = "Training") -> style.Drawing:
    """Draw the curves of a run's `history.csv`: every column with `loss` or `objective` in its name."""
    file = run.path / "history.csv"
    history, across, curves = history_of(file)
    if history is None or not curves:
        raise NotFoundError(f"{file} is missing or has no column of losses; heads that train in steps write one.")
    x = history[across] if across else pd.Series(np.arange(1, len(history) + 1))
    figure, (axes,) = style.new_figure(style.COLUMN, 2.4)
    for k, name in enumerate(curves):
        axes.plot(x, history[name], label=style.pretty(name), marker="o", markersize=2, **style.line_style(k))
    axes.set(xlabel=across or "step", ylabel="loss")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(color="0.92", linewidth=0.6)
    style.legend_below(figure, axes.get_lines(), [style.pretty(c) for c in curves], columns=3)
    return style.annotate(figure, title, f"{run.describe()}, study {run.study_name}.", run.random, history)


def history_of(file: Path) -> tuple[pd.DataFrame | None, str | None, list[str]]:
    """Read a history: the table, its column of steps, and its columns of losses; None where there is none."""
    if not file.is_file():
        return None, None, []
    history = pd.read_csv(file)
    names = [str(c) for c in history if "loss" in str(c) or "objective" in str(c)]
    across = next((c for c in ("epoch", "iteration", "step") if c in history), None)
    return history, across, [name for name in names if np.isfinite(history[name].to_numpy(dtype=float)).any()]


def thinned(n: int, most: int = POINTS) -> npt.NDArray[np.int64]:
    """Return at most `most` positions of n, the first and last among them."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(np.int64))


def _frame(curve: Curve, kind: str) -> pd.DataFrame:
    table = pd.DataFrame({"label": curve.label, **curve.points})
    return table.iloc[thinned(len(table))] if kind in ("roc", "precision_recall") else table


def _unit_square(axes: Axes, across: str = "", up: str = "", diagonal: bool = False) -> None:
    if diagonal:
        axes.plot([0, 1], [0, 1], color="0.6", linewidth=0.8, linestyle=(0, (2, 2)), zorder=0)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), xlabel=across, ylabel=up)
    axes.set_aspect("equal")
    axes.grid(color="0.92", linewidth=0.6)
