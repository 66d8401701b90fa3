"""Curves over a score: ROC, precision and recall, reliability, threshold sweep; and the loss over training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from cxrfeat._evaluate import delong, metrics
from cxrfeat._report import style
from cxrfeat.errors import NotFoundError

if TYPE_CHECKING:
    from cxrfeat._evaluate.scored import Scored
    from cxrfeat._run import Run

POINTS = 2000
"""Points drawn of a curve at most; the CSV has no more either, and no eye sees the difference."""

WILSON = 1.959964
"""Standard normal quantile of the 95 % Wilson intervals of shares."""


def roc(scored: Scored, path: str | Path, title: str = "ROC curves", width: float = 5.2) -> list[Path]:
    """Draw the ROC curves of all labels in one axes, with AUROC and DeLong interval in the legend.

    Parameters
    ----------
    scored : Scored
        Predictions with their truth.
    path : str or Path
        The picture to write; its ending names the format, and PNG, SVG and the data as CSV are written beside it.
    title : str
        What stands above.
    width : float
        Inches; 3.5 is one column of a paper.

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
    _unit_square(axes, "1 - specificity (false positive rate)", "sensitivity (true positive rate)")
    if handles:
        style.legend_below(
            figure, handles, names, _mean("macro AUROC", [at.value for at in intervals]), _columns(width)
        )
    caption = f"{scored.caption()}. AUROC with 95 % DeLong interval.{_left_out(scored, names)}"
    style.annotate(figure, title, caption, scored.random)
    return style.save(figure, path, _stacked(data, ["label", "fpr", "tpr", "threshold"]))


def precision_recall(
    scored: Scored, path: str | Path, title: str = "Precision and recall", width: float = 5.2
) -> list[Path]:
    """Draw the precision-recall curves of all labels in one axes, with average precision beside prevalence.

    Parameters
    ----------
    scored : Scored
        Predictions with their truth.
    path : str or Path
        The picture to write; its ending names the format, and PNG, SVG and the data as CSV are written beside it.
    title : str
        What stands above.
    width : float
        Inches; 3.5 is one column of a paper.

    Returns
    -------
    list of Path
        PNG (or the ending asked for), SVG, and the CSV of the points.
    """
    figure, (axes,) = style.new_figure(width, width * 0.96)
    data, handles, names, values = [], [], [], []
    for j, label in enumerate(scored.labels):
        y, p = scored.y[:, j], scored.p[:, j]
        precision, recall, thresholds = metrics.precision_recall_curve(y, p)
        if not recall.size:
            continue
        keep = thinned(recall.size)
        # Precision holds until the next lower score: a staircase, as average precision counts it.
        (line,) = axes.step(np.r_[0.0, recall[keep]], np.r_[precision[0], precision[keep]], **style.line_style(j))
        values.append(metrics.average_precision(y, p))
        handles.append(line)
        names.append(f"{style.pretty(label)}  AP {values[-1]:.3f}  prevalence {np.nanmean(y):.3f}")
        data.append(
            pd.DataFrame(
                {"label": label, "recall": recall[keep], "precision": precision[keep], "threshold": thresholds[keep]}
            )
        )
    _unit_square(axes, "recall (sensitivity)", "precision (PPV)")
    if handles:
        style.legend_below(figure, handles, names, _mean("macro AP", values), _columns(width))
    caption = f"{scored.caption()}. A score that knows nothing has its prevalence as AP.{_left_out(scored, names)}"
    style.annotate(figure, title, caption, scored.random)
    return style.save(figure, path, _stacked(data, ["label", "recall", "precision", "threshold"]))


