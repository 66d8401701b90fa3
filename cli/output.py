"""What commands print with: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from typing import Any

import click

from cxrfeat._html import cell, plain
from cxrfeat._progress import Progress, silent

json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout.")


def say(text: str) -> None:
    """A line for the person at the terminal, on stderr."""
    click.echo(text, err=True)


def ended(made: Any, fact: str = "", then: str = "", kind: str = "table") -> None:
    """End a step: the number that matters and the next command on stderr, the path of what was made on stdout.

    Of several files the first is the main one. Where stdout has another `kind` of output, the path is on stderr too.
    """
    files = list(made) if isinstance(made, list | tuple) else [made]
    if fact:
        say(fact)
    if others := files[1:] if kind == "table" else files:
        say("written: " + ", ".join(map(str, others)))
    if kind == "table" and files:
        click.echo(files[0])
    if then:
        say(f"next: {then}")


def print_json(result: Any) -> None:
    """Print a result as JSON; NaN and infinity become null, since JSON has neither."""
    text = json.dumps(plain(result), indent=2, ensure_ascii=False, allow_nan=False)
    names_are_utf8 = not any("\udc80" <= letter <= "\udcff" for letter in text)
    click.echo(text if names_are_utf8 else json.dumps(plain(result), indent=2, allow_nan=False))


def print_table(
    rows: Sequence[Mapping[Any, Any]], title: str = "", columns: Sequence[str] | None = None, digits: int = 3
) -> None:
    """Print rows as an aligned table on stdout: numbers to the right, NaN as a dash.

    On a narrow terminal text is folded at spaces, then the last columns are left out; a number or a path is never
    broken. In a pipe the table is as wide as it needs.
    """
    columns = list(columns or (rows[0] if rows else ()))
    cells = {column: [column, *(cell(row.get(column), digits) for row in rows)] for column in columns}
    numeric = {c for c in columns if any(isinstance(row.get(c), int | float) for row in rows)}
    least = {c: max(len(word) for text in cells[c] for word in text.split(" ")) for c in columns}
    widths = {column: max(map(len, cells[column])) for column in columns}
    shown, room = list(columns), _width() or sys.maxsize
    while len(shown) > 1 and sum(least[c] for c in shown) + 2 * (len(shown) - 1) > room:
        shown.pop()
    for column in sorted(shown, key=lambda c: widths[c] - least[c], reverse=True):
        excess = sum(widths[c] for c in shown) + 2 * (len(shown) - 1) - room
        widths[column] = max(least[column], widths[column] - max(0, excess))
    lines = [title] if title else []
    for number, row in enumerate(zip(*(cells[column] for column in shown), strict=True)):
        folded = [
            textwrap.wrap(text, widths[c], break_long_words=False, break_on_hyphens=False)
            for c, text in zip(shown, row, strict=True)
        ]
        for parts in zip_longest(*folded, fillvalue=""):
            aligned = (
                part.rjust(widths[c]) if c in numeric else part.ljust(widths[c])
                for c, part in zip(shown, parts, strict=True)
            )
            lines.append("  ".join(aligned).rstrip())
        if number == 0:
            lines.append("─" * (sum(widths[c] for c in shown) + 2 * (len(shown) - 1)))
    click.echo("\n".join([*lines, ""]))
    if left_out := columns[len(shown) :]:
        say(f"columns left out, the terminal is too narrow: {', '.join(left_out)}.")


def _width() -> int:
    """Columns of the terminal, 0 where stdout is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 0


def print_result(found: Any, kind: str, **more: Any) -> None:
    """Print an evaluation, curves or a comparison on stdout: as `table`, or as `csv`, `json`, `latex` or `markdown`.

    What must be read before the numbers goes to stderr.
    """
    if kind == "json":
        print_json({**found.to_dict(), **more})
    elif kind != "table":
        click.echo(found.render(kind), nl=False)
    else:
        for title, rows in found.tables().items():
            print_table(rows, title or found.title())
        for note in found.notes():
            click.echo(note)
    for problem in found.problems():
        say(f"warning: {problem}")


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
    # It vanishes at the end, and lines of the log go above it; what goes to stdout is not taken from there.
    with Bar(*columns, console=console, refresh_per_second=4, transient=True, redirect_stdout=False) as bar:
        task = bar.add_task(title, total=None, rate="-", note="")

        def show(done: int, total: int, note: str = "") -> None:
            speed = bar.tasks[task].speed
            bar.update(task, completed=done, total=total, note=note, rate=f"{speed:.1f}" if speed else "-")

        yield show


def watched(title: str, work: Callable[..., Any], *arguments: Any, unit: str = "images", **options: Any) -> Any:
    """Call a function of the library under a progress bar."""
    with progress_bar(title, unit) as progress:
        return work(*arguments, progress=progress, **options)
