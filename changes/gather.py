"""Gather the fragments of this folder into `CHANGELOG.md`. Run by `make release-notes [VERSION=0.2.0]`.

Each `NAME.KIND.md` becomes one point under its heading of the section [Unreleased] and is removed. With a version, that
section then becomes the release's, dated today, and a new empty [Unreleased] stands above it.
"""

from __future__ import annotations

import datetime
import re
import sys
import textwrap
from pathlib import Path

KINDS = {"added": "Added", "changed": "Changed", "fixed": "Fixed", "removed": "Removed"}
UNRELEASED = "## [Unreleased]"
WIDTH = 120


def gather(folder: Path, changelog: Path, version: str = "", today: str = "") -> list[Path]:
    """Write the fragments of a folder into the changelog and remove them.

    Parameters
    ----------
    folder, changelog : Path
    version : str
        Of the release that these notes are of; without one they stay unreleased.
    today : str
        The release's date, YYYY-MM-DD.

    Returns
    -------
    list of Path
        The fragments, which are gone.

    Raises
    ------
    ValueError
        If a fragment's kind is unknown or it says nothing, the changelog has no section for it, or the version is no
        version or is in the changelog already. Nothing is changed then.
    """
    text = changelog.read_text(encoding="utf-8")
    before, found, rest = text.partition(UNRELEASED)
    if not found:
        raise ValueError(f"{changelog.name} has no section {UNRELEASED}.")
    if version and not re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?", version):
        raise ValueError(f"{version!r} is no version: give one such as 0.2.0.")
    if version and f"## [{version}]" in rest:
        raise ValueError(f"{changelog.name} has a section of {version} already.")
    own, older = re.match(r"(.*?)(?=^## |\Z)(.*)", rest, re.S | re.M).groups()  # type: ignore[union-attr]
    points = _points(own)
    fragments = sorted(path for path in folder.glob("*.md") if path.name != "README.md")
    for path in fragments:
        points.setdefault(_heading(path), []).append(_point(path))
    order = [*KINDS.values(), *(heading for heading in points if heading not in KINDS.values())]
    body = "".join(f"### {name}\n\n" + "".join(points[name]) + "\n" for name in order if points.get(name))
    title = f"{UNRELEASED}\n\n## [{version}] - {today}" if version else UNRELEASED
    changelog.write_text(f"{before}{title}\n\n{body}{older}".rstrip() + "\n", encoding="utf-8")
    for path in fragments:
        path.unlink()
    return fragments


def _points(section: str) -> dict[str, list[str]]:
    """What a section has already: its headings, each with the text below it as one piece."""
    pieces = re.split(r"^### (.+)\n", section, flags=re.M)[1:]
    return {
        name.strip(): [text.strip("\n") + "\n"] for name, text in zip(pieces[::2], pieces[1::2], strict=True) if text
    }


def _heading(path: Path) -> str:
    kind = path.name.split(".")[-2] if path.name.count(".") >= 2 else ""
    if kind not in KINDS:
        raise ValueError(f"{path.name} is no fragment: call it NAME.KIND.md, KIND one of {', '.join(KINDS)}.")
    return KINDS[kind]


def _point(path: Path) -> str:
    said = " ".join(path.read_text(encoding="utf-8").split()).removeprefix("- ")
    if not said:
        raise ValueError(f"{path.name} says nothing.")
    options = {"break_long_words": False, "break_on_hyphens": False}
    return textwrap.fill(said, WIDTH, initial_indent="- ", subsequent_indent="  ", **options) + "\n"


def main(words: list[str]) -> None:
    """Gather the fragments beside this file; a mistake is a sentence and exit code 2."""
    folder = Path(__file__).resolve().parent
    try:
        done = gather(folder, folder.parent / "CHANGELOG.md", "".join(words), datetime.date.today().isoformat())
    except ValueError as why:
        print(f"changes/gather.py: {why}", file=sys.stderr)
        raise SystemExit(2) from why
    print(f"gathered {len(done)} fragments into CHANGELOG.md")


if __name__ == "__main__":
    main(sys.argv[1:])
