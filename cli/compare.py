"""`cxrfeat compare`: runs on the same images, with tests."""

from __future__ import annotations

from pathlib import Path

import click

import cxrfeat as cxr

from .base import Command
from .options import RUN_NAME, format_option, scoring_options
from .output import ended, print_result, progress_bar


@click.command(cls=Command)
@click.argument("runs", nargs=-1, required=True, type=RUN_NAME, metavar="RUN_A RUN_B [RUN_C]...")
@click.option("--metric", default="auroc", metavar="NAME", help="What is compared.")
@click.option(
    "--table", is_flag=True, help="For a paper: a row for each label, a column for each run, the best in bold."
)
@click.option("--intersection", is_flag=True, help="Take the images and labels that all runs share, where they differ.")
@scoring_options
@format_option
@click.option("--out", type=click.Path(path_type=Path), help="Forest plot to write. Default: compare-A-B.png by RUN_A.")
def command(runs, kind, out, **options) -> None:
    """Compare runs with the first of them on the same images: is the difference more than noise?

    For each label: paired DeLong test, the same with patients as clusters, Holm's correction over all of them, and a
    paired bootstrap over patients. Draws a forest plot and ends in one sentence for each run.

    \b
    Example:
      cxrfeat compare runs/sample-logistic runs/sample-keras
      cxrfeat compare runs/sample-logistic runs/sample-keras --table --format latex > table.tex
    """
    with progress_bar("bootstrap", "replicates") as progress:
        found = cxr.compare(*runs, progress=progress, **options)
    written = found.save(out)
    print_result(found, kind)
    ended(written, then="cxrfeat report", kind=kind)
