"""`cxrfeat localize`: maps against the radiologists' boxes."""

from __future__ import annotations

import click

import cxrfeat as cxr

from .base import Command
from .options import maps_options, run_option
from .output import ended, json_option, print_json, print_table, progress_bar, say


@click.command("localize", cls=Command, short_help="Score maps against the radiologists' boxes.")
@run_option
@click.option("--boxes", metavar="CSV", help="Box list; by default that of the study's dataset.")
@click.option("--split", default="test", help="Split whose boxed images are scored.")
@click.option(
    "--cut", default=0.5, type=float, help="Fraction of a map's maximum above which a pixel belongs to a found box."
)
@click.option("--tune-on", metavar="SPLIT", help="Choose the cut on the boxes of this other split instead.")
@click.option(
    "--tolerance", default=0.0, type=click.FloatRange(0), metavar="PIXELS",
    help="Pixels of the original by which a map's maximum may miss a box.",
)  # fmt: skip
@maps_options
@click.option("--out", metavar="FOLDER", help="Where to; by default the run's own folder.")
@json_option
def command(run, boxes, out, as_json, **options) -> None:
    """Score where the maps lie against the radiologists' boxes, beside three baselines.

    The pointing game, energy inside the box, and boxes found at IoBB and IoU of at least T (Wang et al. 2017), each
    with a 95 % interval over patients. A random map, a centre prior and the mean box of the label (of other patients)
    are scored on the same boxes. Writes localize.json, and a figure with its CSV. If boxes could not be scored, the
    exit code is 2.

    \b
    Example:
      cxrfeat localize --run runs/sample --boxes BBox_List_2017.csv
      cxrfeat localize --tune-on val --json
    """
    with progress_bar("scoring") as progress:
        found = cxr.localize(run, boxes, progress=progress, **options)
    written = found.save(out)
    if as_json:
        print_json({**found.to_dict(), "files": written})
    else:
        _print(found, written)
    if found.failed or found.unknown:
        raise click.exceptions.Exit(2)


def _print(found, written) -> None:
    print_table(found.to_read(), title=f"{found.about}, {found.method}, split {found.split}", digits=2)
    say(
        f"{found.boxes} boxes in {found.images} images of {found.patients} patients; cut at {found.cut:g} of the "
        f"maximum, {found.cut_how}; {found.empty_maps} maps are empty."
    )
    for reason, count in found.left_out.items():
        say(f"left out: {count} boxes, {reason}.")
    if found.borrowed:
        say(f"{found.borrowed} boxes are the only ones of their label: their mean box is that of all labels.")
    say(found.note)
    if found.random:
        say("The backbone's weights are random: this is a check of the method, not a result.")
    ended(written, then="cxrfeat report")
