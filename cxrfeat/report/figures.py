"""Every figure of numbers, by one name each; the drawing is in the modules beside this one."""

from __future__ import annotations

from pathlib import Path

from cxrfeat.evaluate import Evaluation
from cxrfeat.report.curves import roc
from cxrfeat.run import Run

__all__ = ["draw_all", "roc"]


def draw_all(evaluation: Evaluation, run: Run, folder: str | Path) -> list[Path]:
    """Draw every figure that an evaluation has the numbers for.

    Returns
    -------
    list of Path
        Every file written: PNG, SVG and CSV of each figure.
    """
    folder, scored = Path(folder), evaluation.scored
    return roc(scored, folder / "roc.png")
