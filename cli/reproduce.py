"""`cxrfeat reproduce`: the reference paper's experiment on any study."""

from __future__ import annotations

import time
from pathlib import Path

import click

from .base import Group
from .options import engine_option, study_argument
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
    "--list", "listed", type=click.Path(exists=True, dir_okay=False),
    help="Only the images named in this file, one id a line.",
)  # fmt: skip
@click.option("-w", "--weights", default="auto", show_default=True, help="imagenet, random:SEED, or auto.")
@click.option("--size", default=400, show_default=True, type=click.IntRange(32), help="Pixels; the paper's is 400.")
@click.option("-p", "--passes", default=2, show_default=True, type=click.IntRange(1), help="Augmented passes.")
@click.option("--epochs", default=80, show_default=True, type=click.IntRange(1), help="At most.")
@click.option("--bootstrap", "replicates", default=1000, show_default=True, type=click.IntRange(1), help="Replicates.")
@click.option("--seed", default=0, show_default=True, help="Of augmentation, heads and bootstrap.")
@engine_option
@json_option
def paper(study, out, listed, as_json, **options) -> None:
    """Three arms in two ways, beside the paper's numbers.

    DenseNet121 without and with augmentation and ResNet50 with it, each as the paper did it ([0, 1] scaling, softmax)
    and as it should be done (own scaling, sigmoid), from one study with splits train, val and test. Leaves a folder
    with index.html, figures and tables. An interrupted go is gone on with, and nothing slow is done twice.

    STUDY is a study file, a name under studies/, or `sample`; by default the only one there is.

    \b
    Example:
      cxrfeat reproduce paper sample
      cxrfeat reproduce paper studies/nih.csv --list subset.txt -o paper-subset
    """
    from cxrfeat import read_study
    from cxrfeat._reproduce import account, reproduce_paper

    started = time.monotonic()
    found = read_study(study)
    if listed:
        lines = Path(listed).read_text(encoding="utf-8-sig").splitlines()
        found = found.join(list(dict.fromkeys(filter(None, map(str.strip, lines)))))
    done = reproduce_paper(found, out or f"paper-{found.name}", **options, tell=say, progress=progress_bar)
    rows = {split: account.accuracy_rows(done, split) for split in ("training", "test")}
    if as_json:
        print_json(
            {
                "page": done.page, "random": done.random, "embedded": done.embedded, "fitted": done.fitted,
                "accuracy": rows, "auroc": account.auroc_rows(done), "account": account.sentences(done),
                "seconds": round(time.monotonic() - started, 1),
            }
        )  # fmt: skip
        return
    stamp = "RANDOM WEIGHTS: NOT A RESULT. " if done.random else ""
    for number, (split, table) in enumerate(rows.items(), start=1):
        print_table(table, title=f"{stamp}Table {number}: {split} accuracy, correct labels over images and labels")
    for said in account.sentences(done):
        say(f"- {said}")
    ended(done.page, f"{time.monotonic() - started:.0f} s.")
