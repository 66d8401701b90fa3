"""`cxrfeat weights`: what is there, and how to get it."""

from __future__ import annotations

import click

from .base import Group
from .output import json_option, print_json, print_table, progress_bar


@click.group("weights", cls=Group)
def command() -> None:
    """List and fetch backbone weights.

    \b
    Example:
      cxrfeat weights ls
      cxrfeat weights fetch densenet121
    """


@command.command("ls")
@json_option
def ls(as_json: bool) -> None:
    """List the official ImageNet weights: which are here and undamaged.

    \b
    Example:
      cxrfeat weights ls
    """
    from cxrfeat import weights

    rows: list = weights.ls().to_dict("records")
    print_json(rows) if as_json else print_table(rows, columns=["backbone", "weights", "state", "file", "folder"])


@command.command("fetch")
@click.argument("backbone")
def fetch(backbone: str) -> None:
    """Download the official ImageNet weights of BACKBONE into Keras's own folder, and check them.

    \b
    Example:
      cxrfeat weights fetch resnet50
    """
    from cxrfeat import weights

    with progress_bar("fetch") as progress:
        path = weights.fetch(backbone, progress=progress)
    click.echo(path)
