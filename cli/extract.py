"""`cxrfeat extract`: stage one."""

from __future__ import annotations

from dataclasses import asdict

import click

from cxrfeat import _project as project

from .base import Command, UserError
from .options import study_argument
from .output import json_option, print_json, progress_bar, say, stopped


@click.command("extract", cls=Command)
@study_argument
@click.option(
    "-o",
    "--out",
    type=click.Path(dir_okay=False),
    help="The embedding file. [default: cache/<study>-<backbone>-<recipe>.h5]",
)
@click.option("-b", "--backbone", default="densenet121", show_default=True, help="densenet121 or resnet50.")
@click.option(
    "-w",
    "--weights",
    default="auto",
    show_default=True,
    help="imagenet, random:SEED, a .h5 file, or auto: imagenet, else (on the sample alone) random:0.",
)
@click.option(
    "-p", "--passes", default=0, show_default=True, type=click.IntRange(0), help="Augmented passes beside pass 0."
)
@click.option(
    "--size", default=224, show_default=True, type=click.IntRange(32), help="Side of the network's input, pixels."
)
@click.option("--policy", default="mild", show_default=True, help="Augmentation policy: mild (no mirror) or paper.")
@click.option("--seed", default=0, show_default=True, help="Seed of the augmentation draws.")
@click.option("--preprocessing", type=click.Choice(["torch", "caffe", "unit"]), help="[default: the backbone's own]")
@click.option("--interpolation", default="area", show_default=True, type=click.Choice(["area", "linear", "cubic"]))
@click.option(
    "--engine",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", "openvino", "tensorflow"]),
    help="auto: TensorFlow where it sees a GPU, elsewhere OpenVINO.",
)
@click.option(
    "--precision",
    default="float32",
    show_default=True,
    type=click.Choice(["float32", "mixed"]),
    help="mixed: float16 inside, on a GPU.",
)
@click.option(
    "--max-failures",
    type=click.IntRange(0),
    help="Exit 2 if more images than this cannot be used. [default: 5 % of the study]",
)
@click.option("--workers", type=click.IntRange(1), help="Threads. [default: what keeps this machine busy]")
@json_option
def command(study: str | None, as_json: bool, **options) -> None:
    """Run a frozen backbone over a study and cache its embeddings.

    STUDY is a study file, a name under studies/, or `sample`; by default the only one there is. A run that was
    interrupted goes on where it stopped, and one that is finished is not repeated.

    \b
    Example:
      cxrfeat extract sample --passes 2
      cxrfeat extract studies/nih.csv --backbone resnet50 --size 400
    """
    from cxrfeat import read_study
    from cxrfeat._extract import extract

    found = read_study(study)
    try:
        with progress_bar("extract") as progress:
            result = extract(found, options.pop("out"), **options, cache=project.CACHE, progress=progress, tell=say)
    except KeyboardInterrupt:
        raise stopped("stopped; what was embedded is kept, and the same command goes on from there.") from None
    _report(result)
    if as_json:
        print_json(_as_json(result))
    else:
        click.echo(result.path)
    if result.too_many_failures:
        raise UserError(
            f"{len(result.failed)} images could not be used, more than the {result.max_failures} allowed; the others "
            f"are in {result.path}. `cxrfeat cache info {result.path}` lists them."
        )


def _as_json(result) -> dict:
    return {
        "path": result.path,
        "recipe": asdict(result.recipe),
        "recipe_sha256": result.recipe.sha256,
        "images": result.images,
        "extracted": result.extracted,
        "kept": result.kept,
        "changed": result.changed,
        "gone": result.gone,
        "failed": result.failed,
        "engine": result.engine,
        "wall_seconds": result.wall,
        "images_per_second": result.rate,
        "worker_seconds": asdict(result.seconds),
        "workers": result.workers,
    }


def _report(result) -> None:
    for note in result.notes:
        say(note)
    say(f"{result.recipe.describe()}")
    if not result.extracted:
        say(f"nothing to do: {result.kept:,} images are embedded already.")
    else:
        kept = f", {result.kept:,} kept" if result.kept else ""
        changed = f", {len(result.changed):,} of them because their files changed" if result.changed else ""
        say(f"{result.extracted:,} images embedded{changed}{kept}; {result.rate:.1f} images/s with {result.engine}.")
        say(_where_time_went(result))
    if result.gone:
        say(f"{result.gone:,} images are no longer on disk; their embeddings are kept.")
    for image_id, reason in list(result.failed.items())[:10]:
        say(f"  could not be used: {image_id} {reason}")
    if len(result.failed) > 10:
        say(f"  and {len(result.failed) - 10} more; `cxrfeat cache info` lists them.")


def _where_time_went(result) -> str:
    seconds = asdict(result.seconds)
    # There is one worker more than can be at work, so one always waits: only waiting beyond that tells of a bottleneck.
    seconds["wait"] = max(0.0, seconds["wait"] - sum(seconds.values()) / result.workers)
    total = sum(seconds.values()) or 1.0
    return f"time went to: {', '.join(f'{name} {value / total:.0%}' for name, value in seconds.items())}."
