"""`cxrfeat gradcam`: panels and raw maps of images."""

from __future__ import annotations

import click

from cxrfeat._project import run_path

from .base import Command
from .options import engine_option, method_option, run_option, smooth_option, weights_option
from .output import json_option, print_json, print_table, progress_bar, say, stopped


@click.command("gradcam", cls=Command, short_help="Draw where in the image the evidence for a finding lies.")
@click.argument("images", nargs=-1)
@run_option
@click.option("--labels", help="Findings to draw, comma-separated; by default the most probable of each image.")
@click.option("--top", default=4, show_default=True, type=click.IntRange(1), help="How many of the most probable.")
@click.option(
    "--show",
    type=click.Choice(["tp", "fp", "fn"]),
    help="True positives, false positives or false negatives of --labels (or of all), the clearest first.",
)
@click.option("--split", default="test", show_default=True, help="Split that --show, and --all, choose from.")
@click.option(
    "--limit",
    default=4,
    show_default=True,
    type=click.IntRange(1),
    help="Images per label named with --show; without labels, images in all.",
)
@click.option("--all", "whole", is_flag=True, help="Every image of --split.")
@method_option
@click.option(
    "--scale",
    "per",
    default="image",
    show_default=True,
    type=click.Choice(["image", "label"]),
    help="One colour scale for all maps of an image, or one for each map.",
)
@smooth_option
@click.option("--boxes", metavar="CSV", help="Box list to draw; by default the one beside the study's images, if any.")
@click.option("--grid", is_flag=True, help="Also draw all images together, six to a page.")
@click.option(
    "--sanity",
    is_flag=True,
    help="Randomise head and backbone step by step, and tell how far the maps change (Adebayo et al. 2018).",
)
@weights_option
@engine_option
@click.option("--out", metavar="FOLDER", help="Where to; by default figures/gradcam in the run.")
@json_option
def command(images, run, labels, show, whole, sanity, boxes, as_json, **options) -> None:  # fmt: skip
    """Draw where in the image the evidence for a finding lies, as panels (PNG) and raw maps (.npz).

    IMAGES are files, of any study or none, or image ids of the run's study. Without any, the clearest true positives
    of the test split are drawn. An image that cannot be explained, or a label that the head has not, is told at the
    end, and the exit code is then 2.

    \b
    Example:
      cxrfeat gradcam film.png 00000013_005.png
      cxrfeat gradcam --show fn --labels Effusion,Mass --limit 8 --grid
      cxrfeat gradcam --all --split test --out maps/
    """
    from cxrfeat._labels import choose_known
    from cxrfeat._report import gallery
    from cxrfeat._run import Run

    opened = Run.open(run_path(run))
    wanted = [name.strip() for name in (labels or "").split(",") if name.strip()]
    named, strange = choose_known(wanted, opened.labels)
    targets = gallery.choose_targets(opened, images, show, whole, named, options["split"], options["limit"], boxes)
    if sanity:
        return _sanity(opened, targets, named, as_json, options)
    style = gallery.Style(named, options["top"], options["per"], options["grid"])
    made = {key: options[key] for key in ("method", "weights", "engine", "smooth")}
    try:
        with progress_bar("explaining") as progress:
            done = gallery.make(opened, targets, options["out"], style, progress=progress, **made)
    except KeyboardInterrupt:
        raise stopped("stopped; the images made so far are kept, and the same command goes on from there.") from None
    _print(done, as_json)
    for sentence in [*strange, *(f"{image_id}: {sentence}" for image_id, sentence in done.failed.items())]:
        say(f"error: {sentence}")
    if strange or done.failed:
        raise click.exceptions.Exit(2)


def _print(done, as_json: bool) -> None:
    summary = {"folder": str(done.folder), "images": done.rows, "grids": [str(page) for page in done.pages]}
    if as_json:
        return print_json({**summary, "maps": done.maps, "empty_maps": done.empty, "failed": done.failed})
    rows = [
        {
            "image": row["image_id"],
            "findings": ", ".join(
                f"{label} {p:.3f}" for label, p in zip(row["labels"], row["probabilities"], strict=True)
            ),
            "empty maps": f"{row['empty']} of {row['of']}",
            "figure": row["figure"],
        }
        for row in done.rows[:20]
    ]
    if rows:
        print_table(rows)
    if len(done.rows) > 20:
        say(f"and {len(done.rows) - 20} more in {done.folder}")
    for page in done.pages:
        say(f"grid: {page}")
    resumed = sum(row["resumed"] for row in done.rows)
    say(
        f"{len(done.rows)} images in {done.folder}" + (f" ({resumed} were there already)" if resumed else "")
        + f"; {done.empty} of {done.maps} maps have no positive cell."
    )  # fmt: skip


def _sanity(run, targets, labels, as_json: bool, options) -> None:
    from cxrfeat._report.sanity_plot import sanity_figure

    with progress_bar("randomising", unit="steps") as progress:
        result = sanity_figure(run, targets, labels, options["method"], options["weights"], options["out"], progress)
    if as_json:
        return print_json(result)
    print_table(result["steps"], title=f"Similarity of the maps to the trained ones, {result['images']} images")
    say(result["verdict"])
    say(f"figure: {result['figure']}")
