"""`cxrfeat evaluate`, `roc` and `compare`: how good runs are."""

from __future__ import annotations

from pathlib import Path

import click

import cxrfeat as cxr

from .base import Command
from .options import (
    LABEL_NAME,
    RUN_NAME,
    STUDY_NAME,
    by_option,
    format_option,
    given,
    run_option,
    scoring_options,
    shortcuts_option,
)  # fmt: skip
from .output import ended, json_option, print_result, watched


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
def evaluate(kind, figures, runs, **options) -> None:
    """Evaluate a run: AUROC, average precision, thresholded metrics and calibration, with 95 % intervals.

    Intervals are over patients. Writes RUN/metrics.json and figures with their data. With --on: external validation,
    against the run's own split, with the drop and what explains it; writes RUN/external.

    \b
    Example:
      cxrfeat evaluate --run runs/sample-logistic
      cxrfeat evaluate --by view --by sex --by age --format latex > table.tex
      cxrfeat evaluate --run runs/nih-logistic --on chexpert --on ~/padchest
    """
    run = runs if len(runs) > 1 else next(iter(runs), None)
    found = watched("bootstrap", cxr.evaluate, run, unit="replicates", **given(options))
    written = found.save(figures=figures)
    print_result(found, kind)
    ended(written, found.headline() + ".", "cxrfeat roc", kind)


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
def roc(out, layout, width, as_json, **options) -> None:
    """Draw the ROC curves of a run, with AUROC and 95 % DeLong interval of each label.

    Writes PNG and SVG and, beside them, the points as CSV; prints the AUROCs.

    \b
    Example:
      cxrfeat roc --run runs/sample-logistic
      cxrfeat roc --label Effusion --label Edema --out effusion.pdf
    """
    found = watched("bootstrap", cxr.roc, unit="replicates", **options)
    written = found.save(out, layout=layout, width=width)
    kind = "json" if as_json else "table"
    print_result(found, kind, files=written)
    ended(written, f"{found.summary}." if found.summary else "", "cxrfeat gradcam", kind)


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
def compare(runs, kind, out, **options) -> None:
    """Compare runs with the first of them on the same images: is the difference more than noise?

    For each label: paired DeLong test, the same with patients as clusters, Holm's correction over all of them, and a
    paired bootstrap over patients. Draws a forest plot and ends in one sentence for each run.

    \b
    Example:
      cxrfeat compare runs/sample-logistic runs/sample-keras
      cxrfeat compare runs/sample-logistic runs/sample-keras --table --format latex > table.tex
    """
    found = watched("bootstrap", cxr.compare, *runs, unit="replicates", **options)
    written = found.save(out)
    print_result(found, kind)
    ended(written, then="cxrfeat report", kind=kind)
