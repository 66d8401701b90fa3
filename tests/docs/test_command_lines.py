"""Every `cxrfeat ...` in the README and the pages is a command there is, with options it takes. Nothing is run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
from cxrfeat_cli.main import cli

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^ *```(\w*)[^\n]*\n(.*?)^ *```", re.M | re.S)
SHELLS = {"", "bash", "sh", "console"}
COMMENT = re.compile(r"(?:^|\s)#.*$", re.M)
CALL = re.compile(r"(?<![\w./-])cxrfeat(?= [a-z-])[^\n]*")


def calls(page: Path) -> list[tuple[str, bool]]:
    """Every command line of a page, and whether it stands in a block; in a sentence, arguments may be left out."""
    text = page.read_text()
    found = [
        (call, True)
        for language, block in FENCE.findall(text)
        if language in SHELLS
        for call in CALL.findall(COMMENT.sub("", block.replace("\\\n", " ")))
    ]
    inline = re.findall(r"`(cxrfeat [a-z][^`]*)`", FENCE.sub("", text))
    # A help text, as docs/commands.md holds, has its examples indented under "Example:".
    for help_text in re.findall(r"Example:\n((?:    .*\n)+)", text):
        found += [(call, True) for call in CALL.findall(help_text)]
    return found + [(" ".join(call.split()), False) for call in inline]


def words_of(call: str) -> list[list[str]]:
    """The words of each cxrfeat command on a line, without comments, other commands and redirections."""
    parts = re.findall(r"""(?:"[^"]*"|'[^']*'|[^|&;<>"'])+|[|&;]+|[<>]+""", call)
    commands = [shlex.split(part, comments=True) for k, part in enumerate(parts) if k == 0 or parts[k - 1][0] in "|&;"]
    return [command[1:] for command in commands if command[:1] == ["cxrfeat"]]


def complaint(words: list[str], whole: bool) -> str:
    """What click has against a command line; empty if nothing."""
    command, context = cli, click.Context(cli, info_name="cxrfeat")
    try:
        while isinstance(command, click.Group) and words:
            name, *words = words
            if name.startswith("-"):
                return ""
            inner = command.get_command(context, name)
            if inner is None:
                return f"there is no command {name!r}"
            command, context = inner, click.Context(inner, info_name=name, parent=context)
        rest = [word for word in words if word not in ("--help", "-h", "…", "...")]
        if not isinstance(command, click.Group):
            command.make_context(command.name, rest, parent=context.parent)
    except click.MissingParameter as error:
        return error.format_message() if whole else ""
    except click.BadOptionUsage as error:  # an option named in a sentence, without its value
        return error.format_message() if whole else ""
    except click.UsageError as error:
        found = error.format_message()
        return "" if found.endswith("does not exist.") else found  # an example's file
    return ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_command_line_of_a_page_could_be_typed(page):
    text = page.read_text()
    declared = re.findall(r'^([\w-]+) = "[\w.]+:\w+"$', text, re.M)  # entry points of an example
    declared += re.findall(r"weights import .*--as ([\w-]+)", text)  # networks that the page imports
    wrong = {
        call: found
        for call, whole in calls(page)
        for words in words_of(call)
        if (found := complaint(words, whole)) and not any(repr(name) in found for name in declared)
    }
    assert wrong == {}


def test_command_lines_are_found_and_wrong_ones_told():
    """The check itself: blocks, sentences and pipes are read, and what click would refuse is refused."""
    assert sum(len(calls(page)) for page in PAGES) > 150
    line = 'cxrfeat evaluate --by sex && cxrfeat study build a --separator ";" > a.txt  # both'
    assert words_of(line) == [["evaluate", "--by", "sex"], ["study", "build", "a", "--separator", ";"]]
    assert complaint(["evaluate", "--bye", "sex"], True).startswith("No such option")
    assert complaint(["cache", "mend"], True) == "there is no command 'mend'"
    assert complaint(["extract", "sample", "--size", "tiny"], True).startswith("Invalid value")
    assert complaint(["cache", "repair"], True).startswith("Missing argument")
    assert complaint(["cache", "repair"], False) == ""
