"""`cxrfeat cache`: list, check, mend, join and export embedding files."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

import click

from cxrfeat._project import CACHE, RUNS, STUDIES, embedding_path

from .base import Group
from .options import STUDY
from .output import json_option, print_json, print_table, progress_bar, say

FILE = click.Path(dir_okay=False)
SHOWN = 20  # ids printed before the rest is only counted


@click.group(cls=Group)
def command() -> None:
    """List, check, mend, join and export embedding files.

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
    from cxrfeat._store import shelf

    rows = shelf.ls(folder)
    if as_json:
        print_json(rows)
    elif rows:
        print_table(rows, columns=["file", "images", "dim", "passes", "failures", "bytes", "recipe"])
    else:
        say(f"no embedding file in {folder}; `cxrfeat extract` makes one.")


@command.command()
@click.argument("file", type=FILE, required=False)
@json_option
def info(file: str | None, as_json: bool) -> None:
    """Show what FILE (default: the newest in cache/) says of itself: recipe, provenance, failures.

    \b
    Example:
      cxrfeat cache info cache/nih-densenet121-1a2b3c4d.h5
    """
    from cxrfeat._store import shelf

    found = shelf.info(embedding_path(file))
    if as_json:
        print_json(found)
        return
    failures, earlier = found.pop("failures"), found["provenance"].pop("earlier", [])
    rows = [
        {"what": f"{name}.{key}" if name != "recipe" else key, "value": str(value)}
        for name, item in found.items()
        for key, value in (item.items() if isinstance(item, dict) else [("", item)])
    ]
    print_table([{"what": row["what"].rstrip("."), "value": row["value"]} for row in rows])
    if earlier:
        print_table(earlier, title="sessions before that one", columns=["created", "cxrfeat", "engine", "platform"])
    if failures:
        print_table(failures[:SHOWN], title=f"{len(failures):,} images could not be used")


@command.command()
@click.argument("file", type=FILE, required=False)
@click.option("--images", type=click.Path(file_okay=False), help="Also look for image files under DIR that changed.")
@click.option("--study", metavar="STUDY", help=f"{STUDY}, to take the paths of the images from.")
@click.option("--deep", is_flag=True, help="Also recompute a random sample of embeddings; needs the images.")
@click.option("--sample", type=click.IntRange(1), default=32, show_default=True, help="How many to recompute.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of that sample.")
@click.option("--weights", help="Backbone weights for --deep, where the recipe's name is not enough.")
@json_option
def verify(
    file: str | None,
    images: str | None,
    study: str | None,
    deep: bool,
    sample: int,
    seed: int,
    weights: str | None,
    as_json: bool,
) -> None:
    """Check FILE (default: the newest in cache/): every row against its SHA-256, ids, shapes, finiteness.

    Exits 1 if anything is wrong.

    \b
    Example:
      cxrfeat cache verify
      cxrfeat cache verify cache/nih-densenet121-1a2b3c4d.h5 --deep --images ~/ChestX-ray14
    """
    from cxrfeat._store.verify import verify as check

    path = embedding_path(file)
    paths = _image_paths(path, images, study, needed=deep)
    recompute = None
    if deep:
        from cxrfeat._extract import embed

        def recompute(recipe, files):
            return embed(files, recipe, weights=weights) if weights else embed(files, recipe)

    with progress_bar("verify", "rows") as progress:
        report = check(path, paths, recompute, sample, seed, progress)
    if as_json:
        print_json(asdict(report) | {"ok": report.ok})
    else:
        _tell(report)
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
    from cxrfeat._store.repair import repair as mend

    with progress_bar("repair", "rows") as progress:
        found = mend(file, out, progress)
    if as_json:
        print_json(asdict(found))
        return
    for problem in found.problems:
        say(f"was wrong: {problem}")
    if not found.changed:
        click.echo(f"{found.path}: nothing to mend, {found.kept:,} sound rows.")
        return
    click.echo(f"{found.path}: {found.kept:,} rows kept, {found.lost:,} lost; `cxrfeat extract` does these again.")
    _list_ids(found.lost_ids)


