"""Progress on long work, told to whoever wants to know; the library itself prints nothing."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called as work goes on; the command line passes one that draws a bar on stderr."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """`done` of `total` units of work are finished; `note` is a few words on the last of them."""
        ...


def silent(done: int, total: int, note: str = "") -> None:
    """Tell nobody."""
