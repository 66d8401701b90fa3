"""Figures of numbers per label, and of pictures side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import StrMethodFormatter

from cxrfeat._report import style, tables

if TYPE_CHECKING:
    from cxrfeat._evaluate import Comparison, Evaluation, Scored
    from cxrfeat._study import Study


def labels(evaluation: Evaluation) -> style.Drawing:
    """Draw AUROC and average precision of every label and their mean, with 95 % intervals and a random score's value.

    An interval that too few patients would make too narrow is left out.
    """
    scored, rows = evaluation.scored, evaluation.rows[:-1]
    figure, (left, right) = style.new_figure(style.PAGE, 0.7 + 0.2 * len(rows), columns=2)
    names = [style.pretty(row["label"]) for row in rows[:-1]] + [f"macro over {len(rows[-1]['over'])}"]
    at = _label_axis(left, [f"{n}  ({r['positives']:,})" for n, r in zip(names, rows, strict=True)])
    right.set_yticks(at, [""] * len(rows))
    data = pd.DataFrame({"label": [row["label"] for row in rows], "prevalence": [row["prevalence"] for row in rows]})
    for axes, metric, name in ((left, "auroc", "AUROC"), (right, "average_precision", "average precision")):
        ends = [row.get(f"{metric}_interval") or row.get(f"{metric}_bootstrap") or [np.nan, np.nan] for row in rows]
        values, (low, high) = np.array([row[metric] for row in rows]), np.array(ends, dtype=float).T
        chance = [row[f"{metric}_chance"] for row in rows]
        axes.hlines(at, low, high, color=style.COLOURS[0], linewidth=1.2)
        axes.plot(values[:-1], at[:-1], "o", color=style.COLOURS[0], markersize=3.4)
        axes.plot(values[-1:], at[-1:], "D", color=style.COLOURS[1], markersize=4.2)
        axes.plot(chance, at, "|", color="0.35", markersize=7)
        axes.set(xlabel=name, xlim=(-0.02, 1.02), ylim=(-0.7, len(rows) - 0.3))
        _grid(axes)
        data[metric], data[f"{metric}_low"], data[f"{metric}_high"] = values, low, high
        data[f"{metric}_chance"] = chance
    style.legend_below(figure, right.get_lines()[-1:], ["mean of a random order of these images"], columns=1)
    caption = f"{scored.caption()}. Positives in brackets; 95 % intervals over patients, for average "
    caption += "precision from 10 positive patients on."
    return style.annotate(figure, "AUROC and average precision", caption, scored.random, data)


def forest(comparison: Comparison, title: str = "") -> style.Drawing:
    """Draw the difference of every label and their mean, with 95 % intervals over patients.

    A filled mark is a difference that holds after Holm's correction (patients as clusters); an open one is not.
    """
    others = [scored.name for scored in comparison.scored[1:]]
    by_run = {name: [row for row in comparison.rows if row["run"] == name] for name in others}
    rows = by_run[others[0]]
    figure, (axes,) = style.new_figure(5.6, 0.8 + len(rows) * (0.1 + 0.13 * len(others)))
    at = _label_axis(axes, [style.pretty(row["label"]) for row in rows])
    step, handles = 0.72 / len(others), []
    for k, name in enumerate(others):
        colour = style.COLOURS[k % len(style.COLOURS)]
        for y, row in zip(at + 0.36 - step * (k + 0.5) if len(others) > 1 else at, by_run[name], strict=True):
            _difference(axes, float(y), row, comparison, colour)
        handles.append(axes.plot([], [], "o-", color=colour, markersize=3.8)[0])
    axes.axvline(0, color="0.4", linewidth=0.8)
    name = comparison.metric.heading or comparison.metric.name
    axes.set(xlabel=f"{name} minus that of {comparison.baseline.name}", ylim=(-0.7, len(rows) - 0.3))
    _grid(axes)
    if len(others) > 1:
        style.legend_below(figure, handles, others, columns=min(len(others), 3))
    caption = f"{comparison.caption()}. Bars: 95 % intervals over patients."
    if "p_patients_holm" in rows[0]:
        caption += " p: paired DeLong test with patients as clusters, after Holm's correction; filled: p < "
        caption += f"{comparison.ALPHA:g}. Diamond: macro, without a test, by bootstrap."
    what = title or f"{' and '.join(others)} against {comparison.baseline.name}"
    return style.annotate(figure, what, caption, comparison.random, comparison.to_frame())


def _difference(axes: Axes, y: float, row: tables.Row, comparison: Comparison, colour: str) -> None:
    """Draw one row of a forest plot: the interval, the mark, and the numbers on the right."""
    low, high = row["difference_interval"]
    p = row.get("p_patients_holm", math.nan)
    macro = row["label"] == "macro"
    axes.hlines(y, low, high, color=colour, linewidth=1.1)
    face = colour if macro or p < comparison.ALPHA else "white"
    shape, size = ("D", 4.4) if macro else ("o", 3.8)
    axes.plot(row["difference"], y, shape, color=colour, markersize=size, markerfacecolor=face, markeredgewidth=0.9)
    said = "not defined"
    if not math.isnan(row["difference"]):
        said = f"{row['difference']:+.3f}" + ("" if math.isnan(low) else f" [{low:+.3f}, {high:+.3f}]")
        said += "" if math.isnan(p) else f"  p {tables.p_text(p)}"
    where: Any = ("axes fraction", "data")
    axes.annotate(said, (1.02, y), xycoords=where, va="center", fontsize=6.0, color="0.2")


def confusion(scored: Scored, rows: Sequence[tables.Row]) -> style.Drawing:
    """Draw a two-by-two table of counts for each label, shaded by the share of its row."""
    figure, panels = style.panels(len(rows))
    for row, axes in zip(rows, panels, strict=True):
        axes.set(xticks=[0, 1], yticks=[0, 1], xticklabels=["present", "absent"], yticklabels=["present", "absent"])
        axes.tick_params(length=0)
        if math.isnan(row["threshold"]):
            style.panel_title(axes, row["label"], "no threshold")
            axes.set(xlim=(-0.5, 1.5), ylim=(1.5, -0.5))
            continue
        counts = np.array([[row["tp"], row["fn"]], [row["fp"], row["tn"]]])
        share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        axes.imshow(share, cmap="Blues", vmin=0, vmax=1.25)
        for (y, x), count in np.ndenumerate(counts):
            colour = "white" if share[y, x] > 0.65 else "black"
            axes.text(x, y, f"{count:,}", ha="center", va="center", fontsize=7, color=colour)
        style.panel_title(axes, row["label"], f"p >= {row['threshold']:.3g}")
    style.outer_labels(figure, "called", "truth")
    chosen = scored.provenance.get("thresholds", "as given")
    caption = f"{scored.caption()}. Thresholds: {chosen}; shade: share of the row."
    data = pd.DataFrame([row for row in rows if not math.isnan(row["threshold"])])
    return style.annotate(figure, "Confusion at the stored thresholds", caption, scored.random, data)


def class_frequencies(study: Study) -> style.Drawing:
    """Draw how many images of each split are positive for each label, with the share of the split."""
    splits = study.splits or ("",)
    height = 0.8 / len(splits)
    figure, (axes,) = style.new_figure(5.2, 0.8 + len(study.labels) * (0.1 + 0.11 * len(splits)))
    at = _label_axis(axes, [style.pretty(label) for label in study.labels])
    data, most = [], 1
    for k, split in enumerate(splits):
        part = study.split(split) if split else study
        known, positives = (~np.isnan(part.y)).sum(axis=0), np.nansum(part.y, axis=0).astype(int)
        share = positives / np.maximum(known, 1)
        where = at + 0.4 - height * (k + 0.5)
        name = f"{split or 'all images'} ({len(part):,} images, {len(set(part.patients)):,} patients)"
        axes.barh(where, positives, height * 0.92, color=style.COLOURS[k % len(style.COLOURS)], label=name)
        for x, y, s in zip(positives, where, share, strict=True):
            said = f"{x:,} ({s:.1%})"
            axes.annotate(said, (x, y), (2, 0), textcoords="offset points", va="center", fontsize=5.6, color="0.25")
        most = max(most, int(positives.max()))
        data.append(pd.DataFrame({"split": split, "label": study.labels, "positives": positives, "known": known}))
    axes.set(xlabel="positive images", xlim=(0, most * 1.2), ylim=(-0.6, len(at) - 0.4))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    _grid(axes)
    handles, names = axes.get_legend_handles_labels()
    style.legend_below(figure, handles, names, columns=1)
    unlabelled = float((np.nansum(study.y, axis=1) == 0).mean())
    caption = f"Study {study.name}: {len(study):,} images of {len(set(study.patients)):,} patients; "
    caption += f"{unlabelled:.1%} of the images have none of these labels. An image can have several."
    return style.annotate(figure, "Class frequencies", caption, False, pd.concat(data, ignore_index=True))


def side_by_side(
    pictures: Sequence[npt.NDArray[np.uint8]], names: Sequence[str], title: str, caption: str
) -> style.Drawing:
    """Draw pictures, uint8 (h, w), with a name above each."""
    width = min(style.PAGE, 2.4 * len(pictures))
    figure, panels = style.new_figure(width, width / len(pictures) + 0.25, columns=len(pictures))
    for picture, name, axes in zip(pictures, names, panels, strict=True):
        axes.imshow(picture, cmap="gray", vmin=0, vmax=255)
        axes.set_axis_off()
        axes.set_title(name, fontsize=7.5)
    means = pd.DataFrame({"rendering": list(names), "mean_grey": [float(picture.mean()) for picture in pictures]})
    # A rendering is the same whatever weights come after it, so that there is nothing to stamp.
    return style.annotate(figure, title, caption, False, means)


def heat(values: pd.DataFrame, title: str, caption: str, random: bool) -> style.Drawing:
    """Write numbers into the cells of a heat map; NaN is a dash. Colours run from 0.5 (chance) to 1."""
    longest = max(map(len, values.index))
    width = min(style.PAGE, 1.2 + 0.06 * longest + 0.95 * len(values.columns))
    figure, (axes,) = style.new_figure(width, 0.7 + 0.24 * len(values))
    axes.imshow(values.to_numpy(), cmap="YlGnBu", vmin=0.5, vmax=1.05, aspect="auto")
    for (y, x), value in np.ndenumerate(values.to_numpy()):
        colour = "white" if value > 0.85 else "black"
        axes.text(x, y, "-" if np.isnan(value) else f"{value:.3f}", ha="center", va="center", fontsize=7, color=colour)
    axes.set_xticks(range(len(values.columns)), [style.wrapped(str(name), 1.3, 7.0) for name in values])
    axes.set_yticks(range(len(values)), [style.pretty(name) for name in values.index])
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.axvline(0.5, color="white", linewidth=3)
    if values.index[-1] == "macro":
        axes.axhline(len(values) - 1.5, color="white", linewidth=3)
    axes.spines[:].set_visible(False)
    return style.annotate(figure, title, caption, random, values.reset_index(names="row"))


def _label_axis(axes: Axes, names: Sequence[str]) -> npt.NDArray[np.float64]:
    """Write names down the left side; return where their rows are, the first at the top."""
    at = np.arange(len(names))[::-1].astype(float)
    axes.set_yticks(at, list(names))
    return at


def _grid(axes: Axes) -> None:
    axes.grid(axis="x", color="0.92", linewidth=0.6)
    axes.set_axisbelow(True)
