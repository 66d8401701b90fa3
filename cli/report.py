"""`cxrfeat report`: one self-contained HTML page on one or several runs."""

from __future__ import annotations

import click

import cxrfeat as cxr

from .base import Command
from .options import by_option, given, network_options, scoring_options
from .output import ended, json_option, print_json, say, watched


@click.command(cls=Command)
@click.argument("runs", nargs=-1, metavar="[RUN]...")
@click.option("-o", "--out", type=click.Path(dir_okay=False), default="report.html", help="The page.")
@by_option
@scoring_options
@click.option(
    "--images", default=12, type=click.IntRange(0), help="Pictures with maps, for each run; 0 opens no network."
)
@click.option("--card/--no-card", "cards", default=True, help="Model card as README.md in each run.")
@click.option("--intersection", is_flag=True, help="Compare on the images and labels that all runs share.")
@network_options
@click.option("--overwrite", is_flag=True, help="Replace OUT even if it is no earlier page.")
@json_option
def command(runs, out, as_json, **options) -> None:
    """Write one self-contained HTML report on runs: warnings, what was done, metrics, curves, groups, maps.

    The page opens from disk and loads nothing from the network. RUN is a run folder or a name under runs/; by default
    the newest. Several are compared with the first. Each run also gets a model card, README.md in its folder.

    \b
    Example:
      cxrfeat report
      cxrfeat report runs/sample-densenet121-logistic runs/sample-densenet121-keras -o report.html --images 30
    """
    report = watched("report", cxr.report, runs, out, unit="steps", **given(options))
    for warning in report.warnings:
        say(f"warning: {warning}")
    if report.random:
        say("RANDOM WEIGHTS: NOT A RESULT. The page says so too.")
    for card in report.cards:
        say(f"model card: {card}")
    if as_json:
        print_json(vars(report))
    else:
        ended(report.path, f"{report.size / 1e6:.1f} MB, {report.pictures} images with maps.")
