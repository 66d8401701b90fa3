"""`cxrfeat weights`: what is there, and how to get it."""

from __future__ import annotations

from dataclasses import asdict

import click

from .base import Group
from .options import OneOf
from .output import ended, json_option, print_json, print_table, progress_bar, say

LAYOUT = OneOf("cxrfeat._backbones.checkpoints.layouts:LAYOUTS")


@click.group("weights", cls=Group)
def command() -> None:
    """List, fetch and import backbone weights; list and remove the networks kept of them.

    \b
    Example:
      cxrfeat weights ls
      cxrfeat weights fetch densenet121
      cxrfeat weights import model.pth.tar --as chexnet --layout chexnet-weng
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


@command.command("import")
@click.argument("file", type=click.Path())
@click.option("--as", "name", required=True, metavar="NAME", help="What to call the weights.")
@click.option("--layout", type=LAYOUT, help="Whose checkpoint it is.  [default: recognised]")
@click.option("--label", "labels", multiple=True, metavar="LABEL", help="An output's name, in order; '' leaves it out.")
@click.option("--with-head", is_flag=True, help="Also make a run of the checkpoint's classifier.")
@click.option("--run", metavar="RUN", help="Folder of that run.  [default: runs/NAME]")
@click.option("--overwrite", is_flag=True, help="Replace other weights, or a run, of the same name.")
@json_option
def import_(labels: tuple[str, ...], as_json: bool, **options) -> None:
    """Import the weights of a PyTorch, safetensors or Keras FILE, so that --weights NAME names them.

    Nothing in FILE is run. Its layout says how images were prepared and what its outputs mean; it is recognised where
    the file says it.

    \b
    Example:
      cxrfeat weights import nih-densenet121-d121-tw-lr001-rot45-tr15-sc15-seed0-best.pt --as xrv-nih --with-head
      cxrfeat weights import model.pth.tar --as chexnet --layout chexnet-weng
    """
    import cxrfeat as cxr

    found = cxr.import_weights(labels=labels or None, **options)
    if as_json:
        print_json({**asdict(found.card), "run": found.run and str(found.run.path)})
        return
    hint = f"cxrfeat predict --run {found.run.path} --study STUDY" if found.run else ""
    ended(found.run.path if found.run else found.card.path, found.card.describe() + ".", hint)


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
