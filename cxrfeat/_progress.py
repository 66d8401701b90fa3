"""Progress of long work, by callback; the library itself prints nothing."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called while work is under way; the commands pass one that draws a bar on stderr."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Take the units of work done, their total, and a short note on the last of them."""


def part(progress: Progress, before: int, total: int, note: str = "") -> Progress:
    """Report work as a part of more: `before` units are done already, of `total`."""
    return lambda done, _, __="": progress(before + done, total, note)


def silent(done: int, total: int, note: str = "") -> None:
    """Do nothing."""
