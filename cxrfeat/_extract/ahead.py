"""Reading ahead: images at addresses are asked for before a worker needs them, so that no worker waits for a store.

A store answers after 50 ms or more, in which a worker would compute nothing. So the next images are always on their
way, a bounded number of them and of bytes. Images on this machine are left to the workers.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from cxrfeat._images import decode
from cxrfeat._remote import Url

if TYPE_CHECKING:
    from cxrfeat._extract.pipeline import Item

FILMS = 128
"""Images that are on their way or have arrived before a worker takes them."""
BYTES = 1 << 28
"""Bytes that have arrived, from which on no more are asked for than workers wait for."""


class Ahead:
    """The images of an extraction, those at addresses with a way to their bytes; `close` gives up what is asked for."""

    def __init__(self, items: Sequence[Item]) -> None:
        self._items = items
        self._lock = threading.RLock()
        self._asked: dict[int, Future[bytes]] = {}
        self._waited_for: set[Future[bytes]] = set()
        self._next = self._arrived = 0
        self._closed = False

    def batch(self, start: int, stop: int) -> list[Item]:
        """Some of the images, in order."""
        return [
            replace(item, fetch=partial(self._fetch, at)) if isinstance(item.path, Url) else item
            for at, item in enumerate(self._items[start:stop], start)
        ]

    def close(self) -> None:
        """Give up everything that was asked for."""
        with self._lock:
            self._closed = True
            for answer in (*self._asked.values(), *self._waited_for):
                answer.cancel()

    def _fetch(self, at: int) -> bytes:
        with self._lock:
            if self._closed:
                raise CancelledError
            answer = self._asked.pop(at, None) or self._ask(at)
            self._waited_for.add(answer)
            self._next = max(self._next, at + 1)
            while self._next < len(self._items) and len(self._asked) < FILMS and self._arrived < BYTES:
                if isinstance(self._items[self._next].path, Url):
                    self._asked[self._next] = self._ask(self._next)
                self._next += 1
        try:
            return decode.received(answer)
        finally:
            with self._lock:
                self._waited_for.discard(answer)
                self._count(answer, -1)

    def _ask(self, at: int) -> Future[bytes]:
        path = self._items[at].path
        assert isinstance(path, Url)
        answer = decode.ask(path)
        answer.add_done_callback(partial(self._count, sign=1))
        return answer

    def _count(self, answer: Future[bytes], sign: int) -> None:
        with self._lock:
            if answer.done() and not answer.cancelled() and answer.exception() is None:
                self._arrived += sign * len(answer.result())
