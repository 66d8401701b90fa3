"""`cxrfeat reproduce`: the reference paper's experiment on any study."""

from __future__ import annotations

import click

import cxrfeat as cxr

from .base import Group
from .options import SEED, engine_option, study_argument
from .output import ended, json_option, print_json, print_table, progress_bar, say


@click.group(cls=Group)
def command() -> None:
    """Reproduce the reference paper: Fan and Bu, Entropy 2022, 24(3):313.

    \b
    Example:
      cxrfeat reproduce paper sample
    """


@command.command()
@study_argument
@click.option("-o", "--out", type=click.Path(file_okay=False), help="Folder.  [default: paper-STUDY]")
@click.option(
    "--list", "images", type=click.Path(exists=True, dir_okay=False),
    help="Only the images named in this file, one id a line.",
)  # fmt: skip
@click.option("-w", "--weights", default="auto", help="imagenet, random:SEED, or auto.")
@click.option("--size", default=400, type=click.IntRange(32), help="Pixels; the paper's is 400.")
@click.option("-p", "--passes", default=2, type=click.IntRange(1), help="Augmented passes.")
@click.option("--epochs", default=80, type=click.IntRange(1), help="At most.")
@click.option("--bootstrap", "replicates", default=1000, type=click.IntRange(1), help="Replicates.")
@click.option("--seed", type=SEED, default=0, help="Of augmentation, heads and bootstrap.")
@engine_option
@json_option
def paper(study, as_json, **options) -> None:
    """Three arms in four ways, beside the paper's numbers.

    DenseNet121 without and with augmentation and ResNet50 with it, each as the paper's text says ([0, 1] scaling,
    softmax), with sigmoids, with its class weights to the letter, and as it should be done, from one study with splits
    train, val and test. Writes a folder with index.html, figures and tables. Resumes if interrupted, and repeats
    nothing slow.

    STUDY is a study file, a name under studies/, or `sample`; by default the only one there is.

    \b
    Example:
      cxrfeat reproduce paper sample
      cxrfeat reproduce paper studies/nih.csv --list subset.txt -o paper-subset
    """
    done = cxr.reproduce_paper(study, progress=progress_bar, **options)
    if as_json:
        found = {"page": done.page, "random": done.random, "embedded": done.embedded, "fitted": done.fitted}
        return print_json({**found, "tables": done.tables, "account": done.account})
    stamp = "RANDOM WEIGHTS: NOT A RESULT. " if done.random else ""
    for number, split in enumerate(("training", "test"), start=1):
        print_table(done.tables[f"accuracy-{split}"], title=f"{stamp}Table {number}: {split} accuracy")
    print_table(done.tables["auroc-paper"], title=f"{stamp}AUROCs that the paper's text speaks of")
    for said in done.account:
        say(f"- {said}")
    ended(done.page)
