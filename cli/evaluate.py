"""`cxrfeat evaluate`: metrics of a run, with intervals, by group."""

from __future__ import annotations

import click

import cxrfeat as cxr

from .base import Command
from .options import (
    RUN_NAME,
    STUDY_NAME,
    contaminated_option,
    format_option,
    replicates_option,
    seed_option,
    split_option,
)  # fmt: skip
from .output import ended, json_option, print_result, progress_bar


@click.command(cls=Command)
@click.option(
    "--run", "runs", metavar="RUN", type=RUN_NAME, multiple=True,
    help="Run folder; with --on, repeat it for more. Default: the newest under runs/.",
)  # fmt: skip
@split_option
@click.option(
    "--on", metavar="STUDY", type=STUDY_NAME, multiple=True,
    help="Another study to evaluate it on, or STUDY:SPLIT; repeat it for more.",
)  # fmt: skip
@click.option(
    "--by",
    multiple=True,
    metavar="COLUMN",
    help="Group by view, sex, age, images_per_patient or any column of the study; may be repeated. Default: view.",
)
@replicates_option
@seed_option
@format_option
@click.option("--figures/--no-figures", default=True, help="Draw into RUN/figures.")
@contaminated_option
@click.option(
    "--shortcuts/--no-shortcuts", default=True, help="Show what size, format, brightness and view alone score."
)
@json_option
def command(kind, figures, runs, on, by, as_json, **options) -> None:
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
        found = cxr.evaluate(run, on=on or None, by=by or None, progress=progress, **options)
    written = found.save(figures=figures)
    kind = "json" if as_json else kind
    print_result(found, kind)
    ended(written, found.headline() + ".", "cxrfeat roc", kind)
