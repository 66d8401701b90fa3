"""`cxrfeat demo`: the whole job on the embedded sample."""

from __future__ import annotations

import time

import click

from .base import Command
from .options import engine_option
from .output import json_option, print_json, print_table, progress_bar, say


@click.command(cls=Command, interrupted="The same command resumes.")
@click.option(
    "-o", "--out", type=click.Path(file_okay=False), default="cxrfeat-demo", show_default=True, help="Folder."
)
@click.option("-w", "--weights", default="auto", show_default=True, help="imagenet, random:SEED, a .h5 file, or auto.")
@click.option("-p", "--passes", default=2, show_default=True, type=click.IntRange(0), help="Augmented passes.")
@engine_option
@json_option
def command(out: str, as_json: bool, **options) -> None:
    """Run the whole job on 150 real chest X-rays: study, embeddings, head, ROC curves, accuracy, Grad-CAM.

    An interrupted demo goes on where it stopped. The folder is laid out as a project of your own would be: go there
    and try the other commands.

    \b
    Example:
      cxrfeat demo
      cd cxrfeat-demo && cxrfeat evaluate --by sex
    """
    from cxrfeat import demo as run_demo
    from cxrfeat._report.tables import flat

    started = time.monotonic()
    demo = run_demo(out, **options, progress=progress_bar)
    seconds = time.monotonic() - started
    if as_json:
        print_json({**vars(demo), "seconds": round(seconds, 1)})
        return
    warning = "RANDOM WEIGHTS: NOT A RESULT. " if demo.random else ""
    print_table([flat(row) for row in demo.rows], title=f"{warning}AUROC on the sample's test split")
    click.echo(
        f"accuracy (correct labels over images and labels, at 0.5): {demo.accuracy:.3f}; "
        f"calling everything absent: {demo.all_negative:.3f}\n"
    )
    print_table([{"made": what, "file": str(path)} for what, path in demo.made.items()], title=f"In {seconds:.0f} s")
    if demo.random:
        say(
            "The backbone had RANDOM weights, since ImageNet's cannot be had here: the figures show that the pipeline "
            "works, and nothing about chest X-rays. `cxrfeat weights fetch densenet121` gets the real ones."
        )
    say("150 chosen images say nothing about clinical performance. Not a medical device.")
