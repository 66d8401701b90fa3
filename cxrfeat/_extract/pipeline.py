"""From image files to embeddings on every core: read, hash, decode once, render every pass, run the network.

There are no stages with queues between them. Each worker processes a few images from their files to their embeddings
and only then takes the next ones, so every core is busy whatever the balance of decoding and network, memory is bounded
by the number of workers, and nothing runs ahead. A worker waits while all streams of the engine are busy. There are
more workers than cores, since a decoder keeps Python's lock: what waits inside the engine meanwhile needs none.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from queue import SimpleQueue

import cv2
import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from cxrfeat import _machine as machine
from cxrfeat._backbones.engine import Engine, Floats, Images
from cxrfeat._extract.ahead import Ahead
from cxrfeat._extract.earlier import Earlier, Known
from cxrfeat._images import decode, prepare
from cxrfeat._images.helper import Helper
from cxrfeat._recipe import Recipe
from cxrfeat._remote import Place
from cxrfeat.errors import CxrfeatError, RecipeError, StorageError, UnavailableError

CHUNK = 3
"""Images in a worker's batch, where the engine's is not larger: few, so that none has the last ones alone."""

MANY = 500
"""Images from which on it is worth starting processes: see `apart`."""

AHEAD = 128
"""Batches whose known embeddings are read together: a single row costs as much as the block it is in."""


@dataclass
class Seconds:
    """Where the time of the workers went, seconds summed over workers; `write` is the collecting thread's."""

    decode: float = 0.0
    render: float = 0.0
    network: float = 0.0
    wait: float = 0.0
    write: float = 0.0

    def add(self, other: Seconds) -> None:
        """Add another worker's."""
        for f in fields(self):
            setattr(self, f.name, getattr(self, f.name) + getattr(other, f.name))

    def shares(self, workers: int, at_work: int) -> dict[str, float]:
        """Where the time of so many workers went, of whom so many can be at work: shares that add up to 1."""
        spent = {f.name: getattr(self, f.name) for f in fields(self)}
        # The others always wait: only waiting beyond that shows a bottleneck.
        spent["wait"] = max(0.0, spent["wait"] - sum(spent.values()) * (workers - at_work) / max(workers, 1))
        total = sum(spent.values()) or 1.0
        return {name: value / total for name, value in spent.items()}


@dataclass(frozen=True)
class Item:
    """One image to embed: a file, named as the study's table `listed` it, or the decoded picture.

    `fetch` waits for the bytes of a file that was asked for already.
    """

    image_id: str
    path: Place
    listed: str = ""
    grey: decode.Grey | None = field(default=None, compare=False)
    fetch: Callable[[], bytes] | None = field(default=None, compare=False)


@dataclass
class Prepared:
    """A batch before the network: the renderings to embed, (n, size, size), and what is known of each image already."""

    image_ids: list[str] = field(default_factory=list)
    sha256: list[bytes] = field(default_factory=list)
    known: list[Floats | None] = field(default_factory=list)
    rendered: Images | None = None
    failures: list[tuple[Item, str]] = field(default_factory=list)
    away: list[tuple[Item, str]] = field(default_factory=list)
    seconds: Seconds = field(default_factory=Seconds)
    voi: Counter[str] = field(default_factory=Counter)


@dataclass
class Block:
    """One batch's result: embeddings float32 (passes, n, dim), hashes of the files, failures with their reasons.

    `voi` counts what decided black and white, of the images where something had to: see `decode.Film`. `away` are those
    that no store gave now, and that may be tried again. Where another process wrote the rows already, `shard` names the
    file, and `embeddings` has none.
    """

    image_ids: list[str]
    sha256: npt.NDArray[np.uint8]
    embeddings: Floats
    failures: list[tuple[Item, str]]
    seconds: Seconds = field(default_factory=Seconds)
    voi: Counter[str] = field(default_factory=Counter)
    shard: str = ""
    away: list[tuple[Item, str]] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Images processed, embedded or failed."""
        return len(self.image_ids) + len(self.failures) + len(self.away)


def run(
    items: Sequence[Item], recipe: Recipe, engine: Engine, workers: int | None = None, earlier: Earlier | None = None
) -> Generator[Block]:
    """Embed images, in order, a block at a time; renderings that `earlier` has are taken from there.

    Closing the generator (as Ctrl-C does) stops the workers after the batches they are processing. The default of
    `workers` keeps the machine busy.
    """
    chunk = max(CHUNK, engine.batch)
    workers = workers or workers_for(engine)
    # Little work is spread over all workers: the last images should not be one worker's.
    chunk = max(engine.batch, min(chunk, -(-len(items) // workers)))
    streams = threading.Semaphore(engine.streams)
    stop = threading.Event()

    helpers = [Helper() for _ in range(workers)] if apart(engine, len(items)) else []
    free: SimpleQueue[Callable[..., prepare.Squares]] = SimpleQueue()
    for number in range(workers):
        free.put(helpers[number] if helpers else prepare.squares)

    def process(batch: Sequence[Item], known: Known) -> Block | None:
        squares = free.get()
        try:
            if stop.is_set():
                return None
            return embed_batch(prepare_batch(batch, recipe, known, squares), recipe, engine, streams)
        finally:
            free.put(squares)

    ahead = Ahead(items)
    pending: deque[Future[Block | None]] = deque()
    with _single_threaded_libraries(), ThreadPoolExecutor(workers, thread_name_prefix="cxrfeat") as pool:
        try:
            known: Known = {}
            for number, start in enumerate(range(0, len(items), chunk)):
                if earlier is not None and number % AHEAD == 0:
                    known = earlier.read([item.image_id for item in items[start : start + AHEAD * chunk]])
                pending.append(pool.submit(process, ahead.batch(start, start + chunk), known))
                if len(pending) > 2 * workers:
                    yield _result(pending.popleft())
            while pending:
                yield _result(pending.popleft())
        finally:
            stop.set()
            ahead.close()
            for future in pending:
                future.cancel()
            _wait(pending)
            for helper in helpers:
                helper.close()


def workers_for(engine: Engine) -> int:
    """How many workers keep this machine busy: the engine's streams, and at least one more than cores."""
    return max(engine.streams, machine.cores() + 1)


