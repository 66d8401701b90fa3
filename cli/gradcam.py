"""`cxrfeat gradcam` and `localize`: panels and raw maps of images, and maps against the radiologists' boxes."""

from __future__ import annotations

import click

import cxrfeat as cxr

from .base import Command
from .options import maps_options, run_option
from .output import ended, json_option, print_json, print_table, say, watched


@click.command("gradcam", cls=Command, interrupted="The images made so far are kept; the same command resumes.")
@click.argument("images", nargs=-1)
@run_option
@click.option("--labels", help="Findings to draw, comma-separated; by default the most probable of each image.")
@click.option("--top", default=4, type=click.IntRange(1), help="How many of the most probable.")
@click.option(
    "--show", type=click.Choice(["tp", "fp", "fn"]),
    help="True positives, false positives or false negatives of --labels (or of all), the clearest first.",
)  # fmt: skip
@click.option("--split", default="test", help="Split that --show, and --all, choose from.")
@click.option(
    "--limit", default=4, type=click.IntRange(1),
    help="Images per label named with --show; without labels, images in all.",
)  # fmt: skip
@click.option("--all", "whole", is_flag=True, help="Every image of --split.")
@click.option(
    "--scale", default="image", type=click.Choice(["image", "label"]),
    help="One colour scale for all maps of an image, or one for each map.",
)  # fmt: skip
@click.option("--boxes", metavar="CSV", help="Box list to draw; by default that of the study's dataset.")
@click.option("--grid", is_flag=True, help="Also draw all images together, six to a page.")
@click.option(
    "--sanity", is_flag=True, help="Instead: randomise head and backbone step by step, and measure how maps change."
)
@maps_options
@click.option("--out", metavar="FOLDER", help="Where to; by default figures/gradcam in the run.")
@json_option
def gradcam(images, run, labels, sanity, out, as_json, **options) -> None:
    """Draw where in the image the evidence for a finding lies, as panels (PNG) and raw maps (.npz).

    IMAGES are files, of any study or none, or image ids of the run's study. Without any, the clearest true positives
    of the test split are drawn. Images that are there already, made in the same way, are not explained again. If an
    image cannot be explained, or the head does not have a label, the others are drawn and the exit code is 2.

    \b
    Example:
      cxrfeat gradcam film.png 00000013_005.png
      cxrfeat gradcam --show fn --labels Effusion,Mass --limit 8 --grid
      cxrfeat gradcam --all --split test --out maps/
    """
    names = [name.strip() for name in (labels or "").split(",") if name.strip()]
    if sanity:
        return _sanity(run, images, names, out, as_json, options)
    done = watched("explaining", cxr.explain, run, images, names, out=out or True, **options)
    if as_json:
        print_json(
            {"folder": done.folder, "images": done.rows, "grids": done.pages, "empty_maps": done.empty,
             "failed": done.failed}
        )  # fmt: skip
    else:
        _print_maps(done)
    if done.unknown or done.failed:
        raise click.exceptions.Exit(2)


def _print_maps(done) -> None:
    rows = [
        {
            "image": row["image_id"],
            "findings": ", ".join(f"{n} {p:.3f}" for n, p in zip(row["labels"], row["probabilities"], strict=True)),
            "empty maps": f"{row['empty']} of {row['of']}",
            "figure": row["figure"],
        }
        for row in done.rows[:20]
    ]
    if rows:
        print_table(rows)
    if len(done.rows) > 20:
        say(f"and {len(done.rows) - 20} more")
    for page in done.pages:
        say(f"grid: {page}")
    resumed = sum(row["resumed"] for row in done.rows)
    failed = f"; {len(done.failed)} could not be explained" if done.failed else ""
    earlier = f" ({resumed} of them made earlier)" if resumed else ""
    summary = f"{len(done)} images{earlier}{failed}; {done.empty_sentence()}."
    ended(done.folder, summary, "cxrfeat report") if done.rows else say(f"error: nothing was drawn{failed}.")


def _sanity(run, images, labels, out, as_json: bool, options) -> None:
    taken = {key: options[key] for key in ("show", "whole", "split", "limit", "method", "weights")}
    found = watched("randomising", cxr.sanity_check, run, images, labels, unit="steps", **taken)
    figure, steps = found.save(out)[0], found.to_frame().to_dict("records")
    if as_json:
        return print_json(
            {"steps": steps, "verdict": found.verdict, "images": found.images, "maps": found.rank.shape[1],
             "method": found.method, "random": found.run.random, "figure": figure}
        )  # fmt: skip
    print_table(steps, title=f"Similarity of the maps to the trained ones, {found.images} images")
    say(found.verdict)
    say(f"figure: {figure}")


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
def localize(run, boxes, out, as_json, **options) -> None:
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
    found = watched("scoring", cxr.localize, run, boxes, **options)
    written = found.save(out)
    if as_json:
        print_json({**found.to_dict(), "files": written})
    else:
        _print_scores(found, written)
    if found.failed or found.unknown:
        raise click.exceptions.Exit(2)


def _print_scores(found, written) -> None:
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
