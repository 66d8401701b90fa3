"""`cxrfeat sample`: the embedded X-rays, copied to a folder."""

from __future__ import annotations

import click

import cxrfeat as cxr

from .base import Command
from .output import ended, json_option, print_json


@click.command(cls=Command)
@click.argument("folder", default="xrays", type=click.Path(file_okay=False))
@json_option
def command(folder: str, as_json: bool) -> None:
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
