"""The FAQ quotes messages as cxrfeat prints them: each is held against the texts in the source."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
QUOTED = [
    " ".join(text.split())
    for text in re.findall(r"^```text\n(.*?)^```", (ROOT / "docs" / "faq.md").read_text(), re.M | re.S)
]
LEAST = 24


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
            if sum(map(len, parts)) >= 10:
                inner = "".join(re.escape(part) if part else ".*?" for part in parts)
                inner = re.sub(r"`\w+(?:=[^`]*)?`", ".*?", inner)  # an option, which commands show as their flag
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
