"""`cxrfeat evaluate`: metrics of a run, with intervals, by group."""

from __future__ import annotations

import click

from .base import Command
from .options import contaminated_option, format_option, replicates_option, run_option, seed_option, split_option
from .output import ended, json_option, print_result, progress_bar


@click.command(cls=Command)
@run_option
@split_option
@click.option(
    "--by",
    multiple=True,
    metavar="COLUMN",
    help="Group by view, sex, age, images_per_patient or any column of the study; may be repeated. Default: view.",
)
@replicates_option
@seed_option
@format_option
@click.option("--figures/--no-figures", default=True, show_default=True, help="Draw into RUN/figures.")
@contaminated_option
@click.option(
    "--shortcuts/--no-shortcuts", default=True, show_default=True,
    help="Show what size, format, brightness and view alone score.",
)  # fmt: skip
@json_option
def command(kind, figures, by, as_json, **options) -> None:
    """Evaluate a run: AUROC, average precision, thresholded metrics and calibration, with 95 % intervals.

    Intervals are over patients. Writes RUN/metrics.json and figures with their data.

    \b
    Example:
      cxrfeat evaluate --run runs/sample-logistic
      cxrfeat evaluate --by view --by sex --by age --format latex > table.tex
    """
    import cxrfeat as cxr

    with progress_bar("bootstrap", "replicates") as progress:
        found = cxr.evaluate(by=by or None, progress=progress, **options)
    written = found.save(figures=figures)
    kind = "json" if as_json else kind
    print_result(found, kind)
    ended(written, found.headline() + ".", "cxrfeat roc", kind)