@command.command()
@click.argument("files", type=FILE, nargs=-1, required=True)
@click.option("-o", "--out", type=FILE, required=True, help="The new file.")
@click.option("--prefer", type=click.Choice(["first", "last"]), help="Whose row to take where images differ.")
@json_option
def merge(files: tuple[str, ...], out: str, prefer: str | None, as_json: bool) -> None:
    """Join FILES of one recipe into a new one, in their order; clashes are refused unless you say whom to --prefer.

    \b
    Example:
      cxrfeat cache merge cache/a.h5 cache/b.h5 -o cache/all.h5
    """
    from cxrfeat._store.merge import merge as join

    with progress_bar("merge", "rows") as progress:
        found = join(files, out, prefer or "refuse", progress)  # type: ignore[arg-type]
    if as_json:
        print_json(asdict(found))
        return
    each = " + ".join(f"{count:,}" for count in found.from_each)
    click.echo(f"{found.path}: {found.rows:,} rows ({each}).")
    if found.same:
        say(f"{found.same:,} images stood in several files alike.")
    if found.clashes:
        say(f"{len(found.clashes):,} images differed between files; the {prefer} was taken:")
        _list_ids(found.clashes)


@command.command()
@click.argument("file", type=FILE, required=False)
@click.option("--to", type=click.Choice(["npz", "parquet", "csv"]), help="Format.  [default: by the ending of OUT]")
@click.option("-o", "--out", type=FILE, help="What to write.  [default: FILE's name with the format's ending]")
@click.option("--pass", "passes", type=int, multiple=True, help="Only this rendering; repeat it.  [default: all]")
@json_option
def export(file: str | None, to: str | None, out: str | None, passes: tuple[int, ...], as_json: bool) -> None:
    """Write FILE (default: the newest in cache/) as NumPy, Parquet or CSV, for other tools.

    \b
    Example:
      cxrfeat cache export cache/nih-densenet121-1a2b3c4d.h5 --to npz --pass 0
    """
    from cxrfeat._store.exchange import export as write

    path = embedding_path(file)
    if out is None and to is None:
        raise click.UsageError("name a format with --to, or a file with -o.")
    target = Path(out) if out else path.with_suffix(f".{to}")
    with progress_bar("export", "rows") as progress:
        write(path, target, to, list(passes) or None, progress)  # type: ignore[arg-type]
    if as_json:
        print_json({"file": str(target), "bytes": target.stat().st_size})
    else:
        click.echo(f"{target}: {target.stat().st_size:,} bytes.")


@command.command(name="import")
@click.argument("source", type=FILE)
@click.option("-o", "--out", type=FILE, required=True, help="The embedding file to write.")
@click.option("--ids", type=FILE, help="Image ids: one a line, or a CSV with a column image_id.")
@click.option("--array", help="Name of the embeddings in an .npz.  [default: embeddings, or the only matrix]")
@click.option("--images", type=click.Path(file_okay=False), help="Hash the images under DIR, so that they are known.")
@click.option("--backbone", help="What made them, for instance densenet121.")
@click.option("--weights", default="unknown", show_default=True, help="The weights' name.")
@click.option("--weights-sha256", default="", help="The weights' SHA-256, where it is known.")
@click.option("--layer", default="unknown", show_default=True, help="The layer whose average they are.")
@click.option("--preprocessing", type=click.Choice(["torch", "caffe", "unit"]), default="torch", show_default=True)
@click.option("--size", type=click.IntRange(1), default=224, show_default=True, help="Side of the network's input.")
@json_option
def import_(
    source: str, out: str, ids: str | None, array: str | None, images: str | None, as_json: bool, **made_by
) -> None:
    """Make an embedding file of another tool's NumPy file SOURCE (.npz, .npy) and a list of ids.

    \b
    Example:
      cxrfeat cache import features.npy --ids names.txt --backbone resnet50 --preprocessing caffe -o cache/theirs.h5
    """
    from cxrfeat._recipe import Recipe
    from cxrfeat._store import exchange
    from cxrfeat._store.verify import find_images

    recipe = Recipe(**made_by) if made_by["backbone"] else None
    names = exchange.read_ids(ids) if ids else None
    with progress_bar("import", "rows") as progress:
        paths = find_images(images, names or exchange.ids_of(source)) if images else None
        rows = exchange.import_(source, out, recipe, names, paths, array, progress)
    if as_json:
        print_json({"file": out, "images": rows})
    else:
        click.echo(f"{out}: {rows:,} rows.")


