"""The FAQ quotes messages as the commands print them: each is held against the texts in the source."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import click
import pytest
from cxrfeat_cli.base import as_flags
from cxrfeat_cli.main import COMMANDS, cli

ROOT = Path(__file__).parents[2]
QUOTED = [
    " ".join(text.split())
    for text in re.findall(r"^```text\n(.*?)^```", (ROOT / "docs" / "faq.md").read_text(), re.M | re.S)
]
LEAST = 24


@cache
def options() -> dict[str, click.Option]:
    """Every option of every command, by the name of its Python parameter."""
    found: dict[str, click.Option] = {}
    names = [(cli, name) for name in COMMANDS]
    while names:
        group, name = names.pop()
        command = group.get_command(click.Context(cli), name)
        if isinstance(command, click.Group):
            names += [(command, inner) for inner in command.list_commands(click.Context(command))]
        elif command is not None:
            found |= {option.name: option for option in command.params if isinstance(option, click.Option)}
    return found


def as_typed(text: str) -> str:
    """A text of the library as the commands print it: they turn `overwrite=True` into --overwrite."""
    context = click.Context(click.Command("any", params=list(options().values())))
    with context:
        return as_flags(text)


@cache
def texts() -> tuple[re.Pattern[str], ...]:
    """Every text of the source of some length, as a pattern in which what is filled in may be anything."""
    found = set()
    for path in [*ROOT.glob("cxrfeat/**/*.py"), *ROOT.glob("cli/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = [p.value if isinstance(p, ast.Constant) else "" for p in node.values]
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                parts = [part for text in re.split(r"\{\w+\}", node.value) for part in (text, "")][:-1]
            else:
                continue
            whole = "\0".join(parts)
            for parts in (text.split("\0") for text in (whole, as_typed(whole)) if len(text) >= 10):
                inner = "".join(re.escape(part) if part else ".*?" for part in parts)
                # What is filled in at an end goes as far as the sentence does.
                found.add(re.sub(r"^\.\*\?", "[^;]*?", re.sub(r"\.\*\?$", "[^;]*", inner)))
    return tuple(map(re.compile, found))


def uncovered(message: str) -> str:
    """What of a message no text of the source accounts for, without its first word `error:` or `warning:`."""
    left = re.sub(r"^(error|warning): ", "", message)
    spans = [found.span() for text in texts() if (found := text.search(left)) and found.end() > found.start()]
    return "".join(
        char for place, char in enumerate(left) if not any(start <= place < end for start, end in spans)
    ).strip()


@pytest.mark.parametrize("message", QUOTED, ids=lambda message: message[:40])
def test_a_quoted_message_is_one_that_is_printed(message):
    assert len(uncovered(message)) <= max(LEAST, len(message) // 3), uncovered(message)


def test_a_message_that_nothing_prints_is_found_out():
    assert len(QUOTED) > 20
    assert len(uncovered("error: the moon is in the wrong house, so that no embedding can be had tonight.")) > LEAST
