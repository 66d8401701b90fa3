"""What an inference engine is: a frozen network that is ready to run, whatever runs it."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

Images = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


class Engine(Protocol):
    """A frozen network that is ready to run.

    Attributes
    ----------
    name : str
        Engine, version, device and precision, as the provenance keeps them.
    batch : int
        Images that one call of the network takes.
    seats : int
        Threads that may be in `run` at a time with profit.
    """

    name: str
    batch: int
    seats: int

    def run(self, images: Images) -> tuple[Floats, ...]:
        """Run the network.

        Parameters
        ----------
        images : ndarray of uint8, shape (n, size, size)
            From `images.prepare`. Any n: the engine cuts and fills up batches of its own size.

        Returns
        -------
        tuple of ndarray of float32
            The outputs that were asked for: embedding (n, dim), map (n, gh, gw, dim).
        """
        ...
