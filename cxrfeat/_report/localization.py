"""Scores against the radiologists' boxes, written down: JSON, CSV and a figure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from cxrfeat import _files as files
from cxrfeat._datasets import boxes as boxes_room
from cxrfeat._explain.baselines import KINDS
from cxrfeat._explain.detection import NAMES
from cxrfeat._explain.explainer import Explainer, MethodName
from cxrfeat._explain.localize import CUT, localize
from cxrfeat._progress import Progress, silent
from cxrfeat._report import style, tables
from cxrfeat._report.gallery import find_boxes
from cxrfeat._run import Run
from cxrfeat.errors import NotFoundError


def score_run(
    run: Run,
    boxes: str | Path | None = None,
    split: str = "test",
    method: MethodName = "auto",
    smooth: int = 0,
    cut: float = CUT,
    tune_on: str | None = None,
    tolerance: float = 0.0,
    weights: Sequence[str] = (),
    engine: str = "auto",
    out: str | Path | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Score a run's maps and write `localize.json` and a figure with its CSV; see `explain.localize.localize`.

    Parameters
    ----------
    boxes : path, optional
        The box list; by default the one beside the study's images.
    out : path, optional
        Folder; by default the run's.

    Raises
    ------
    NotFoundError
        If there is no box list.
    """
    path = Path(boxes) if boxes else find_boxes(run)
    if path is None:
        raise NotFoundError(f"no {boxes_room.FILE} lies beside the study's images; name one with --boxes.")
    explainer = Explainer(run, method, weights, engine, smooth=smooth)
    result = localize(run, boxes_room.read(path), explainer, split, cut, tune_on, tolerance, progress=progress)
    folder = Path(out) if out else run.path
    table = pd.DataFrame([_flat(row) for row in result["rows"]])
    written = _draw(result, folder / "figures" / "localize", table)
    result["files"] = [str(folder / "localize.json"), *map(str, written)]
    plain = {key: value for key, value in result.items() if key != "files"}
    files.write_atomically(folder / "localize.json", tables.json_text(plain))
    return result


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    flat = {key: value for key, value in row.items() if key not in NAMES}
    for name in NAMES:
        flat |= {name: row[name]["value"], f"{name} low": row[name]["low"], f"{name} high": row[name]["high"]}
    return flat


def _draw(result: dict[str, Any], path: Path, table: pd.DataFrame) -> list[Path]:
    """The pointing game per label, the maps' points with intervals and the baselines' beside them."""
    labels = list(dict.fromkeys(row["label"] for row in result["rows"]))
    figure, (axes,) = style.new_figure(style.PAGE, 0.9 + 0.34 * len(labels))
    for k, kind in enumerate(KINDS):
        rows = [row for row in result["rows"] if row["kind"] == kind]
        at = [labels.index(row["label"]) + (k - 1.5) * 0.19 for row in rows]
        values = [row["pointing"]["value"] for row in rows]
        for y, row in zip(at, rows, strict=True):
            low, high = row["pointing"]["low"], row["pointing"]["high"]
            if math.isfinite(low):
                axes.plot([low, high], [y, y], color=style.COLOURS[k], linewidth=1.0, alpha=0.7)
        axes.plot(values, at, "o" if k == 0 else "D", markersize=5 if k == 0 else 3.2, color=style.COLOURS[k],
                  linestyle="none", label=kind)  # fmt: skip
    counts = {row["label"]: row["boxes"] for row in result["rows"] if row["kind"] == KINDS[0]}
    axes.set_yticks(range(len(labels)), [f"{style.pretty(label)} ({counts.get(label, 0)})" for label in labels])
    axes.invert_yaxis()
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel("pointing game: share of boxes that hold the map's maximum")
    axes.grid(axis="x", alpha=0.25, linewidth=0.5)
    handles, names = axes.get_legend_handles_labels()
    style.legend_below(figure, handles, names, columns=len(KINDS))
    caption = (
        f"{result['about']}; {result['method']}; split {result['split']}: {result['boxes']} boxes in "
        f"{result['images']} images of {result['patients']} patients, boxes per label in brackets; lines are 95 % "
        f"bootstrap intervals over patients. {result['note']}"
    )
    style.annotate(figure, "Do the maps find what radiologists marked?", caption, result["random"])
    return style.save(figure, path, table)