@command.command()
@click.argument("folder", type=click.Path(file_okay=False), default=str(CACHE))
@click.option("--studies", type=click.Path(file_okay=False), default=str(STUDIES), show_default=True)
@click.option("--runs", type=click.Path(file_okay=False), default=str(RUNS), show_default=True)
@click.option("--dry-run/--yes", "dry", default=True, show_default=True, help="Only show what would go, or remove it.")
@json_option
def prune(folder: str, studies: str, runs: str, dry: bool, as_json: bool) -> None:
    """Show what in FOLDER (default: cache/) no study or run needs, and remove it with --yes.

    A file is needed if a study has any of its images, or a run was made from it. Files that cannot be opened stay.

    \b
    Example:
      cxrfeat cache prune
      cxrfeat cache prune --yes
    """
    from cxrfeat._store import shelf

    needs = _needs(Path(studies), Path(runs))
    found = shelf.unneeded(folder, needs)
    removed = [] if dry else shelf.remove(found)
    if as_json:
        print_json({"unneeded": [asdict(row) for row in found], "removed": [str(row.path) for row in removed]})
        return
    if not found:
        click.echo(f"nothing in {folder} is unneeded.")
        return
    print_table([{"file": str(row.path), "bytes": row.size, "why": row.reason} for row in found])
    say(f"looked at {len(needs)} studies and runs.")
    say("nothing was removed; --yes removes these." if dry else f"{len(removed)} of {len(found)} removed.")


def _image_paths(path: Path, images: str | None, study: str | None, needed: bool) -> dict[str, Path] | None:
    """Where the images of a file are: under a folder, or by a study."""
    if images:
        from cxrfeat._store import EmbeddingFile
        from cxrfeat._store.verify import find_images

        with EmbeddingFile.open(path) as file:
            return find_images(images, file.image_ids)
    if not study and not needed:
        return None
    from cxrfeat import read_study

    table = read_study(study or ("sample" if path.name.startswith("sample-") else None))
    return dict(zip(table.ids.tolist(), table.paths(), strict=True))


def _needs(studies: Path, runs: Path) -> list:
    """What embedding files are kept for; the embedded sample counts as a study."""
    from cxrfeat import _sample as sample
    from cxrfeat import read_study
    from cxrfeat._run import Run
    from cxrfeat._store.shelf import Need

    found = [Need("sample", frozenset(sample.study().ids.tolist()))]
    for path in sorted(studies.glob("*.csv")):
        found.append(Need(path.stem, frozenset(read_study(path).ids.tolist())))
    for path in sorted(runs.glob("*/head.json")):
        run = Run.open(path.parent)
        recipes = frozenset(recipe.sha256 for recipe in run.recipes)
        found.append(Need(run.name, frozenset(run.study().ids.tolist()), recipes))
    return found


def _tell(report) -> None:
    for finding in report.findings:
        click.echo(f"{finding.kind}: {finding.text}")
        _list_ids(finding.image_ids)
    for note in report.notes:
        say(note)
    verdict = "sound" if report.ok else f"{len(report.findings)} findings; `cxrfeat cache repair` keeps the sound rows"
    click.echo(f"{report.path}: {report.sound:,} of {report.rows:,} rows are sound; {verdict}.")
    say("looked at: " + ", ".join(report.looked_at))


def _list_ids(image_ids) -> None:
    for image_id in image_ids[:SHOWN]:
        click.echo(f"  {image_id}")
    if len(image_ids) > SHOWN:
        click.echo(f"  and {len(image_ids) - SHOWN:,} more; --json lists all.")
