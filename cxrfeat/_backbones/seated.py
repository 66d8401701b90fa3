"""What the processor's engines share: one inference request a core, a few images a request."""

from __future__ import annotations

import queue
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from cxrfeat import _machine as machine
from cxrfeat._backbones.engine import Floats, Images

MAX_SEATS = 32


class Request(Protocol):
    """One copy of a network that runs on one core."""

    def infer(self, images: Floats) -> Sequence[Floats]:
        """Run the network on one batch.

        Parameters
        ----------
        images : ndarray of float32, shape (batch, 1, size, size)
            Grey values, 0 to 255.

        Returns
        -------
        sequence of ndarray of float32
            Per output: (batch, dim) or (batch, dim, gh, gw). May be overwritten by the next call.
        """
        ...


@dataclass
class SeatedEngine:
    """A network in as many copies as there are cores; see `engine.Engine`.

    One copy a core rather than all cores on one batch: a network's tensors then stay in a core's own cache, and no core
    waits for another at the end of a layer.
    """

    name: str
    seats: int
    requests: queue.SimpleQueue[Request]
    batch: int = 1

    @classmethod
    def of(cls, name: str, requests: Sequence[Request], batch: int = 1) -> SeatedEngine:
        """Return the engine over these requests, each of which takes `batch` images a call."""
        waiting: queue.SimpleQueue[Request] = queue.SimpleQueue()
        for request in requests:
            waiting.put(request)
        return cls(name, len(requests), waiting, batch)

    def run(self, images: Images) -> tuple[Floats, ...]:
        """See `engine.Engine.run`. Calls beyond `seats` wait for a request to come free."""
        parts = []
        with self._seat() as request:
            for start in range(0, len(images), self.batch):
                block = images[start : start + self.batch]
                full = np.zeros((self.batch, 1, *block.shape[1:]), np.float32)
                full[: len(block), 0] = block
                parts.append([_shaped(values[: len(block)]) for values in request.infer(full)])
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
