"""`cxrfeat demo`: the whole job on the embedded sample."""

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
def command(out: str, as_json: bool, **options) -> None:
    """Run the whole job on 150 real chest X-rays: study, embeddings, head, ROC curves, accuracy, Grad-CAM.

    An interrupted demo resumes. The folder is laid out as a project of your own: try the other commands there.

    \b
    Example:
      cxrfeat demo
      cd cxrfeat-demo && cxrfeat evaluate --by sex
    """
    from cxrfeat._report.tables import flat

    started = time.monotonic()
    demo = cxr.demo(out, **options, progress=progress_bar)
    if as_json:
        return print_json({**vars(demo), "seconds": round(time.monotonic() - started, 1)})
    warning = "RANDOM WEIGHTS: NOT A RESULT. " if demo.random else ""
    print_table([flat(row) for row in demo.rows], title=f"{warning}AUROC on the sample's test split")
    click.echo(
        f"accuracy (correct labels over images and labels, at 0.5): {demo.accuracy:.3f}; "
        f"always-negative baseline: {demo.all_negative:.3f}\n"
    )
    print_table([{"made": what, "file": str(path)} for what, path in demo.made.items()])
    if demo.random:
        say(
            "The backbone had RANDOM weights, since ImageNet's are not available: the figures show that the pipeline "
            "works, and nothing about chest X-rays. `cxrfeat weights fetch densenet121` downloads the real ones."
        )
    say("150 chosen images say nothing about clinical performance. Not a medical device.")
    ended(demo.folder, f"macro AUROC {demo.macro_auroc:.3f}.", f"cd {demo.folder} && cxrfeat evaluate --by sex")
