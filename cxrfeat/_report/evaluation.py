"""What an evaluation leaves in a run folder: metrics.json, metrics.csv and the figures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cxrfeat import _files as files
from cxrfeat._report import figures, tables

if TYPE_CHECKING:
    from cxrfeat._evaluate import Evaluation
    from cxrfeat._run import Run


def write(evaluation: Evaluation, run: Run, draw: bool = True) -> list[Path]:
    """Write the metrics of a run, and its figures if `draw`, into its folder.

    Returns
    -------
    list of Path
        metrics.json, metrics.csv, and the folder of the figures.
    """
    written = [
        files.write_atomically(run.path / "metrics.json", tables.to_json(evaluation)),
        files.write_atomically(run.path / "metrics.csv", tables.to_csv(evaluation)),
    ]
    if draw:
        figures.draw_all(evaluation, run, run.path / "figures")
        written.append(run.path / "figures")
    return written
