"""Where an extraction's work is done: what every place gives, and this machine, which is the usual one."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

from cxrfeat._backbones.engine import Engine
from cxrfeat._extract import pipeline
from cxrfeat._extract.earlier import Earlier
from cxrfeat._extract.pipeline import Block, Item
from cxrfeat._store import Writer


@dataclass
class Execution:
    """Work that is being done: its blocks as they come, and what does it.

    `workers` share the time, and `at_work` of them can be at work at a time. `about` is for the
    provenance, and whole once a block came: `engine`, `batch`, `streams`, and what else there is.
    """

    blocks: Generator[Block]
    workers: int
    at_work: int
    about: dict[str, Any] = field(default_factory=dict)


@contextmanager
def local(
    writer: Writer, todo: Sequence[Item], open_engine: Callable[[], Engine], workers: int | None
) -> Iterator[Execution]:
    """Embed on this machine; the blocks hold the embeddings."""
    # The engine is this function's alone: its memory is free again before the file is put together.
    engine = open_engine()
    with ExitStack() as open_files:
        if (earlier := Earlier.find(writer.path, writer.recipe)) is not None:
            open_files.enter_context(earlier.file)
        blocks = open_files.enter_context(closing(pipeline.run(todo, writer.recipe, engine, workers, earlier)))
        about = {"engine": engine.name, "batch": engine.batch, "streams": engine.streams}
        threads = workers or pipeline.workers_for(engine)
        yield Execution(blocks, threads, max(1, threads - 1), about)
