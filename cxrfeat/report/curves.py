"""Curves of one run: ROC, precision and recall, reliability, threshold sweep."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from cxrfeat.evaluate import delong, metrics
from cxrfeat.evaluate.scored import Scored
from cxrfeat.report import style

POINTS = 2000
"""Points drawn of a curve at most; the CSV has no more either, and no eye sees the difference."""


def roc(scored: Scored, path: str | Path, title: str = "ROC curves", width: float = 5.2) -> list[Path]:
    """Draw the ROC curves of all labels in one axes, with AUROC and DeLong interval in the legend.

    Returns
    -------
    list of Path
        PNG (or the ending asked for), SVG, and the CSV of the points.
    """
    figure, (axes,) = style.new_figure(width, width * 0.96)
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=0.8, linestyle=(0, (2, 2)))
    intervals = delong.intervals(scored.y, scored.p)
    data, handles, names = [], [], []
    for j, label in enumerate(scored.labels):
        fpr, tpr, thresholds = metrics.roc_curve(scored.y[:, j], scored.p[:, j])
        if not fpr.size:
            continue
        keep = thinned(fpr.size)
        (line,) = axes.plot(fpr[keep], tpr[keep], **style.line_style(j))
        at = intervals[j]
        handles.append(line)
        names.append(f"{style.pretty(label)}  {at.value:.3f} {span(at.low, at.high)}  n+ = {scored.positives[j]:,}")
        data.append(pd.DataFrame({"label": label, "fpr": fpr[keep], "tpr": tpr[keep], "threshold": thresholds[keep]}))
    _square(axes, "1 - specificity (false positive rate)", "sensitivity (true positive rate)")
    values = np.array([at.value for at in intervals])
    over = int((~np.isnan(values)).sum())
    mean = f"macro AUROC {np.nanmean(values):.3f} over {over} labels" if over else "no label has both classes"
    left_out = [style.pretty(label) for label, value in zip(scored.labels, values, strict=True) if np.isnan(value)]
    caption = scored.caption() + ". AUROC with 95 % DeLong interval."
    if left_out:
        caption += f" No curve for {', '.join(left_out)}: one class only, or no prediction."
    style.legend_below(figure, handles, names, mean)
    style.annotate(figure, title, caption, scored.random)
    return style.save(figure, path, _table(data, ["label", "fpr", "tpr", "threshold"]))


def span(low: float, high: float) -> str:
    """Return an interval in brackets, or a word where it has no width to speak of."""
    return "[-]" if np.isnan(low) or np.isnan(high) else f"[{low:.2f}, {high:.2f}]"


def thinned(n: int, most: int = POINTS) -> np.ndarray:
    """Return at most `most` positions of n, the first and last among them."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(int))


def _square(axes: Axes, across: str, up: str) -> None:
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), xlabel=across, ylabel=up)
    axes.set_aspect("equal")
    axes.grid(color="0.92", linewidth=0.6)


def _table(parts: list[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)
