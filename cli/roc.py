"""`cxrfeat roc`: the ROC curves of a run."""

from __future__ import annotations

from pathlib import Path

import click

import cxrfeat as cxr

from .base import Command
from .options import LABEL_NAME, run_option, scoring_options
from .output import ended, json_option, print_result, progress_bar


@click.command(cls=Command)
@run_option
@scoring_options
@click.option(
    "--label", "labels", multiple=True, metavar="LABEL", type=LABEL_NAME, help="Only this label; may be repeated."
)
@click.option("--out", type=click.Path(path_type=Path), help="Picture to write. Default: RUN/figures/roc.png.")
@click.option(
    "--layout",
    default="auto",
    type=click.Choice(["auto", "panels", "one"]),
    help="A small panel for each label, or all in one; auto: panels for more than six labels.",
)
@click.option(
    "--width", type=click.FloatRange(3, 12), help="Inches; 3.5 is a paper's column. Default: 7 for panels, else 5.2."
)
@json_option
def command(out, layout, width, as_json, **options) -> None:
    """Draw the ROC curves of a run, with AUROC and 95 % DeLong interval of each label.

    Writes PNG and SVG and, beside them, the points as CSV; prints the AUROCs.

    \b
    Example:
      cxrfeat roc --run runs/sample-logistic
      cxrfeat roc --label Effusion --label Edema --out effusion.pdf
    """
    with progress_bar("bootstrap", "replicates") as progress:
        found = cxr.roc(progress=progress, **options)
    written = found.save(out, layout=layout, width=width)
    kind = "json" if as_json else "table"
    print_result(found, kind, files=written)
    ended(written, f"{found.summary}." if found.summary else "", "cxrfeat gradcam", kind)