def apart(engine: Engine, images: int) -> bool:
    """Whether images are prepared in processes: threads would wait for the decoder, which keeps Python's lock.

    They do on more than `decode.FEW_CORES`, and wherever the network does not keep the cores busy. A process takes a
    third of a second to start.
    """
    return images >= MANY and (machine.cores() > decode.FEW_CORES or engine.streams < machine.cores())


def _result(future: Future[Block | None]) -> Block:
    block = future.result()
    assert block is not None, "a block is only dropped once the generator is closed"
    return block


def _wait(futures: Sequence[Future[Block | None]]) -> None:
    """Wait until no worker is at work, however often Ctrl-C is pressed meanwhile.

    An interrupted `Thread.join` can take a thread for ended that is not (CPython 3.11, beside its note on bpo-45274);
    met in an engine by the end of the interpreter, such a thread aborts the process.
    """
    while True:
        try:
            wait(futures)
            return
        except KeyboardInterrupt:  # the first one is what ends the work, and is on its way
            continue


def prepare_batch(
    batch: Sequence[Item], recipe: Recipe, known: Known, squares: Callable[..., prepare.Squares] = prepare.squares
) -> Prepared:
    """Read, hash, decode and render some images; one that cannot be used is a failure and ends nothing."""
    done, rendered = Prepared(), list[npt.NDArray[np.generic]]()
    if not any(item.fetch for item in batch):  # in a process that was given no more than this batch
        batch = Ahead(batch).batch(0, len(batch))
    for item in batch:
        begun = time.perf_counter()
        try:
            source, digest = _load(item)
            digest_before, embeddings = known.get(item.image_id, (b"", None))
            embeddings = embeddings if digest_before == digest else None
            found = squares(source, recipe, item.image_id, 0 if embeddings is None else len(embeddings))
        except UnavailableError as error:
            done.away.append((item, f"cannot be read now: {error}"))
            continue
        except (RecipeError, StorageError):
            raise
        except CxrfeatError as error:
            done.failures.append((item, str(error)))
            continue
        except Exception as error:  # a decoder's own: one image must not end the others' extraction
            # Only the kind of error is reported: the message may quote the file, and with it a patient's name.
            done.failures.append((item, f"cannot be decoded ({type(error).__name__})."))
            continue
        done.known.append(embeddings)
        done.voi.update([found.voi] if found.voi else [])
        rendered += list(found.pixels)
        done.image_ids.append(item.image_id)
        done.sha256.append(digest)
        done.seconds.render += found.render
        done.seconds.decode += time.perf_counter() - begun - found.render
    done.rendered = np.stack(rendered) if rendered else None
    return done


def embed_batch(batch: Prepared, recipe: Recipe, engine: Engine, streams: threading.Semaphore) -> Block:
    """Run the network on prepared images, once one of the engine's `streams` is free."""
    passes, ids = recipe.passes + 1, batch.image_ids
    hashes = np.frombuffer(b"".join(batch.sha256), np.uint8).reshape(-1, 32)
    embeddings: Floats = np.zeros((passes, 0, 0), np.float32)
    if ids:
        begun = admitted = time.perf_counter()
        flat: Floats | None = None
        if batch.rendered is not None:
            with streams:
                admitted = time.perf_counter()
                flat = engine.run(batch.rendered)[0]
        batch.seconds.wait += admitted - begun
        batch.seconds.network += time.perf_counter() - admitted
        embeddings = _put_together(batch.known, flat, passes)
    return Block(ids, hashes, embeddings, batch.failures, batch.seconds, batch.voi, away=batch.away)


def _put_together(there: Sequence[Floats | None], flat: Floats | None, passes: int) -> Floats:
    """Embeddings (passes, n, dim): of each image the first passes that are `there`, then its own rows of `flat`."""
    start, parts = 0, []
    for known in there:
        missing = passes - (0 if known is None else len(known))
        new = [] if flat is None else [flat[start : start + missing]]
        parts.append(np.concatenate([*([] if known is None else [known]), *new]))
        start += missing
    return np.stack(parts, axis=1)


def _load(item: Item) -> tuple[bytes | decode.Grey, bytes]:
    """The file's bytes or the picture, and the SHA-256 of either."""
    if item.grey is not None:
        return item.grey, hashlib.sha256(item.grey.tobytes()).digest()
    data = item.fetch() if item.fetch else decode.read_bytes(item.path)
    return data, hashlib.sha256(data).digest()


@contextmanager
def _single_threaded_libraries() -> Iterator[None]:
    # The workers are the parallelism; OpenCV's own threads and NumPy's would only fight them for the cores.
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with threadpool_limits(1, "blas"):
            yield
    finally:
        cv2.setNumThreads(before)
