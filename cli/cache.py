"""`cxrfeat cache`: list, check, repair, join and export embedding files."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Any

import click

import cxrfeat as cxr
from cxrfeat._project import CACHE, RUNS, STUDIES

from .base import Group
from .options import PREPROCESSING, SEED, STUDY, STUDY_NAME, PathOrAddress, format_option, replicates_option
from .output import json_option, print_json, print_result, print_table, say, watched

FILE, FILE_OR_FOLDER = click.Path(dir_okay=False), PathOrAddress()
SHOWN = 20  # ids printed before the rest is only counted


@click.group(cls=Group)
def command() -> None:
    """List, check, repair, join and export embedding files.

    \b
    Example:
      cxrfeat cache ls
      cxrfeat cache verify cache/nih-densenet121-1a2b3c4d.h5
    """


@command.command()
@click.argument("folder", type=click.Path(file_okay=False), default=str(CACHE))
@json_option
def ls(folder: str, as_json: bool) -> None:
    """List the embedding files in FOLDER (default: cache/), newest first.

    \b
    Example:
      cxrfeat cache ls
    """
    table = cxr.cache.ls(folder)
    rows = [{str(key): value for key, value in row.dropna().items()} for _, row in table.iterrows()]
    if as_json:
        print_json(rows)
    elif rows:
        print_table(rows, columns=["file", "images", "recipe", "passes", "failures", "dim", "bytes"])
        for row in rows:
            if "note" in row:
                click.echo(f"{row['file']}: {row['note']}")
    else:
        say(f"no embedding file in {folder}; `cxrfeat extract` makes one.")


@command.command()
@click.argument("file", type=FILE_OR_FOLDER, required=False)
@json_option
def info(file: str | None, as_json: bool) -> None:
    """Show what FILE (default: the newest in cache/) says of itself: recipe, provenance, failures.

    \b
    Example:
      cxrfeat cache info cache/nih-densenet121-1a2b3c4d.h5
    """
    found = cxr.cache.info(file)
    if as_json:
        print_json(found)
        return
    failures, earlier = found.pop("failures"), found["provenance"].pop("earlier", [])
    print_table([{"what": name, "value": str(value)} for name, value in found.facts().items()])
    if earlier:
        print_table(earlier, title="earlier sessions", columns=["created", "cxrfeat", "engine", "platform"])
    if failures:
        print_table(failures[:SHOWN], title=f"{len(failures):,} images could not be used")


@command.command()
@click.argument("file", type=FILE_OR_FOLDER, required=False)
@click.option("--images", type=click.Path(file_okay=False), help="Also look for image files under DIR that changed.")
@click.option("--study", metavar="STUDY", help=f"{STUDY}, to take the paths of the images from.")
@click.option("--deep", is_flag=True, help="Also recompute a random sample of embeddings; needs the images.")
@click.option("--sample", type=click.IntRange(1), default=32, help="How many to recompute.")
@click.option("--seed", type=SEED, default=0, help="Seed of that sample.")
@click.option("--weights", help="Backbone weights for --deep, where the recipe's name is not enough.")
@json_option
def verify(file: str | None, as_json: bool, **options) -> None:
    """Check FILE (default: the newest in cache/): every row against its SHA-256, ids, shapes, finiteness.

    Exits 1 if anything is wrong.

    \b
    Example:
      cxrfeat cache verify
      cxrfeat cache verify cache/nih-densenet121-1a2b3c4d.h5 --deep --images ~/ChestX-ray14
    """
    report = watched("verify", cxr.cache.verify, file, unit="rows", **options)
    _show(report, as_json, ok=report.ok)
    sys.exit(0 if report.ok else 1)


@command.command()
@click.argument("file", type=FILE)
@click.option("-o", "--out", type=FILE, help="Write here.  [default: in FILE's place]")
@json_option
def repair(file: str, out: str | None, as_json: bool) -> None:
    """Keep every sound row of FILE and list the images that must be extracted again.

    \b
    Example:
      cxrfeat cache repair cache/nih-densenet121-1a2b3c4d.h5
    """
    _show(watched("repair", cxr.cache.repair, file, out, unit="rows"), as_json)


@command.command()
@click.argument("files", type=FILE_OR_FOLDER, nargs=-1, required=True)
@click.option("-o", "--out", type=FILE, help="The new file.  [default: of one folder of shards, the study's file]")
@click.option("--prefer", type=click.Choice(["first", "last"]), help="Whose row to take where images differ.")
@json_option
def merge(files: tuple[str, ...], out: str | None, prefer: str | None, as_json: bool) -> None:
    """Join FILES of one recipe into a new one, in their order; clashes are refused unless you say whom to --prefer.

    A folder stands for the embedding files in it, such as the shards of a study.

    \b
    Example:
      cxrfeat cache merge cache/a.h5 cache/b.h5 -o cache/all.h5
      cxrfeat cache merge cache/nih-densenet121-1a2b3c4d.shards
    """
    _show(watched("merge", cxr.cache.merge, files, out, unit="rows", prefer=prefer), as_json)


@command.command()
@click.argument("files", type=FILE_OR_FOLDER, nargs=-1, required=True)
@click.option(
    "-o", "--out", type=click.Path(file_okay=False), required=True, help="The folder: a new one, or to add to."
)
@json_option
def collect(files: tuple[str, ...], out: str, as_json: bool) -> None:
    """Make a collection of FILES of one recipe: a folder that is read as one file wherever one is named.

    FILES are linked into the folder and not copied where the disk allows it. With a collection that is there, they are
    added to it.

    \b
    Example:
      cxrfeat cache collect shards/*.h5 -o cache/archive
      cxrfeat fit-head --study archive --embeddings cache/archive
    """
    _show(watched("collect", cxr.cache.collect, files, out, unit="rows"), as_json)


@command.command()
@click.argument("a", type=FILE_OR_FOLDER)
@click.argument("b", type=FILE_OR_FOLDER)
@click.option("--study", type=STUDY_NAME, metavar="STUDY", help=f"{STUDY}: fit and compare heads on both files too.")
@replicates_option
@click.option("--seed", type=SEED, default=0, help="Of images, folds and bootstrap.")
@format_option
def compare(a: str, b: str, kind: str, **options) -> None:
    """Compare pass 0 of embedding files A and B, of the same images: what another precision or storage costs.

    Prints the difference over the standard deviation, cosines, and the overlap of the ten nearest neighbours. With a
    study, also the paired difference in AUROC of heads on both, with its interval over patients.

    \b
    Example:
      cxrfeat cache compare cache/nih-densenet121-1a2b3c4d.h5 cache/nih-densenet121-5e6f7a8b.h5 --study nih
    """
    print_result(watched("compare", cxr.cache.compare, a, b, unit="rows", **options), kind)


@command.command()
@click.argument("file", type=FILE_OR_FOLDER, required=False)
@click.option(
    "--to", type=click.Choice(["npz", "parquet", "csv"]), help="Format.  [default: by the ending of OUT, else npz]"
)
@click.option("-o", "--out", type=FILE, help="What to write.  [default: FILE's name with the format's ending]")
@click.option("--pass", "passes", type=int, multiple=True, help="Only this rendering; repeat it.  [default: all]")
@click.option("--overwrite", is_flag=True, help="Replace OUT even if it is not an earlier export.")
@json_option
def export(as_json: bool, **options) -> None:
    """Write FILE (default: the newest in cache/) as NumPy, Parquet or CSV, for other tools.

    \b
    Example:
      cxrfeat cache export cache/nih-densenet121-1a2b3c4d.h5 --to npz --pass 0
    """
    target = watched("export", cxr.cache.export, unit="rows", **options)
    size = target.stat().st_size
    print_json({"file": str(target), "bytes": size}) if as_json else click.echo(f"{target}: {size:,} bytes.")


@command.command(name="import")
@click.argument("source", type=FILE)
@click.option("-o", "--out", type=FILE, required=True, help="The embedding file to write.")
@click.option("--ids", type=FILE, help="Image ids: one a line, or a CSV with a column image_id.")
@click.option("--array", help="Name of the embeddings in SOURCE.  [default: embeddings or embedding, or the only ones]")
@click.option("--images", type=click.Path(file_okay=False), help="Hash the images under DIR, so that they are known.")
@click.option("--backbone", help="What made them, for instance densenet121.")
@click.option("--weights", default="unknown", help="The weights' name.")
@click.option("--weights-sha256", default="", show_default=False, help="The weights' SHA-256, where it is known.")
@click.option("--layer", default="unknown", help="The layer whose average they are.")
@click.option("--preprocessing", type=PREPROCESSING, default="torch", help="Normalisation.")
@click.option("--size", type=click.IntRange(1), default=224, help="Side of the network's input.")
@json_option
def import_(source: str, out: str, as_json: bool, **options) -> None:
    """Make an embedding file of another tool's file SOURCE (.npz, .npy, .parquet) and a list of ids.

    What `cxrfeat cache export` wrote as Parquet comes back as it was, and needs no option.

    \b
    Example:
      cxrfeat cache import nih.parquet -o cache/nih.h5
      cxrfeat cache import features.npy --ids names.txt --backbone resnet50 --preprocessing caffe -o cache/theirs.h5
    """
    with watched("import", cxr.cache.import_, source, out, unit="rows", **options) as file:
        rows = len(file)
    print_json({"file": out, "images": rows}) if as_json else click.echo(f"{out}: {rows:,} rows.")


@command.command()
@click.argument("folder", type=click.Path(file_okay=False), default=str(CACHE))
@click.option("--studies", type=click.Path(file_okay=False), default=str(STUDIES))
@click.option("--runs", type=click.Path(file_okay=False), default=str(RUNS))
@click.option("--dry-run/--yes", default=True, help="Only list them, or move them to FOLDER/.pruned.")
@click.option("--delete", is_flag=True, help="Delete what earlier calls moved to FOLDER/.pruned.")
@json_option
def prune(folder: str, as_json: bool, **options) -> None:
    """List what in FOLDER (default: cache/) no study or run here needs, and move it aside with --yes.

    A file is needed if a study has any of its images, or a run was made from it. Studies elsewhere are not seen: files
    move to FOLDER/.pruned, and `--delete` deletes them later. Files that cannot be opened stay.

    \b
    Example:
      cxrfeat cache prune
      cxrfeat cache prune --yes
      cxrfeat cache prune --delete
    """
    found = cxr.cache.prune(folder, **options)
    if as_json:
        print_json(asdict(found))
        return
    if found.deleted:
        say(f"{len(found.deleted)} deleted that an earlier prune had moved aside.")
    if not found.unneeded:
        click.echo(f"nothing in {folder} is unneeded.")
        return
    columns = ["path", "recipe", "created", "size", "reason"]
    print_table([{name: getattr(row, name) for name in columns} for row in found.unneeded], columns=columns)
    say(f"{found.looked_at} studies and runs here need none of these; a study elsewhere may.")
    say(f"{len(found.moved)} moved to {folder}/.pruned." if found.moved else "nothing was moved; --yes moves these.")


def _show(found: Any, as_json: bool, **more) -> None:
    """Print a result as what it says of itself, or all of it as JSON."""
    if as_json:
        print_json(asdict(found) | more)
    else:
        click.echo(str(found))
