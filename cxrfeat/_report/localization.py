"""The figure of scores against the radiologists' boxes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from cxrfeat._report import style

if TYPE_CHECKING:
    from cxrfeat._explain.localize import Localization


def figure(found: Localization) -> Figure:
    """The pointing game per label, the maps' points with intervals and the baselines' beside them."""
    kinds = list(dict.fromkeys(row["kind"] for row in found.rows))
    labels = list(dict.fromkeys(row["label"] for row in found.rows))
    figure, (axes,) = style.new_figure(style.PAGE, 0.9 + 0.34 * len(labels))
    for k, kind in enumerate(kinds):
        rows = [row for row in found.rows if row["kind"] == kind]
        at = [labels.index(row["label"]) + (k - 1.5) * 0.19 for row in rows]
        values = [row["pointing"]["value"] for row in rows]
        for y, row in zip(at, rows, strict=True):
            low, high = row["pointing"]["low"], row["pointing"]["high"]
            if math.isfinite(low):
                axes.plot([low, high], [y, y], color=style.COLOURS[k], linewidth=1.0, alpha=0.7)
        axes.plot(values, at, "o" if k == 0 else "D", markersize=5 if k == 0 else 3.2, color=style.COLOURS[k],
                  linestyle="none", label=kind)  # fmt: skip
    counts = {row["label"]: row["boxes"] for row in found.rows if row["kind"] == kinds[0]}
    axes.set_yticks(range(len(labels)), [f"{style.pretty(label)} ({counts.get(label, 0)})" for label in labels])
    axes.invert_yaxis()
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel("pointing game: share of boxes that hold the centre of the map's highest cell")
    axes.grid(axis="x", alpha=0.25, linewidth=0.5)
    handles, names = axes.get_legend_handles_labels()
    style.legend_below(figure, handles, names, columns=len(kinds))
    caption = (
        f"{found.about}; {found.method}; split {found.split}: {found.boxes} boxes in "
        f"{found.images} images of {found.patients} patients, boxes per label in brackets; lines are 95 % "
        f"intervals over patients. {found.note}"
    )
    style.annotate(figure, "Do the maps find what radiologists marked?", caption, found.random)
    return figure
