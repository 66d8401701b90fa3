"""Which images have a row, where it is, and the hash of the image's file.

A place is one number, source * 2**32 + row. A dict of tuples, or a hash as bytes for each id, would take twice the
memory, and an extraction's memory should depend on the number of its images as little as possible.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

_ROW_BITS = 32


class RowIndex(Mapping[str, bytes]):
    """SHA-256 of the image, 32 bytes, for each image id that has a row, durable or pending."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}
        self._hashes: list[npt.NDArray[np.uint8]] = []  # by source
        self._pending: dict[str, tuple[str, bytes]] = {}

    def __getitem__(self, image_id: str) -> bytes:
        if image_id in self._pending:
            return self._pending[image_id][1]
        place = self._places[image_id]
        return self._hashes[place >> _ROW_BITS][place & (1 << _ROW_BITS) - 1].tobytes()

    def __contains__(self, image_id: object) -> bool:
        return image_id in self._places or image_id in self._pending

    def __iter__(self) -> Iterator[str]:
        yield from self._places
        yield from (image_id for image_id in self._pending if image_id not in self._places)

    def __len__(self) -> int:
        return len(self._places) + sum(image_id not in self._places for image_id in self._pending)

    @property
    def durable(self) -> int:
        """How many rows are on the disk."""
        return len(self._places)

    def add(self, ids: Sequence[str], hashes: npt.NDArray[np.uint8]) -> None:
        """Enter the rows of the next source, which are durable; where an id has a row already, the new one counts.

        `hashes`, uint8 (n, 32), are kept and not copied.
        """
        first = len(self._hashes) << _ROW_BITS
        self._hashes.append(hashes)
        # Texts that were pending are the study's own: kept instead of equal ones, they take no memory of theirs.
        known = [self._pending.pop(image_id, (image_id,))[0] for image_id in ids]
        self._places.update(zip(known, range(first, first + len(ids)), strict=True))

    def pend(self, ids: Sequence[str], hashes: npt.NDArray[np.uint8]) -> None:
        """Enter rows that are not durable yet; `add` takes them over."""
        self._pending.update((i, (i, bytes(found))) for i, found in zip(ids, hashes, strict=True))

    def drop(self, ids: Iterable[str]) -> None:
        """Forget rows."""
        for image_id in ids:
            self._places.pop(image_id, None)
            self._pending.pop(image_id, None)

    def order(self, wanted: Iterable[str]) -> list[str]:
        """The ids of durable rows: those of `wanted` first, in its order and once each, then the others by place."""
        # In numbers, which take less than texts; and what is returned are the texts that are here already.
        ids, numbers = list(self._places), np.fromiter(self._places.values(), np.int64, len(self._places))
        asked = np.fromiter((self._places.get(str(i), -1) for i in wanted), np.int64)
        first = np.unique(asked, return_index=True)[1]
        asked = asked[np.sort(first)]
        asked = asked[asked >= 0]
        by_place = np.argsort(numbers)
        chosen = by_place[np.searchsorted(numbers, asked, sorter=by_place)]
        others = by_place[~np.isin(numbers[by_place], asked)]
        return [ids[k] for k in np.concatenate([chosen, others]).tolist()]

    def places(self, ids: Sequence[str]) -> npt.NDArray[np.int64]:
        """Source and row of durable rows: int64 (n, 2)."""
        found = np.fromiter((self._places[i] for i in ids), np.int64, len(ids))
        return np.stack([found >> _ROW_BITS, found & (1 << _ROW_BITS) - 1], axis=1)

    def hashes(self, places: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """Hashes of the images at `places`: uint8 (n, 32)."""
        return gather(self._hashes, places)


def gather(hashes: Sequence[npt.NDArray[np.uint8]], places: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """Take rows, uint8 (n, 32), from several sources: `places` has the source and the row of each."""
    found = np.empty((len(places), 32), np.uint8)
    for source in np.unique(places[:, 0]).tolist():
        here = places[:, 0] == source
        found[here] = hashes[source][places[here, 1]]
    return found
