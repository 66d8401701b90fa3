"""The figures of what checks maps: scores against radiologists' boxes, and randomisation step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np

from cxrfeat._report import style

if TYPE_CHECKING:
    from cxrfeat._explain.localize import Localization
    from cxrfeat._explain.sanity import Sanity


def localization(found: Localization) -> style.Drawing:
    """The pointing game per label, the maps' points with intervals and the baselines' beside them."""
    kinds = list(dict.fromkeys(row["kind"] for row in found.rows))
    labels = list(dict.fromkeys(row["label"] for row in found.rows))
    figure, (axes,) = style.new_figure(style.PAGE, 0.9 + 0.34 * len(labels))
    for k, kind in enumerate(kinds):
        rows = [row for row in found.rows if row["kind"] == kind]
        at = [labels.index(row["label"]) + (k - 1.5) * 0.19 for row in rows]
        values, low, high = ([row["pointing"][end] for row in rows] for end in ("value", "low", "high"))
        axes.hlines(at, low, high, color=style.COLOURS[k], linewidth=1.0, alpha=0.7)
        look: Any = {"marker": "o", "markersize": 5} if k == 0 else {"marker": "D", "markersize": 3.2}
        axes.plot(values, at, color=style.COLOURS[k], linestyle="none", label=kind, **look)
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
    return style.annotate(figure, "Do the maps find what radiologists marked?", caption, found.random, found.to_frame())


def sanity(found: Sanity) -> style.Drawing:
    table = found.to_frame()
    steps = len(found.steps)
    with mpl.rc_context(style.RC):
        figure = style.Drawing(figsize=(style.PAGE, 3.9), dpi=200)
        figure.set_layout_engine("none")
        grid = figure.add_gridspec(2, steps, height_ratios=(2.0, 1.0), left=0.08, right=0.99, top=0.93, bottom=0.04,
                                   hspace=0.3, wspace=0.08)  # fmt: skip
        axes = figure.add_subplot(grid[0, :])
        at = np.arange(steps)
        axes.fill_between(at, table["10 %"], table["90 %"], color=style.COLOURS[0], alpha=0.18, linewidth=0,
                          label="rank correlation, 10th to 90th percentile")  # fmt: skip
        axes.plot(at, table["rank correlation"], "o-", color=style.COLOURS[0], label="rank correlation, mean")
        axes.plot(at, table["absolute"], "s:", color=style.COLOURS[2], markersize=3.5, label="its absolute value, mean")
        axes.plot(at, table["ssim"], "D--", color=style.COLOURS[1], markersize=3.5, label="structural similarity, mean")
        axes.axhline(0, color="0.6", linewidth=0.6)
        axes.set_xticks(at, table["step"].tolist())
        axes.set_xlim(-0.5, steps - 0.5)
        axes.set_ylim(min(-0.35, float(table["10 %"].min()) - 0.05), 1.05)
        axes.set_ylabel("similarity to the trained maps")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4, handlelength=2.2, columnspacing=1.2)
        for k, example in enumerate(found.example):
            reach = float(np.abs(example).max()) or 1.0
            below = figure.add_subplot(grid[1, k])
            below.imshow(example, cmap="RdBu_r", vmin=-reach, vmax=reach, interpolation="nearest")
            below.set_axis_off()
    caption = (
        f"{found.run.describe()}; {found.method}, {found.images} images, {found.rank.shape[1]} maps. {found.verdict} "
        f"Below: the map of {style.pretty(found.example_of[0])} in {found.example_of[1]}, red for, blue against, "
        "each on its own scale. Randomised from the head down, as in Adebayo et al. 2018."
    )
    return style.annotate(figure, "Do the maps depend on what was learnt?", caption, found.run.random, table)
