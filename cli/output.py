"""What commands print with: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import math
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import click

from cxrfeat._progress import Progress, silent

json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout.")


def say(text: str) -> None:
    """A line for the person at the terminal, on stderr."""
    click.echo(text, err=True)


def stopped(text: str) -> click.exceptions.Exit:
    """Say what Ctrl-C left, and return what ends the command with 130.

    From here on Ctrl-C is ignored: all that is left is to end, and a second one would end in a traceback.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    say(text)
    return click.exceptions.Exit(130)


def print_json(result: Any) -> None:
    """Print a result as JSON; NaN and infinity become null, since JSON has neither."""
    click.echo(json.dumps(_plain(result), indent=2, ensure_ascii=False, allow_nan=False))


def print_table(
    rows: Sequence[Mapping[str, Any]], title: str = "", columns: Sequence[str] | None = None, digits: int = 3
) -> None:
    """Print rows as an aligned table on stdout: numbers to the right, NaN as a dash."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    columns = list(columns or (rows[0] if rows else ()))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        number = any(isinstance(row.get(column), int | float) for row in rows)
        table.add_column(column, justify="right" if number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row.get(column), digits) for column in columns))
    console = Console(highlight=False, markup=False, width=None if _is_terminal() else 140)
    if title:  # not the table's own title, which is folded to a narrow table's width
        console.print(title)
    console.print(table)


@contextmanager
def progress_bar(title: str, unit: str = "images") -> Iterator[Progress]:
    """A bar on stderr with rate and time left; nothing where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield silent
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn(f"{unit}, {{task.fields[rate]}}/s, left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    console = Console(stderr=True)
    with Bar(*columns, console=console, refresh_per_second=4) as bar:
        task = bar.add_task(title, total=None, rate="-", note="")

        def tell(done: int, total: int, note: str = "") -> None:
            speed = bar.tasks[task].speed
            bar.update(task, completed=done, total=total, note=note, rate=f"{speed:.1f}" if speed else "-")

        yield tell


def _is_terminal() -> bool:
    return sys.stdout.isatty()


def _cell(value: Any, digits: int) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):  # numpy arrays and scalars
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(v) for v in value]
    return value if isinstance(value, str | int | bool | None) else str(value)
