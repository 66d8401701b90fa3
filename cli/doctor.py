"""`cxrfeat doctor`: check this machine and say how to fix what is wrong."""

from __future__ import annotations

import sys
from dataclasses import asdict

import click

import cxrfeat as cxr

from .base import Command
from .output import json_option, print_json, print_table

MARKS = {"ok": "ok", "warn": "WARN", "fail": "FAIL"}


@click.command(cls=Command)
@click.option("--deep", is_flag=True, help="Import every package and ask Keras for GPUs (some ten seconds).")
@json_option
def command(deep: bool, as_json: bool) -> None:
    """Check this machine: Python, packages, engine, disk, weights. Exits with 1 if something will not work.

    \b
    Example:
      cxrfeat doctor
      cxrfeat doctor --deep --json
    """
    checks = cxr.doctor(deep=deep)
    failed = [c for c in checks if c.state == "fail"]
    if as_json:
        print_json({"ok": not failed, "checks": [asdict(c) for c in checks]})
    else:
        print_table([{"": MARKS[c.state], "check": c.name, "found": c.found} for c in checks])
        for check in checks:
            if check.fix:
                click.echo(f"{check.name}: {check.fix}")
        warned = sum(c.state == "warn" for c in checks)
        click.echo(f"\n{len(checks)} checks, {len(failed)} failed, {warned} warning{'s' * (warned != 1)}")
    sys.exit(1 if failed else 0)
