"""`cxrfeat evaluate`: metrics of a run, with intervals, by group."""

from __future__ import annotations

import click

import cxrfeat as cxr

from .base import Command
from .options import RUN_NAME, STUDY_NAME, by_option, format_option, given, scoring_options, shortcuts_option
from .output import ended, print_result, progress_bar


@click.command(cls=Command)
@click.option(
    "--run", "runs", metavar="RUN", type=RUN_NAME, multiple=True,
    help="Run folder; with --on, repeat it for more. Default: the newest under runs/.",
)  # fmt: skip
@click.option(
    "--on", metavar="STUDY", type=STUDY_NAME, multiple=True,
    help="Another study to evaluate it on, or STUDY:SPLIT; repeat it for more.",
)  # fmt: skip
@by_option
@scoring_options
@format_option
@click.option("--figures/--no-figures", default=True, help="Draw into RUN/figures.")
@shortcuts_option
def command(kind, figures, runs, **options) -> None:
    """Evaluate a run: AUROC, average precision, thresholded metrics and calibration, with 95 % intervals.

    Intervals are over patients. Writes RUN/metrics.json and figures with their data. With --on: external validation,
    against the run's own split, with the drop and what explains it; writes RUN/external.

    \b
    Example:
      cxrfeat evaluate --run runs/sample-logistic
      cxrfeat evaluate --by view --by sex --by age --format latex > table.tex
      cxrfeat evaluate --run runs/nih-logistic --on chexpert --on ~/padchest
    """
    with progress_bar("bootstrap", "replicates") as progress:
        run = runs if len(runs) > 1 else next(iter(runs), None)
        found = cxr.evaluate(run, progress=progress, **given(options))
    written = found.save(figures=figures)
    print_result(found, kind)
    ended(written, found.headline() + ".", "cxrfeat roc", kind)
