"""Looking ids up among millions, in 12 bytes an id beside the ids themselves; a dict takes more than 150.

Ids are fixed-length UTF-8, as files hold them. They are found by a 64-bit hash and then compared, so that two ids with
one hash cost time and no error. The hash is seeded anew in every process: no file can be made to have many of these.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from cxrfeat._store.rows import decode_texts

_SEEDS = np.frombuffer(os.urandom(8 * 129), "<u8") | np.uint64(1)
_AT_ONCE = 1 << 16  # ids looked at together, so that what is made of them stays small


class Ids:
    """Ids by position, and positions by id."""

    def __init__(self, texts: npt.NDArray[np.bytes_]) -> None:
        self.texts = np.ascontiguousarray(texts)

    def __len__(self) -> int:
        return len(self.texts)

    @cached_property
    def problem(self) -> str:
        """What is wrong with the ids as such; empty if nothing is."""
        try:
            for start in range(0, len(self), _AT_ONCE):
                decode_texts(self.texts[start : start + _AT_ONCE])
        except UnicodeDecodeError:
            return "its image ids are not UTF-8"
        return ""

    def decoded(self, part: slice) -> npt.NDArray[np.str_]:
        """The ids of some rows as text."""
        texts = self.texts[part]
        return np.char.decode(texts, "utf-8", "replace") if self.problem else decode_texts(texts)

    def find(self, wanted: Sequence[str] | npt.NDArray[np.str_]) -> npt.NDArray[np.int64]:
        """Return the position of each id, -1 where there is none: int64 (len(wanted),)."""
        out = np.full(len(wanted), -1, np.int64)
        for start in range(0, len(wanted) if len(self) else 0, _AT_ONCE):
            texts = _encode(wanted[start : start + _AT_ONCE])
            out[start : start + len(texts)] = self._find(texts)
        return out

    @cached_property
    def twice(self) -> npt.NDArray[np.int64]:
        """Positions of two rows with the same id, int64 (2,); empty if each id is there once."""
        keys, order = self._index
        run = np.zeros(len(self), np.int64)  # how many rows before this one, in order, have its hash
        same = np.flatnonzero(keys[1:] == keys[:-1]) + 1
        for at in same.tolist():
            run[at] = run[at - 1] + 1
            for other in range(at - run[at], at):
                if self.texts[order[other]] == self.texts[order[at]]:
                    return np.sort(order[[other, at]].astype(np.int64))
        return np.zeros(0, np.int64)

    def _find(self, texts: npt.NDArray[np.bytes_]) -> npt.NDArray[np.int64]:
        first = int(self._look_up(texts[:1])[0])
        # Most are asked for in the order of the rows.
        if first >= 0 and np.array_equal(self.texts[first : first + len(texts)], texts):
            return np.arange(first, first + len(texts))
        return self._look_up(texts)

    def _look_up(self, texts: npt.NDArray[np.bytes_]) -> npt.NDArray[np.int64]:
        keys, order = self._index
        hashes = _hash(texts)
        in_order, at = np.argsort(hashes), np.empty(len(texts), np.int64)
        at[in_order] = np.searchsorted(keys, hashes[in_order])  # four times as fast as in any order
        out = np.full(len(texts), -1, np.int64)
        left = np.arange(len(texts))
        while len(left):
            left = left[at[left] < len(keys)]
            left = left[keys[at[left]] == hashes[left]]
            found = order[at[left]]
            same = self.texts[found] == texts[left]
            out[left[same]] = found[same]
            left = left[~same]
            at[left] += 1  # another id with the same hash
        return out

    @cached_property
    def _index(self) -> tuple[npt.NDArray[np.uint64], npt.NDArray[Any]]:
        """Hashes in ascending order, and whose they are."""
        hashes = np.empty(len(self), np.uint64)
        for start in range(0, len(self), _AT_ONCE):
            hashes[start : start + _AT_ONCE] = _hash(self.texts[start : start + _AT_ONCE])
        order = np.argsort(hashes, kind="stable")
        small: npt.NDArray[Any] = order.astype(np.uint32) if len(self) < 1 << 32 else order
        return hashes[small], small


def _encode(wanted: Sequence[str] | npt.NDArray[np.str_]) -> npt.NDArray[np.bytes_]:
    texts = np.asarray(wanted, dtype=np.str_)
    try:
        return texts.astype(np.bytes_)  # ASCII, as nearly all are
    except UnicodeEncodeError:
        return np.char.encode(texts, "utf-8", "surrogatepass")


def _hash(texts: npt.NDArray[np.bytes_]) -> npt.NDArray[np.uint64]:
    """64 bits of each text, whatever the length to which it is padded."""
    words = -(-texts.dtype.itemsize // 8)
    padded = np.ascontiguousarray(texts.astype(f"S{8 * words}")).view("<u8").reshape(len(texts), words)
    out = np.zeros(len(texts), np.uint64)
    for number in range(words):
        word = padded[:, number] * _SEEDS[number]
        word ^= word >> np.uint64(32)
        out ^= word * _SEEDS[-1]  # nothing for a word of zeros
    return out ^ (out >> np.uint64(29))
