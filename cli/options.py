"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

import click

STUDY = "A study file, a name under studies/, or `sample`"


def study_argument(command: Callable) -> Callable:
    """The study, as STUDY or as `--study STUDY`, so that what is right for one command is right for all."""

    @click.argument("study", required=False)
    @click.option("--study", "named", metavar="STUDY", help=f"{STUDY}: the same as STUDY. Default: the only one.")
    @wraps(command)
    def taking(study: str | None, named: str | None, **options: object) -> object:
        if study and named and study != named:
            raise click.UsageError(f"two studies are named: {study} and, by --study, {named}. Give one.")
        return command(study=study or named, **options)

    return taking


run_option = click.option("--run", "run", metavar="RUN", help="Run folder. Default: the newest under runs/.")
split_option = click.option("--split", default="test", show_default=True, help="Which images.")
anyway_option = click.option(
    "--anyway", is_flag=True, help="Go on where the split was used in fitting; every output says so."
)
replicates_option = click.option(
    "--bootstrap",
    "replicates",
    default=2000,
    show_default=True,
    type=click.IntRange(0),
    help="Replicates of the bootstrap over patients; 0 leaves it out.",
)
seed_option = click.option("--seed", default=0, show_default=True, help="Of the bootstrap.")
format_option = click.option(
    "--format",
    "kind",
    type=click.Choice(["table", "csv", "json", "latex", "markdown"]),
    default="table",
    show_default=True,
    help="What is printed.",
)
method_option = click.option(
    "--method",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", "cam", "gradcam", "gradcam++", "hirescam", "paper"]),
    help="How maps are computed; auto: the closed form for linear heads, Grad-CAM for others.",
)
smooth_option = click.option(
    "--smooth",
    default=0,
    show_default=True,
    metavar="K",
    type=click.IntRange(0),
    help="Average the maps over K augmented renderings, warped back.",
)
weights_option = click.option(
    "--weights",
    multiple=True,
    metavar="PATH",
    help="Where the backbone's weights file lies now; one per backbone, in order.",
)
engine_option = click.option("--engine", default="auto", show_default=True, help="auto, openvino or tensorflow.")
