"""`cxrfeat compare`: runs on the same images, with tests."""

from __future__ import annotations

from pathlib import Path

import click

import cxrfeat as cxr

from .base import Command
from .options import RUN_NAME, contaminated_option, format_option, replicates_option, seed_option, split_option
from .output import ended, json_option, print_result, progress_bar


@click.command(cls=Command)
@click.argument("runs", nargs=-1, required=True, type=RUN_NAME, metavar="RUN_A RUN_B [RUN_C]...")
@split_option
@click.option("--metric", default="auroc", metavar="NAME", help="What is compared.")
@click.option(
    "--table", is_flag=True, help="For a paper: a row for each label, a column for each run, the best in bold."
)
@click.option("--intersection", is_flag=True, help="Take the images and labels that all runs share, where they differ.")
@replicates_option
@seed_option
@format_option
@click.option("--out", type=click.Path(path_type=Path), help="Forest plot to write. Default: compare-A-B.png by RUN_A.")
@contaminated_option
@json_option
def command(runs, kind, out, as_json, **options) -> None:
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
    kind = "json" if as_json else kind
    print_result(found, kind)
    ended(written, then="cxrfeat report", kind=kind)
