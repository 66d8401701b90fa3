"""`cxrfeat runs`: what runs there are, and whether their files are whole."""

from __future__ import annotations

import click

import cxrfeat as cxr

from .base import Group
from .options import RUN_NAME
from .output import json_option, print_json, print_table


@click.group("runs", cls=Group)
def command() -> None:
    """List runs and check their files.

    \b
    Example:
      cxrfeat runs ls
      cxrfeat runs verify sample-densenet121-logistic
    """


@command.command("ls")
@click.argument("folder", default="runs", type=click.Path(file_okay=False))
@json_option
def ls(folder: str, as_json: bool) -> None:
    """List the runs in FOLDER, newest first: study, head, recipe, macro AUROC with its interval, date.

    \b
    Example:
      cxrfeat runs ls
    """
    rows: list = cxr.runs.ls(folder).to_dict("records")
    if as_json:
        print_json(rows)
        return
    for row in rows:
        low, high = row.pop("low"), row.pop("high")
        row["95 %"] = f"{low:.3f} to {high:.3f}" if low == low and low is not None else None
    print_table(rows, columns=["run", "study", "head", "macro_auroc", "95 %", "split", "date", "recipe"])


@command.command("verify")
@click.argument("run", required=False, type=RUN_NAME)
@json_option
def verify(run: str | None, as_json: bool) -> None:
    """Check the files of RUN against the hashes in its head.json, and load its head; exits with 1 if one is damaged.

    \b
    Example:
      cxrfeat runs verify sample-densenet121-logistic
    """
    rows: list = cxr.runs.verify(run).to_dict("records")
    print_json(rows) if as_json else print_table(rows)
    if any(row["state"] not in ("ok", "no hash") for row in rows):
        raise SystemExit(1)
