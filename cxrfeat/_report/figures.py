"""Every figure of numbers, by one name each; the drawing is in the modules beside this one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cxrfeat._report.bars import class_frequencies, confusions, labels
from cxrfeat._report.curves import losses, precision_recall, reliability, roc, sweep
from cxrfeat._report.forest import forest

if TYPE_CHECKING:
    from cxrfeat._evaluate import Evaluation
    from cxrfeat._run import Run

__all__ = [
    "class_frequencies",
    "confusions",
    "draw_all",
    "forest",
    "labels",
    "losses",
    "precision_recall",
    "reliability",
    "roc",
    "sweep",
]


def draw_all(evaluation: Evaluation, run: Run, folder: str | Path) -> list[Path]:
    """Draw every figure that an evaluation and its run have the numbers for.

    Parameters
    ----------
    evaluation : Evaluation
        What `evaluate_run` found.
    run : Run
        An opened run.
    folder : str or Path
        Where the pictures go.

    Returns
    -------
    list of Path
        Every file written: PNG, SVG and CSV of each figure.
    """
    folder, scored = Path(folder), evaluation.scored
    written = labels(evaluation, folder / "labels.png")
    for draw, name in (
        (roc, "roc"),
        (precision_recall, "precision_recall"),
        (reliability, "reliability"),
        (sweep, "thresholds"),
        (confusions, "confusion"),
    ):
        written += draw(scored, folder / f"{name}.png")
    if (run.path / "history.csv").is_file():
        written += losses(run, folder / "loss.png")
    return written
