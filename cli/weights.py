"""`cxrfeat weights`: what is there, and how to get it."""

from __future__ import annotations

import click

from .base import Group
from .output import json_option, print_json, print_table, progress_bar, say


@click.group("weights", cls=Group)
def command() -> None:
    """List and fetch backbone weights; list and remove the networks kept of them.

    \b
    Example:
      cxrfeat weights ls
      cxrfeat weights fetch densenet121
      cxrfeat weights networks
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


@command.command("networks")
@json_option
def networks(as_json: bool) -> None:
    """List the networks that are kept in the cache folder, so that an extraction starts without TensorFlow.

    \b
    Example:
      cxrfeat weights networks
    """
    from cxrfeat import weights

    _show(weights.networks(), as_json, "kept")


@command.command("prune")
@click.argument("backbone", required=False)
@json_option
def prune(backbone: str | None, as_json: bool) -> None:
    """Remove the kept networks, or those of BACKBONE. Each is made again when it is needed, in about 20 s.

    \b
    Example:
      cxrfeat weights prune
      cxrfeat weights prune resnet50
    """
    from cxrfeat import weights

    _show(weights.prune(backbone), as_json, "removed")


def _show(table, as_json: bool, what: str) -> None:
    rows = table.to_dict("records")
    if as_json:
        print_json(rows)
        return
    if rows:
        shown = [{**row, "MB": row["bytes"] / 1e6} for row in rows]
        print_table(shown, columns=["backbone", "weights", "size", "MB", "state", "network"], digits=1)
    say(f"{len(rows)} networks {what}, {sum(row['bytes'] for row in rows) / 1e6:,.1f} MB.")
