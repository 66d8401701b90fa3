"""`cxrfeat localize`: maps against the radiologists' boxes."""

from __future__ import annotations

import click

from cxrfeat._project import run_path

from .base import Command
from .options import engine_option, method_option, run_option, smooth_option, weights_option
from .output import json_option, print_json, print_table, progress_bar, say

COLUMNS = {
    "energy": "energy",
    "iobb@0.1": "IoBB .1",
    "iobb@0.25": ".25",
    "iobb@0.5": ".5",
    "iobb@0.75": ".75",
    "iou@0.1": "IoU .1",
    "iou@0.25": " .25",
    "iou@0.5": " .5",
    "false boxes": "false",
}
"""Measure -> its title in the printed table; the JSON and CSV have all of them."""


@click.command("localize", cls=Command, short_help="Score maps against the radiologists' boxes.")
@run_option
@click.option("--boxes", metavar="CSV", help="Box list; by default the one beside the study's images.")
@click.option("--split", default="test", show_default=True, help="Split whose boxed images are scored.")
@method_option
@smooth_option
@click.option(
    "--cut",
    default=0.5,
    show_default=True,
    type=float,
    help="Fraction of a map's maximum above which a pixel belongs to a found box.",
)
@click.option("--tune-on", metavar="SPLIT", help="Choose the cut on the boxes of this other split instead.")
@click.option(
    "--tolerance",
    default=0.0,
    show_default=True,
    type=click.FloatRange(0),
    metavar="PIXELS",
    help="Pixels of the 1024x1024 original by which a map's maximum may miss a box.",
)
@weights_option
@engine_option
@click.option("--out", metavar="FOLDER", help="Where to; by default the run's own folder.")
@json_option
def command(run, boxes, as_json, **options) -> None:  # fmt: skip
    """Score where the maps lie against the radiologists' boxes, beside three baselines.

    The pointing game, energy inside the box, and boxes found at IoBB and IoU of at least T (Wang et al. 2017), each
    with the share of boxes and a 95 % interval over patients; a random map, a centre prior and the mean box of the
    label (of other patients) stand beside them. Writes localize.json, and a figure with its CSV.

    \b
    Example:
      cxrfeat localize --run runs/sample --boxes BBox_List_2017.csv
      cxrfeat localize --tune-on val --json
    """
    from cxrfeat._report.localization import score_run
    from cxrfeat._run import Run

    opened = Run.open(run_path(run))
    with progress_bar("scoring") as progress:
        result = score_run(opened, boxes, progress=progress, **options)
    if as_json:
        print_json(result)
    else:
        _print(result)
    for label, count in result["unknown"].items():
        say(f"error: {count} boxes of {label} were not scored: the head has no such label. The others were.")
    for image_id, sentence in result["failed"].items():
        say(f"error: {image_id}: {sentence}")
    if result["failed"] or result["unknown"]:
        raise click.exceptions.Exit(2)


def _print(result) -> None:
    rows = []
    for row in result["rows"]:
        p = row["pointing"]
        cells = {"label": row["label"], "by": row["kind"], "boxes": row["boxes"]}
        cells |= {"pointing": p["value"], "95 %": _interval(p)}
        rows.append(cells | {title: row[name]["value"] for name, title in COLUMNS.items()})
    print_table(rows, title=f"{result['about']}, {result['method']}, split {result['split']}", digits=2)
    say(
        f"{result['boxes']} boxes in {result['images']} images of {result['patients']} patients; cut at "
        f"{result['cut']:g} of the maximum, {result['cut_how']}; {result['empty_maps']} maps are empty."
    )
    for reason, count in result["left_out"].items():
        say(f"left out: {count} boxes, {reason}.")
    say(result["note"])
    if result["random"]:
        say("The backbone's weights are random: this is a check of the method, not a result.")
    say("written: " + ", ".join(result["files"]))


def _interval(measure) -> str:
    if measure["low"] != measure["low"]:
        return "-"
    return f"{measure['low']:.2f}-{measure['high']:.2f}"
