"""Options that several commands share; their choices come from the registries when they are needed."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce, wraps
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import click
from click.shell_completion import CompletionItem

from .output import json_option

SHOWN = 12
"""Choices that a help text has room for."""
SEED = click.IntRange(0, 2**32 - 1)
STUDY = "A study file, a name under studies/, or `sample`"


class PathOrAddress(click.Path):
    """A path, or an address such as `s3://bucket/file`; where a command takes a plain path, an address is refused."""


class Named(click.ParamType):
    """A text that the shell completes with names, or else with files.

    Names are what a function returns, or what `module:attribute` has: a registry, a mapping or a sequence, imported on
    use.
    """

    name = "text"

    def __init__(self, names: Callable[[], list[str]] | str) -> None:
        self.names = names

    @property
    def found(self) -> Any:
        return resolve_name(self.names) if isinstance(self.names, str) else self.names()

    @property
    def choices(self) -> list[str]:
        return list(getattr(self.found, "names", self.found))

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        fitting = [CompletionItem(name) for name in self.choices if name.startswith(incomplete)]
        return fitting or [CompletionItem(incomplete, type="file")]


class OneOf(Named):
    """One of the names, and no other text."""

    name = "choice"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value not in (choices := self.choices):
            what = param.name if param else self.name
            self.fail(f"unknown {what} {value!r}; choose one of {', '.join(choices)}.", param, ctx)
        return value

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        shown = self.choices
        if len(shown) > SHOWN:
            shown = [*shown[:3], "...", *getattr(self.found, "others", ())]
        return f"[{'|'.join(shown)}]"


def _runs() -> list[str]:
    newest = sorted(Path("runs").glob("[!.]*/head.json"), key=lambda path: -path.stat().st_mtime)
    return [path.parent.name for path in newest]


def _studies() -> list[Path]:
    return [path for ending in ("csv", "parquet") for path in Path("studies").glob(f"*.{ending}")]


STUDY_NAME = Named(lambda: [*sorted(path.stem for path in _studies()), "sample"])
RUN_NAME, HEAD_NAME = Named(_runs), Named("cxrfeat._heads.registry:HEADS")
LABEL_NAME, WEIGHTS_NAME = Named("cxrfeat._labels:NIH_LABELS"), Named("cxrfeat._backbones.registry:BACKBONES")
BACKBONE = OneOf("cxrfeat._backbones.registry:BACKBONES")
DATASET = OneOf("cxrfeat._datasets.dataset:DATASETS")
ENGINE = OneOf("cxrfeat._backbones.registry:ENGINES")
PREPROCESSING = OneOf("cxrfeat._images.choices:NORMALISATION")
INPUT: tuple[tuple[str, click.ParamType, str], ...] = (
    ("--size", click.IntRange(1), "Side of the input, pixels."),
    ("--preprocessing", PREPROCESSING, "Normalisation."),
    ("--geometry", OneOf("cxrfeat._images.choices:GEOMETRIES"), "How an oblong film becomes a square."),
    ("--resize", click.IntRange(0), "Resize the shorter side (crop) or the longer (pad) to this, then cut or pad."),
    ("--interpolation", OneOf("cxrfeat._images.choices:FILTERS"), "Filter of resizing."),
)


def all_of(*options: Callable) -> Callable:
    """One decorator for several options, in their order."""
    return lambda command: reduce(lambda made, option: option(made), reversed(options), command)


def study_argument(command: Callable) -> Callable:
    """The study, as STUDY or as `--study STUDY`, so that what is right for one command is right for all."""

    @click.argument("study", required=False, type=STUDY_NAME)
    @click.option(
        "--study", "named", metavar="STUDY", type=STUDY_NAME, help=f"{STUDY}: the same as STUDY. Default: the only one."
    )
    @wraps(command)
    def taking(study: str | None, named: str | None, **options: object) -> object:
        if study and named and study != named:
            raise click.UsageError(f"two studies are named: {study} and, by --study, {named}. Give one.")
        return command(study=study or named, **options)

    return taking


def given(options: dict[str, Any]) -> dict[str, Any]:
    """Options that the user gave; the library has the defaults, for lists too."""
    return {name: value for name, value in options.items() if value not in (None, ())}


run_option = click.option("--run", metavar="RUN", type=RUN_NAME, help="Run folder. Default: the newest under runs/.")
replicates_option = click.option(
    "--bootstrap", "replicates", default=2000, type=click.IntRange(0, 1_000_000),
    help="Replicates of the bootstrap over patients; 0 leaves it out.",
)  # fmt: skip
scoring_options = all_of(
    click.option("--split", default="test", help="Which images."),
    replicates_option,
    click.option("--seed", type=SEED, default=0, help="Of the bootstrap."),
    click.option(
        "--allow-contaminated", is_flag=True, help="Evaluate a split that was used in fitting; every output says so."
    ),
)
by_option = click.option(
    "--by", multiple=True, metavar="COLUMN",
    help="Group by view, sex, age, images_per_patient or any column of the study; may be repeated. Default: view.",
)  # fmt: skip
shortcuts_option = click.option(
    "--shortcuts/--no-shortcuts", default=True, help="Show what size, format, brightness and view alone score."
)
engine_option = click.option("--engine", type=ENGINE, default="auto", help="What runs the network.")
network_options = all_of(
    click.option(
        "--weights", multiple=True, metavar="PATH",
        help="Where the backbone's weights file is now; one per backbone, in order.",
    ),
    engine_option,
)  # fmt: skip
maps_options = all_of(
    click.option(
        "--method", default="auto",
        type=click.Choice(["auto", "cam", "gradcam", "gradcam++", "hirescam", "paper"]),
        help="How maps are computed; auto: the closed form for linear heads, Grad-CAM for others.",
    ),
    click.option(
        "--smooth", default=0, metavar="K", type=click.IntRange(0, 1000),
        help="Average the maps over K augmented renderings, warped back.",
    ),
    network_options,
)  # fmt: skip


def format_option(command: Callable) -> Callable:
    """`--format`, and `--json` for `--format json`."""

    @click.option(
        "--format", "kind", type=click.Choice(["table", "csv", "json", "latex", "markdown"]), default="table",
        help="Of the output.",
    )  # fmt: skip
    @json_option
    @wraps(command)
    def taking(kind: str, as_json: bool, **options: object) -> object:
        return command(kind="json" if as_json else kind, **options)

    return taking


def input_options(default: str) -> Callable:
    """How an image becomes the network's input."""
    return all_of(*(click.option(name, type=kind, help=f"{text}  [default: {default}]") for name, kind, text in INPUT))
