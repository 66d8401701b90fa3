"""`cxrfeat weights`: what is there, and how to get it."""

from __future__ import annotations

from dataclasses import asdict

import click

import cxrfeat as cxr

from .base import Group
from .options import WEIGHTS_NAME, OneOf, given, input_options
from .output import ended, json_option, print_json, print_table, say, watched

LAYOUT = OneOf("cxrfeat._backbones.checkpoints.layouts:LAYOUTS")
WEIGHTS = ("weights", "backbone", "state", "trained_on", "licence", "MB")
NETWORKS = ("backbone", "weights", "size", "MB", "state", "network")


@click.group("weights", cls=Group)
def command() -> None:
    """List, fetch, import, check, remove and pack backbone weights; list and remove the networks kept of them.

    \b
    Example:
      cxrfeat weights ls
      cxrfeat weights fetch densenet121
      cxrfeat weights import model.pth.tar --as chexnet --layout chexnet-weng
      cxrfeat weights pack -o weights.zip
    """


@command.command("ls")
@click.option("--here", is_flag=True, help="Only what is on this machine.")
@json_option
def ls(here: bool, as_json: bool) -> None:
    """List all weights that are known: imported ones, official ones, and published ones that can be fetched.

    \b
    Example:
      cxrfeat weights ls --here
    """
    _rows((cxr.weights.verify() if here else cxr.weights.ls()).to_dict("records"), as_json)


@command.command("fetch")
@click.argument("name", type=WEIGHTS_NAME)
def fetch(name: str) -> None:
    """Download the official ImageNet weights of the backbone NAME, or the published weights NAME, and check them.

    An interrupted download goes on where it stopped. CXRFEAT_MIRROR names a folder or URL to take files from.

    \b
    Example:
      cxrfeat weights fetch resnet50
      cxrfeat weights fetch xrv-nih
    """
    click.echo(watched("fetch", cxr.weights.fetch, name, unit="bytes"))


@command.command("verify")
@click.argument("names", nargs=-1, type=WEIGHTS_NAME)
@json_option
def verify(names: tuple[str, ...], as_json: bool) -> None:
    """Check weights against their hashes, by default all that are here; exits with 1 if one is damaged or missing.

    \b
    Example:
      cxrfeat weights verify
      cxrfeat weights verify densenet121
    """
    rows: list = cxr.weights.verify(names).to_dict("records")
    _rows(rows, as_json)
    if any(not row["usable"] for row in rows):
        raise SystemExit(1)


@command.command("where")
@click.argument("name", type=WEIGHTS_NAME)
def where(name: str) -> None:
    """Print the file or folder of the weights NAME, also where they are missing.

    \b
    Example:
      cxrfeat weights where densenet121
    """
    click.echo(cxr.weights.where(name))


@command.command("remove")
@click.argument("name", type=WEIGHTS_NAME)
@click.option("--dry-run/--yes", default=True, help="Only say what it is, or remove it.")
def remove(name: str, dry_run: bool) -> None:
    """Remove the weights NAME from this machine, with the networks that are kept of them.

    \b
    Example:
      cxrfeat weights remove chexnet --yes
    """
    if dry_run:
        click.echo(cxr.weights.where(name))
        say("nothing was removed; --yes removes it.")
        return
    for path in cxr.weights.remove(name):
        click.echo(path)


@command.command("pack")
@click.argument("names", nargs=-1, type=WEIGHTS_NAME)
@click.option("-o", "--out", required=True, metavar="FILE", help="The archive, a .zip.")
@click.option("--overwrite", is_flag=True, help="Replace a file of another kind.")
def pack(names: tuple[str, ...], out: str, overwrite: bool) -> None:
    """Write one file with all that a machine without internet needs, by default of all weights that are here.

    Weights, what is known of them, hashes, and the networks exported of them.

    \b
    Example:
      cxrfeat weights pack -o weights.zip
      cxrfeat weights pack densenet121 chexnet -o weights.zip
    """
    found = watched("pack", cxr.weights.pack, out, names, unit="bytes", overwrite=overwrite)
    ended(out, f"{len(found)} files.", f"cxrfeat weights unpack {out}")


@command.command("unpack")
@click.argument("file", type=click.Path(dir_okay=False))
@click.option("--overwrite", is_flag=True, help="Replace other files of the same names.")
def unpack(file: str, overwrite: bool) -> None:
    """Put the weights of a `pack` FILE where they belong, each after its hash was checked.

    \b
    Example:
      cxrfeat weights unpack weights.zip
    """
    found = watched("unpack", cxr.weights.unpack, file, unit="bytes", overwrite=overwrite)
    say(f"{len(found)} files are in their places.")


@command.command("import")
@click.argument("file", type=click.Path())
@click.option("--as", "name", required=True, metavar="NAME", help="What to call the weights.")
@click.option("--layout", type=LAYOUT, help="Whose checkpoint it is.  [default: recognised]")
@click.option("--label", "labels", multiple=True, metavar="LABEL", help="An output's name, in order; - leaves it out.")
@click.option("--with-head", is_flag=True, help="Also make a run of the checkpoint's classifier.")
@click.option("--run", metavar="RUN", help="Folder of that run.  [default: runs/NAME]")
@click.option("--layer", metavar="NAME", help="Of an ONNX network or Keras model: the tensor or layer to embed.")
@click.option("--tokens", type=click.Choice(["class", "mean"]), help="Of a layer of tokens: which of them to embed.")
@input_options("the layout's")
@click.option(
    "--seen", multiple=True, metavar="WHAT",
    help="Images seen in training: DATASET, DATASET=train, test or all, or a file of image ids or hashes.",
)  # fmt: skip
@click.option("--trained-on", metavar="TEXT", help="What tables say of it.")
@click.option("--licence", metavar="TEXT", help="Licence of the weights.")
@click.option("--overwrite", is_flag=True, help="Replace other weights, or a run, of the same name.")
@json_option
def import_(as_json: bool, **options) -> None:
    """Import the weights of a PyTorch, safetensors or Keras FILE, so that --weights NAME names them.

    Nothing in FILE is run. Its layout says how images were prepared and what its outputs mean; it is recognised where
    the file says it. An ONNX network, or a Keras model up to a --layer, becomes a backbone: --backbone NAME. Without
    --layer its candidates are listed.

    \b
    Example:
      cxrfeat weights import nih-densenet121-d121-tw-lr001-rot45-tr15-sc15-seed0-best.pt --as xrv-nih --with-head
      cxrfeat weights import model.pth.tar --as chexnet --layout chexnet-weng
      cxrfeat weights import rad-dino.onnx --as rad-dino --tokens mean --size 518 --preprocessing rad-dino
    """
    found = cxr.import_weights(**given(options))
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
    _show(cxr.weights.networks(), as_json, "kept")


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
    _show(cxr.weights.prune(backbone), as_json, "removed")


def _rows(rows: list, as_json: bool, columns: tuple[str, ...] = WEIGHTS) -> None:
    if as_json:
        return print_json(rows)
    shown = [{**row, "MB": row["bytes"] / 1e6 if row["bytes"] else None} for row in rows]
    print_table(shown, columns=columns, digits=1)


def _show(table, as_json: bool, what: str) -> None:
    rows = table.to_dict("records")
    if rows or as_json:
        _rows(rows, as_json, NETWORKS)
    if not as_json:
        say(f"{len(rows)} networks {what}, {sum(row['bytes'] for row in rows) / 1e6:,.1f} MB.")
