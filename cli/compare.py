"""`cxrfeat compare`: runs on the same images, with tests."""

from __future__ import annotations

from pathlib import Path

import click

from cxrfeat._project import run_path

from .base import Command
from .options import anyway_option, format_option, replicates_option, seed_option, split_option
from .output import json_option, print_table, progress_bar, say


@click.command(cls=Command)
@click.argument("runs", nargs=-1, required=True, metavar="RUN_A RUN_B [RUN_C]...")
@split_option
@click.option("--intersection", is_flag=True, help="Take the images and labels that all runs share, where they differ.")
@replicates_option
@seed_option
@format_option
@click.option("--out", type=click.Path(path_type=Path), help="Forest plot to write. Default: compare-A-B.png by RUN_A.")
@anyway_option
@json_option
def command(runs, split, intersection, replicates, seed, kind, out, anyway, as_json) -> None:
    """Compare runs with the first of them on the same images: is the difference more than noise?

    For each label: paired DeLong test, the same with patients as clusters, Holm's correction over all of them, and a
    paired bootstrap over patients. Draws a forest plot and ends in one sentence.

    \b
    Example:
      cxrfeat compare runs/sample-logistic runs/sample-keras
    """
    from cxrfeat._evaluate import scored_run
    from cxrfeat._evaluate.comparison import compare
    from cxrfeat._report import forest
    from cxrfeat._run import Run

    opened = [Run.open(run_path(run)) for run in runs]
    with progress_bar("bootstrap", "replicates") as progress:
        found = compare([scored_run(run, split, anyway) for run in opened], intersection, replicates, seed, progress)
    path = out or opened[0].path.parent / f"compare-{'-'.join(run.name for run in opened)}.png"
    written = forest.forest(found, path)
    if found.left_out:
        say(f"{found.left_out:,} images are not in every run; {len(found.baseline):,} remain.")
    if as_json or kind != "table":
        click.echo(forest.render(found, "json" if as_json else kind), nl=False)
    else:
        print_table(forest.rows_to_read(found), forest.title(found))
        for said in found.conclusions:
            click.echo(said)
    say("written: " + ", ".join(str(file) for file in written))
