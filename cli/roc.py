"""`cxrfeat roc`: the ROC curves of a run."""

from __future__ import annotations

from pathlib import Path

import click

from cxrfeat._project import run_path

from .base import Command
from .options import anyway_option, run_option, split_option
from .output import json_option, print_json, print_table, say


@click.command(cls=Command)
@run_option
@split_option
@click.option("--label", "labels", multiple=True, metavar="LABEL", help="Only this label; may be repeated.")
@click.option("--out", type=click.Path(path_type=Path), help="Picture to write. Default: RUN/figures/roc.png.")
@click.option(
    "--width", default=5.2, show_default=True, type=click.FloatRange(3, 12), help="Inches; 3.5 is a paper's column."
)
@anyway_option
@json_option
def command(run, split, labels, out, width, anyway, as_json) -> None:
    """Draw the ROC curves of a run, one per label, with AUROC and 95 % DeLong interval.

    Writes PNG and SVG and, beside them, the points as CSV; prints the AUROCs.

    \b
    Example:
      cxrfeat roc --run runs/sample-logistic
      cxrfeat roc --label Effusion --label Edema --out effusion.pdf
    """
    from cxrfeat._evaluate.scored import scored_run
    from cxrfeat._labels import choose
    from cxrfeat._report import figures, tables
    from cxrfeat._run import Run

    opened = Run.open(run_path(run))
    scored = scored_run(opened, split, anyway)
    if labels:
        scored = scored.with_labels(choose(labels, scored.labels))
    path = out or opened.path / "figures" / "roc.png"
    written = figures.roc(scored, path, width=width)
    rows = tables.auroc_rows(scored)
    if as_json:
        print_json({**scored.stands_on(), "labels": rows, "files": written})
    else:
        print_table([tables.flat(row) for row in rows], tables.title("AUROC", scored))
        say("written: " + ", ".join(str(file) for file in written))