def reliability(scored: Scored, path: str | Path, title: str = "Reliability") -> list[Path]:
    """Draw, for each label, the share of positives over the mean probability of 15 equal bins, with Wilson intervals.

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
        PNG (or the ending asked for), SVG, and the CSV of the bins.
    """
    figure, panels = style.panels(len(scored.labels))
    data = []
    for j, (label, axes) in enumerate(zip(scored.labels, panels, strict=True)):
        y, p = scored.y[:, j], scored.p[:, j]
        predicted, observed, count = metrics.calibration_bins(y, p)
        full = count > 0
        low, high = wilson(observed[full] * count[full], count[full])
        axes.plot([0, 1], [0, 1], color="0.6", linewidth=0.8, linestyle=(0, (2, 2)))
        axes.vlines(predicted[full], low, high, color=style.COLOURS[0], linewidth=0.8, alpha=0.6)
        axes.plot(predicted[full], observed[full], color=style.COLOURS[0], marker="o", markersize=2.4, linewidth=0.9)
        error = metrics.expected_calibration_error(y, p)
        style.panel_title(axes, label, f"ECE {error:.3f}  n+ {scored.positives[j]:,}")
        _unit_square(axes)
        axes.set(xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
        data.append(
            pd.DataFrame({"label": label, "predicted": predicted[full], "observed": observed[full], "n": count[full]})
            .assign(low=low, high=high)
        )  # fmt: skip
    style.outer_labels(figure, "mean probability", "share of positives")
    caption = f"{scored.caption()}. 15 equal-width bins, 95 % Wilson intervals; ECE: expected calibration error."
    style.annotate(figure, title, caption, scored.random)
    return style.save(figure, path, _stacked(data, ["label", "predicted", "observed", "n", "low", "high"]))


def sweep(scored: Scored, path: str | Path, title: str = "Threshold sweep") -> list[Path]:
    """Draw, for each label, sensitivity, specificity, PPV and F1 over the threshold, and the stored threshold.

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
        PNG (or the ending asked for), SVG, and the CSV of the curves.
    """
    figure, panels = style.panels(len(scored.labels))
    grid, data, handles = np.linspace(0, 1, 201), [], {}
    for j, (label, axes) in enumerate(zip(scored.labels, panels, strict=True)):
        counts = np.array([metrics.confusion(scored.y[:, j], scored.p[:, j], t) for t in grid]).T
        rates = metrics.rates(*counts)
        for k, name in enumerate(("sensitivity", "specificity", "ppv", "f1")):
            (handles[name],) = axes.plot(grid, rates[name], **style.line_style(k) | {"linewidth": 1.0})
        if not np.isnan(scored.thresholds[j]):
            handles["stored threshold"] = axes.axvline(scored.thresholds[j], color="0.45", linewidth=0.8)
        style.panel_title(axes, label, f"n+ {scored.positives[j]:,}")
        _unit_square(axes)
        axes.set(xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
        data.append(pd.DataFrame({"label": label, "threshold": grid, **{k: rates[k] for k in list(rates)[:5]}}))
    style.outer_labels(figure, "threshold", "")
    names = [{"ppv": "PPV", "f1": "F1"}.get(name, name) for name in handles]
    style.legend_below(figure, list(handles.values()), names, columns=5)
    caption = f"{scored.caption()}. Thresholds: {scored.standing.get('thresholds', 'as given')}."
    style.annotate(figure, title, caption, scored.random)
    return style.save(figure, path, _stacked(data, ["label", "threshold"]))


def losses(run: Run, path: str | Path, title: str = "Training") -> list[Path]:
    """Draw the curves of a run's `history.csv`: every column with `loss` or `objective` in its name.

    Parameters
    ----------
    run : Run
        An opened run.
    path : str or Path
        The picture to write; its ending names the format, and PNG, SVG and the data as CSV are written beside it.
    title : str
        What stands above.

    Returns
    -------
    list of Path
        PNG (or the ending asked for), SVG, and the CSV.

    Raises
    ------
    NotFoundError
        If the run has no `history.csv`, or no such column in it.
    """
    file = run.path / "history.csv"
    if not file.is_file():
        raise NotFoundError(f"{file} is missing; only heads that train in steps write one.")
    history = pd.read_csv(file)
    curves = [str(c) for c in history if "loss" in str(c) or "objective" in str(c)]
    if not curves:
        raise NotFoundError(f"{file} has no column named after a loss.")
    across = next((c for c in ("epoch", "iteration", "step") if c in history), None)
    x = history[across] if across else pd.Series(np.arange(1, len(history) + 1))
    figure, (axes,) = style.new_figure(style.COLUMN, 2.4)
    for k, name in enumerate(curves):
        axes.plot(x, history[name], label=style.pretty(name), marker="o", markersize=2, **style.line_style(k))
    axes.set(xlabel=across or "step", ylabel="loss")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(color="0.92", linewidth=0.6)
    style.legend_below(figure, axes.get_lines(), [style.pretty(c) for c in curves], columns=3)
    style.annotate(figure, title, f"{run.describe()}, study {run.study_name}.", run.random)
    return style.save(figure, path, history)


def span(low: float, high: float) -> str:
    """Return an interval in brackets; nothing between them where it is not defined."""
    return "[-]" if np.isnan(low) or np.isnan(high) else f"[{low:.2f}, {high:.2f}]"


def thinned(n: int, most: int = POINTS) -> npt.NDArray[np.int64]:
    """Return at most `most` positions of n, the first and last among them."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(np.int64))


def wilson(
    positives: npt.NDArray[np.float64], n: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """95 % interval of a share (Wilson, JASA 1927, 22:209-212)."""
    share, z = positives / n, WILSON
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    return middle - half, middle + half


def _unit_square(axes: Axes, across: str = "", up: str = "") -> None:
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), xlabel=across, ylabel=up)
    axes.set_aspect("equal")
    axes.grid(color="0.92", linewidth=0.6)


def _columns(width: float) -> int:
    """Columns of a legend of names with numbers: two need 4.8 inches."""
    return 2 if width >= 4.8 else 1


def _mean(what: str, values: list[float]) -> str:
    kept = np.array([value for value in values if not np.isnan(value)])
    return f"{what} {kept.mean():.3f} over {len(kept)} labels" if len(kept) else ""


def _left_out(scored: Scored, names: list[str]) -> str:
    """Name the labels that could not be drawn."""
    drawn = {name.split("  ")[0] for name in names}
    missing = [style.pretty(label) for label in scored.labels if style.pretty(label) not in drawn]
    return f" No curve for {', '.join(missing)}: a class is absent, or there is no prediction." if missing else ""


def _stacked(parts: list[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)
