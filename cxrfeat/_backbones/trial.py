"""Which way of running a network is the fastest on this machine: tried out once, for seconds, and remembered.

Processors differ too much for a rule: of two engines, one was twice as fast as the other on a processor with AVX-512,
and a tenth slower on one without. What came out is kept in the user's cache folder, one small file for each question,
and is true of one machine and of the versions that were tried.
"""

from __future__ import annotations

import hashlib
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cxrfeat import _files as files
from cxrfeat import _machine as machine
from cxrfeat._backbones.engine import Engine
from cxrfeat.errors import EngineError

ROUNDS, ROUND_SECONDS = 3, 0.4
"""Every way runs in turn, so that a machine that is busy for a moment is so for all of them."""

LEVEL = 0.03
"""A difference that another trial might turn round."""


@dataclass(frozen=True)
class Way:
    """An engine, and how many images one of its calls takes."""

    engine: str
    batch: int

    def __str__(self) -> str:
        return f"{self.engine}, {self.batch} image{'s' * (self.batch > 1)} a call"


def remembered(question: Mapping[str, Any]) -> Way | None:
    """Return what an earlier trial found, None if there was none.

    Parameters
    ----------
    question : mapping
        Everything that the answer depends on, as JSON can say it.
    """
    try:
        kept = json.loads(_place(question).read_text())
        return Way(str(kept["way"]["engine"]), int(kept["way"]["batch"])) if kept["question"] == question else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def settle(
    question: Mapping[str, Any], ways: Sequence[Way], size: int, open_way: Callable[[Way], Engine]
) -> tuple[Way, dict[Way, float]]:
    """Try all ways and remember the fastest; of those that are level, the one that was named first.

    Parameters
    ----------
    question : mapping
        See `remembered`.
    ways : sequence of Way
        What is to be tried.
    size : int
        Side of the network's input, pixels.
    open_way : callable
        Makes a way ready to run.

    Returns
    -------
    Way
        The fastest.
    dict of float
        Images per second by way, in the order given; without those that cannot be opened here.

    Raises
    ------
    EngineError
        If none can be opened.
    """
    rates = race(ways, size, open_way)
    best = next(way for way, rate in rates.items() if rate > (1 - LEVEL) * max(rates.values()))
    answer = {
        "question": question,
        "way": asdict(best),
        "images_per_second": {str(way): round(rate, 1) for way, rate in rates.items()},
    }
    with suppress(OSError):  # a cache folder that cannot be written costs a trial each time, and nothing else
        files.write_atomically(_place(question), json.dumps(answer, indent=1))
    return best, rates


def race(ways: Sequence[Way], size: int, open_way: Callable[[Way], Engine]) -> dict[Way, float]:
    """Time every way with all its seats busy; see `settle`."""
    engines: dict[Way, Engine] = {}
    first_error: EngineError | None = None
    for way in ways:
        try:
            engines[way] = open_way(way)
        except EngineError as error:
            first_error = first_error or error
    if not engines:
        raise first_error or EngineError("there is no engine to try.")
    images = np.random.default_rng(0).integers(0, 256, (max(way.batch for way in ways), size, size), dtype=np.uint8)
    rates: dict[Way, list[float]] = {way: [] for way in engines}
    for way, engine in engines.items():
        _rate(engine, images[: way.batch], 0.0)  # what is made at the first call is not counted
    for _ in range(ROUNDS):
        for way, engine in engines.items():
            rates[way].append(_rate(engine, images[: way.batch], ROUND_SECONDS))
    found = {way: statistics.median(values) for way, values in rates.items()}
    # A batch that the memory did not hold was halved, and what was timed is another way.
    return {way: rate for way, rate in found.items() if engines[way].batch == way.batch} or found


def _rate(engine: Engine, images: np.ndarray, seconds: float) -> float:
    """Images per second of all seats together, each at least one call."""
    begun = time.perf_counter()

    def sit(_: int) -> int:
        calls = 0
        while not calls or time.perf_counter() - begun < seconds:
            engine.run(images)
            calls += 1
        return calls

    with ThreadPoolExecutor(engine.seats) as pool:
        calls = sum(pool.map(sit, range(engine.seats)))
    return calls * len(images) / (time.perf_counter() - begun)


def _place(question: Mapping[str, Any]) -> Path:
    digest = hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()
    return machine.cache_folder() / "trials" / f"{digest[:16]}.json"
