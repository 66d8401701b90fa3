"""Write `commands.md` from the commands' own help, and check every relative link of the project's pages.

Run by `make docs`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import click
from cxrfeat_cli.main import COMMANDS, cli

ROOT = Path(__file__).resolve().parents[1]
WIDTH = 90
HEAD = """# Commands

Every command with its options, as `--help` prints it. Written by `make docs`; do not edit.
"""


def commands() -> Iterator[tuple[str, click.Command, click.Context]]:
    """Every command and subcommand, with its full name."""
    top = click.Context(cli, info_name="cxrfeat", terminal_width=WIDTH, max_content_width=WIDTH)
    for name in COMMANDS:
        command = cli.get_command(top, name)
        if command is None:
            continue
        context = click.Context(command, info_name=name, parent=top)
        yield f"cxrfeat {name}", command, context
        if isinstance(command, click.Group):
            for part in command.list_commands(context):
                if (inner := command.get_command(context, part)) is not None:
                    yield f"cxrfeat {name} {part}", inner, click.Context(inner, info_name=part, parent=context)


def page() -> str:
    """The text of `commands.md`."""
    parts = [HEAD]
    for name, command, context in commands():
        parts.append(f"## {name}\n\n```text\n{command.get_help(context).rstrip()}\n```\n")
    return "\n".join(parts)


def pages() -> list[Path]:
    """Every Markdown page of the project."""
    return [
        page for pattern in ("*.md", "docs/**/*.md", "cache/*.md", "cxrfeat/**/*.md") for page in ROOT.glob(pattern)
    ]


def broken_links(paths: Iterable[Path]) -> list[str]:
    """Relative links of Markdown pages whose file or heading does not exist, as `page: link`."""
    found = []
    for path in paths:
        text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.S)
        for link in re.findall(r"\]\(([^)\s]+)\)|<img[^>]+src=\"([^\"]+)\"", text):
            target, _, heading = (link[0] or link[1]).partition("#")
            if re.match(r"[a-z]+:", target):
                continue
            file = (path.parent / target).resolve() if target else path
            if not file.exists() or (heading and heading not in headings(file)):
                found.append(f"{path.relative_to(ROOT)}: {link[0] or link[1]}")
    return found


def headings(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    lines = re.findall(r"^#+ +(.*)$", path.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines}


def main() -> int:
    """Write the page; 1 if a link is broken."""
    (ROOT / "docs" / "commands.md").write_text(page(), encoding="utf-8")
    broken = broken_links(pages())
    for line in broken:
        print(f"broken link: {line}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
