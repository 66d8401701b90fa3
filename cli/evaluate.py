"""`cxrfeat evaluate`: metrics of a run, with intervals, by group."""

from __future__ import annotations

import click

from cxrfeat._project import run_path

from .base import Command
from .options import anyway_option, format_option, replicates_option, run_option, seed_option, split_option
from .output import json_option, print_table, progress_bar, say


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
@anyway_option
@json_option
def command(run, split, by, replicates, seed, kind, figures, anyway, as_json) -> None:
    """Evaluate a run: AUROC, average precision, thresholded metrics and calibration, with 95 % intervals.

    Intervals are DeLong's and those of a bootstrap over patients. Writes RUN/metrics.json and figures with their data.

    \b
    Example:
      cxrfeat evaluate --run runs/sample-logistic
      cxrfeat evaluate --by view --by sex --by age --format latex > table.tex
    """
    from cxrfeat._evaluate import evaluate_run
    from cxrfeat._report import tables
    from cxrfeat._report.evaluation import write
    from cxrfeat._run import Run

    opened = Run.open(run_path(run))
    with progress_bar("bootstrap", "replicates") as progress:
        found = evaluate_run(opened, split, by or None, replicates, seed, anyway, progress)
    written = write(found, opened, figures)
    if as_json or kind != "table":
        click.echo(tables.render(found, "json" if as_json else kind), nl=False)
    else:
        print_table(tables.rows_to_read(found), tables.title("Metrics per label", found.scored))
        if found.groups:
            print_table(
                tables.group_rows(found), "By group; `group alone` is the macro AUROC of knowing only the group"
            )
        click.echo(tables.accuracy_line(found))
    for warning in found.warnings:
        say(f"warning: {warning.message}")
    say("written: " + ", ".join(str(file) for file in written))
