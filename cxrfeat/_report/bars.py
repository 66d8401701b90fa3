"""Numbers per label: metrics with intervals, confusion counts, class frequencies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.ticker import StrMethodFormatter

from cxrfeat._evaluate import metrics
from cxrfeat._report import style

if TYPE_CHECKING:
    from cxrfeat._evaluate import Evaluation
    from cxrfeat._evaluate.scored import Scored
    from cxrfeat._study import Study


def labels(evaluation: Evaluation, path: str | Path, title: str = "AUROC and average precision") -> list[Path]:
    """Draw AUROC and average precision of every label and their mean, with 95 % intervals, prevalence as a mark.

    Intervals are the bootstrap's over patients, or DeLong's (AUROC only) where there was no bootstrap.

    Parameters
    ----------
    evaluation : Evaluation
        What `evaluate_run` found.
    path : str or Path
        The picture to write; its ending names the format, and PNG, SVG and the data as CSV are written beside it.
    title : str
        What stands above.

    Returns
    -------
    list of Path
        PNG (or the ending asked for), SVG, and the CSV.
    """
    scored, rows = evaluation.scored, evaluation.rows[:-1]
    figure, (left, right) = style.new_figure(style.PAGE, 0.7 + 0.2 * len(rows), columns=2)
    at = np.arange(len(rows))[::-1]
    kind = "bootstrap over patients" if evaluation.replicates else "DeLong"
    data = pd.DataFrame({"label": [row["label"] for row in rows], "prevalence": [row["prevalence"] for row in rows]})
    for axes, metric, name in ((left, "auroc", "AUROC"), (right, "average_precision", "average precision")):
        ends = [row.get(f"{metric}_bootstrap") or row.get(f"{metric}_delong") or [np.nan, np.nan] for row in rows]
        values, (low, high) = np.array([row[metric] for row in rows]), np.array(ends, dtype=float).T
        axes.hlines(at, low, high, color=style.COLOURS[0], linewidth=1.2)
        axes.plot(values[:-1], at[:-1], "o", color=style.COLOURS[0], markersize=3.4)
        axes.plot(values[-1:], at[-1:], "D", color=style.COLOURS[1], markersize=4.2)
        axes.set(xlabel=name, xlim=(-0.02, 1.02), ylim=(-0.7, len(rows) - 0.3))
        axes.grid(axis="x", color="0.92", linewidth=0.6)
        data[metric], data[f"{metric}_low"], data[f"{metric}_high"] = values, low, high
    left.axvline(0.5, color="0.6", linewidth=0.8, linestyle=(0, (2, 2)))
    right.plot(data["prevalence"], at, "|", color="0.35", markersize=7, label="prevalence")
    names = [style.pretty(row["label"]) for row in rows[:-1]] + [f"macro over {len(rows[-1]['over'])}"]
    left.set_yticks(at, [f"{n}  ({r['positives']:,})" for n, r in zip(names, rows, strict=True)])
    right.set_yticks(at, [""] * len(rows))
    style.legend_below(figure, right.get_lines()[-1:], ["prevalence: the AP of a score that knows nothing"], columns=1)
    caption = f"{scored.caption()}. Positives in brackets; 95 % intervals by {kind}."
    style.annotate(figure, title, caption, scored.random)
    return style.save(figure, path, data)


def confusions(scored: Scored, path: str | Path, title: str = "Confusion at the stored thresholds") -> list[Path]:
    """Draw a two-by-two table of counts for each label, shaded by the share of its row.

    Parameters
    ----------
    scored : Scored
        Predictions with their truth.
    path : str or Path
        The picture to write; its ending names the format, and PNG, SVG and the data as CSV are written beside it.
    title : str
        What stands above.

    Returns
    -------
    list of Path
        PNG (or the ending asked for), SVG, and the CSV of the counts.
    """
    figure, panels = style.panels(len(scored.labels))
    data = []
    for j, (label, axes) in enumerate(zip(scored.labels, panels, strict=True)):
        threshold = scored.thresholds[j]
        axes.set(xticks=[0, 1], yticks=[0, 1], xticklabels=["present", "absent"], yticklabels=["present", "absent"])
        axes.tick_params(length=0)
        if np.isnan(threshold):
            style.panel_title(axes, label, "no threshold")
            axes.set(xlim=(-0.5, 1.5), ylim=(1.5, -0.5))
            continue
        tp, fp, fn, tn = metrics.confusion(scored.y[:, j], scored.p[:, j], threshold)
        counts = np.array([[tp, fn], [fp, tn]])
        share = np.nan_to_num(metrics.ratio(counts, counts.sum(axis=1, keepdims=True)))
        axes.imshow(share, cmap="Blues", vmin=0, vmax=1.25)
        for (row, column), count in np.ndenumerate(counts):
            axes.text(
                column, row, f"{count:,}", ha="center", va="center", fontsize=7,
                color="white" if share[row, column] > 0.65 else "black",
            )  # fmt: skip
        style.panel_title(axes, label, f"p >= {threshold:.3g}")
        data.append({"label": label, "threshold": threshold, "tp": tp, "fp": fp, "fn": fn, "tn": tn})
    style.outer_labels(figure, "called", "truth")
    caption = (
        f"{scored.caption()}. Thresholds: {scored.standing.get('thresholds', 'as given')}; shade: share of the row."
    )
    style.annotate(figure, title, caption, scored.random)
    return style.save(figure, path, pd.DataFrame(data, columns=["label", "threshold", "tp", "fp", "fn", "tn"]))


def class_frequencies(study: Study, path: str | Path, title: str = "Class frequencies") -> list[Path]:
    """Draw how many images of each split are positive for each label, with the share of the split.

    Parameters
    ----------
    study : Study
        What is counted.
    path : str or Path
        The picture to write; its ending names the format, and PNG, SVG and the data as CSV are written beside it.
    title : str
        What stands above.

    Returns
    -------
    list of Path
        PNG (or the ending asked for), SVG, and the CSV of the counts.
    """
    splits = study.splits or ("",)
    height = 0.8 / len(splits)
    figure, (axes,) = style.new_figure(5.2, 0.8 + len(study.labels) * (0.1 + 0.11 * len(splits)))
    at = np.arange(len(study.labels))[::-1].astype(float)
    data, most = [], 1
    for k, split in enumerate(splits):
        part = study.split(split) if split else study
        known, positives = (~np.isnan(part.y)).sum(axis=0), np.nansum(part.y, axis=0).astype(int)
        share = metrics.ratio(positives, known)
        where = at + 0.4 - height * (k + 0.5)
        name = f"{split or 'all images'} ({len(part):,} images, {len(set(part.patients)):,} patients)"
        axes.barh(where, positives, height * 0.92, color=style.COLOURS[k % len(style.COLOURS)], label=name)
        for x, y, s in zip(positives, where, share, strict=True):
            axes.annotate(
                f"{x:,} ({s:.1%})", (x, y), (2, 0), textcoords="offset points", va="center", fontsize=5.6, color="0.25"
            )
        most = max(most, int(positives.max()))
        data.append(pd.DataFrame({"split": split, "label": study.labels, "positives": positives, "known": known}))
    axes.set_yticks(at, [style.pretty(label) for label in study.labels])
    axes.set(xlabel="positive images", xlim=(0, most * 1.2), ylim=(-0.6, len(at) - 0.4))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.grid(axis="x", color="0.92", linewidth=0.6)
    axes.set_axisbelow(True)
    handles, names = axes.get_legend_handles_labels()
    style.legend_below(figure, handles, names, columns=1)
    unlabelled = float((np.nansum(study.y, axis=1) == 0).mean())
    caption = f"Study {study.name}: {len(study):,} images of {len(set(study.patients)):,} patients; "
    caption += f"{unlabelled:.1%} of the images have none of these labels. An image can have several."
    style.annotate(figure, title, caption, random=False)
    return style.save(figure, path, pd.concat(data, ignore_index=True))
