"""What the processor's engines share: one inference request a core, one image a request."""

from __future__ import annotations

import queue
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from cxrfeat import machine
from cxrfeat.backbones.engine import Floats, Images

MAX_SEATS = 32


class Request(Protocol):
    """One copy of a network that runs on one core."""

    def infer(self, image: Floats) -> Sequence[Floats]:
        """Run the network on one image.

        Parameters
        ----------
        image : ndarray of float32, shape (1, 1, size, size)
            Grey values, 0 to 255.

        Returns
        -------
        sequence of ndarray of float32
            Per output: (1, dim) or (1, dim, gh, gw). May be overwritten by the next call.
        """
        ...


@dataclass
class SeatedEngine:
    """A network in as many copies as there are cores; see `engine.Engine`.

    One copy a core rather than all cores on one batch: a network's tensors then stay in a core's own cache, and no core
    waits for another at the end of a layer. One image a call: larger batches were no faster, and with them a row's last
    bit would depend on its neighbours.
    """

    name: str
    seats: int
    requests: queue.SimpleQueue[Request]
    batch: int = 1

    @classmethod
    def of(cls, name: str, requests: Sequence[Request]) -> SeatedEngine:
        """Return the engine over these requests."""
        waiting: queue.SimpleQueue[Request] = queue.SimpleQueue()
        for request in requests:
            waiting.put(request)
        return cls(name, len(requests), waiting)

    def run(self, images: Images) -> tuple[Floats, ...]:
        """See `engine.Engine.run`. Calls beyond `seats` wait for a request to come free."""
        with self._seat() as request:
            parts = [
                [_shaped(values) for values in request.infer(image[None, None].astype(np.float32))] for image in images
            ]
        return tuple(np.concatenate(output) for output in zip(*parts, strict=True))

    @contextmanager
    def _seat(self) -> Iterator[Request]:
        request = self.requests.get()
        try:
            yield request
        finally:
            self.requests.put(request)


def _shaped(values: Floats) -> Floats:
    """Channels last; a copy, since the request's memory is used again."""
    return values.copy() if values.ndim == 2 else np.ascontiguousarray(values.transpose(0, 2, 3, 1))


def seats() -> int:
    """How many requests are opened: one for each core that the process may use."""
    return min(machine.cores(), MAX_SEATS)
