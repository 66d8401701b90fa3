"""`cxrfeat demo` and `sample`: the whole job on the embedded X-rays, and a copy of them."""

from __future__ import annotations

import time

import click

import cxrfeat as cxr

from .base import Command
from .options import engine_option
from .output import ended, json_option, print_json, print_table, progress_bar, say


@click.command(cls=Command, interrupted="The same command resumes.")
@click.option("-o", "--out", type=click.Path(file_okay=False), default="cxrfeat-demo")
@click.option("-w", "--weights", default="auto", help="imagenet, random:SEED, a .h5 file, or auto.")
@click.option("-p", "--passes", default=2, type=click.IntRange(0), help="Augmented passes.")
@engine_option
@json_option
def demo(out: str, as_json: bool, **options) -> None:
    """Run the whole job on 150 real chest X-rays: study, embeddings, head, ROC curves, accuracy, Grad-CAM.

    An interrupted demo resumes. The folder is laid out as a project of your own: try the other commands there.

    \b
    Example:
      cxrfeat demo
      cd cxrfeat-demo && cxrfeat evaluate --by sex
    """
    from cxrfeat._report.tables import flat

    started = time.monotonic()
    done = cxr.demo(out, **options, progress=progress_bar)
    if as_json:
        return print_json({**vars(done), "seconds": round(time.monotonic() - started, 1)})
    warning = "RANDOM WEIGHTS: NOT A RESULT. " if done.random else ""
    print_table([flat(row) for row in done.rows], title=f"{warning}AUROC on the sample's test split")
    click.echo(
        f"accuracy (correct labels over images and labels, at 0.5): {done.accuracy:.3f}; "
        f"always-negative baseline: {done.all_negative:.3f}\n"
    )
    print_table([{"made": what, "file": str(path)} for what, path in done.made.items()])
    if done.random:
        say(
            "The backbone had RANDOM weights, since ImageNet's are not available: the figures show that the pipeline "
            "works, and nothing about chest X-rays. `cxrfeat weights fetch densenet121` downloads the real ones."
        )
    say("150 chosen images say nothing about clinical performance. Not a medical device.")
    ended(done.folder, f"macro AUROC {done.macro_auroc:.3f}.", f"cd {done.folder} && cxrfeat evaluate --by sex")


@click.command(cls=Command)
@click.argument("folder", default="xrays", type=click.Path(file_okay=False))
@json_option
def sample(folder: str, as_json: bool) -> None:
    """Copy 150 real chest X-rays into FOLDER (default: xrays): images and one table, to try things on.

    The table, xrays.csv, has a row per image: file, patient, sex, age, view, findings. The X-rays are of NIH
    ChestX-ray14; README.md, copied too, has their terms.

    \b
    Example:
      cxrfeat sample xrays
      cxrfeat study build xrays/xrays.csv --images xrays/images --path file --patient patient --findings findings
    """
    table = cxr.copy_sample(folder)
    if as_json:
        print_json({"table": str(table), "images": 150})
    else:
        columns = "--path file --patient patient --findings findings"
        then = f"cxrfeat study build {table} --images {table.parent / 'images'} {columns}"
        ended(table, "150 X-rays of NIH ChestX-ray14, and a table.", then)
