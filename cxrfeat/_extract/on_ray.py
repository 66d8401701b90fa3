"""An extraction on a Ray cluster: Ray Data hands batches to a pool of workers, which write their rows as shards.

What is done is what has a shard. A worker sends back ids, hashes and failures, and embeddings go to the disk that all
nodes share. On CPUs a worker does the whole batch, as one machine does; where workers have GPUs, tasks on other cores
prepare the images. What goes wrong on a worker comes back as an answer and not as an exception of Ray's, so that it
ends the job with a sentence. A batch that is lost with its process is tried again, then in smaller ones, until an image
that ends every process is alone.
"""

from __future__ import annotations

import logging
import os
import pickle
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import numpy as np

from cxrfeat import _machine as machine
from cxrfeat._backbones import engine as engines
from cxrfeat._backbones.engine import Engine
from cxrfeat._cluster import connected, here, sentence, told
from cxrfeat._extract import pipeline
from cxrfeat._extract.earlier import Earlier
from cxrfeat._extract.execution import Execution
from cxrfeat._extract.pipeline import Block, Item, Prepared, Seconds
from cxrfeat._extract.recipes import RecipeOptions, weights_of
from cxrfeat._recipe import Recipe
from cxrfeat._store import Writer
from cxrfeat._store.journal import Shards
from cxrfeat._store.rows import Rows, encode_ids, provenance
from cxrfeat.errors import ClusterError, CxrfeatError

_log = logging.getLogger(__name__)

ROWS, MOST_ROWS = 256, 16_384
"""Images of a shard: few, since so many are lost with a worker, and more where there would be too many shards."""
SHARDS = 4096
"""Shards from which on they get larger, and batches that are handed to Ray at a time."""
CORES = 4
"""A worker's at most: beyond, its threads wait for the decoder, which keeps Python's lock."""
SMALLER = 16
"""How much smaller batches get that were lost with their workers."""
INHERITED = ("CXRFEAT_CACHE", "CXRFEAT_WEIGHTS", "KERAS_HOME", "KERAS_BACKEND")


@dataclass(frozen=True)
class Where:
    """An address with what is asked of its workers: `HOST:PORT?gpus=0.5&cpus=4`."""

    address: str | bool
    gpus: float | None = None
    cpus: int | None = None

    @classmethod
    def parse(cls, ray: str | bool) -> Where:
        """Read what `ray` says; True and what has no address are the cluster that is found."""
        address, _, asked = ray.partition("?") if isinstance(ray, str) else ("", "", "")
        try:
            said = dict(parse_qsl(asked, strict_parsing=True)) if asked else {}
            gpus, cpus = said.pop("gpus", None), said.pop("cpus", None)
            found = cls(address or True, None if gpus is None else float(gpus), None if cpus is None else int(cpus))
            if said or not 0 <= (found.gpus or 0) <= 64 or (found.cpus is not None and not 1 <= found.cpus <= 1024):
                raise ValueError
        except ValueError:
            raise ClusterError(
                f"`ray` must be ADDRESS or ADDRESS?gpus=G&cpus=C for each worker, not {ray!r}."
            ) from None
        return found


@dataclass(frozen=True)
class Job:
    """What a worker needs to know."""

    recipe: Recipe
    options: RecipeOptions
    engine: str
    shards: Shards
    session: dict[str, Any]
    cores: int
    gpus: float
    environment: dict[str, str] = field(default_factory=dict)

    def begin(self) -> None:
        """Make this process what the job needs: a share of the machine, and the folders that the driver uses."""
        for name, value in self.environment.items():
            os.environ.setdefault(name, value)
        os.environ["LOKY_MAX_CPU_COUNT"] = str(max(1, self.cores))
        machine.cores.cache_clear()
        if not self.gpus:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""


@contextmanager
def cluster(
    writer: Writer, todo: Sequence[Item], ray: str | bool, options: RecipeOptions, engine: str, workers: int | None
) -> Iterator[Execution]:
    """Embed on a cluster; the blocks name the shards that hold the embeddings."""
    where = Where.parse(ray)
    with connected(where.address) as module:
        nodes = [node["Resources"] for node in module.nodes() if node["Alive"] and node["Resources"].get("CPU")]
        gpus = where.gpus
        if gpus is None:
            gpus = float(engine != "openvino" and any(node.get("GPU") for node in nodes))
        cores, places = _places(nodes, gpus, where.cpus)
        if not places:
            raise ClusterError(
                f"no node of the cluster has {gpus:g} GPUs and {cores} cores to give, as `ray` asks for each worker."
            )
        count = min(places, workers or places)
        job = Job(
            recipe=writer.recipe,
            options=_elsewhere(options),
            engine=engine,
            shards=writer.shards(),
            session=writer.provenance,
            cores=cores,
            gpus=gpus,
            environment={name: os.environ[name] for name in INHERITED if name in os.environ},
        )
        about = {"ray": module.__version__, "nodes": len(nodes), "workers": count}
        each = f"{cores} cores" + (f" and {gpus:g} GPUs" if gpus else "")
        _log.info("Ray workers: %d, with %s each; nodes: %d.", count, each, len(nodes))
        with closing(_blocks(module, todo, job, count, about)) as blocks:
            yield Execution(blocks, count * (cores + 1), count * max(1, cores), about)


def _places(nodes: Sequence[dict[str, float]], gpus: float, cpus: int | None) -> tuple[int, int]:
    """Cores of a worker, and how many workers fit: of numbers up to CORES the one that leaves the fewest cores idle.

    Workers with GPUs take no core unless they are asked to, and leave at least one to the tasks that prepare images.
    """
    if gpus:
        cores = cpus or 0
        fits = sum(min(int(n.get("GPU", 0) / gpus), int(n["CPU"] // cores) if cores else 1 << 20) for n in nodes)
        spare = sum(n["CPU"] for n in nodes) - 1
        return cores, min(fits, int(spare // cores)) if cores else fits
    tried = [cpus] if cpus else range(1, CORES + 1)
    fit = {cores: sum(int(node["CPU"] // cores) for node in nodes) for cores in tried}
    best = max(tried, key=lambda cores: (cores * fit[cores], cores))
    return best, fit[best]


def _elsewhere(options: RecipeOptions) -> RecipeOptions:
    """The options as another folder understands them: a weights file by its whole path."""
    named = options.get("weights", "auto")
    return {"weights": str(Path(named).absolute()) if Path(named).is_file() else named}


def _blocks(ray: Any, todo: Sequence[Item], job: Job, workers: int, about: dict[str, Any]) -> Generator[Block]:
    rows = min(max(ROWS, len(todo) // SHARDS), MOST_ROWS, max(1, -(-len(todo) // (4 * workers))))
    left, lived = np.arange(len(todo)), False
    for size in dict.fromkeys((rows, max(1, rows // SMALLER), 1)):
        lost: list[np.ndarray] = []
        for start in range(0, len(left), SHARDS * size):
            part = left[start : start + SHARDS * size]
            batches = {number: part[k : k + size] for number, k in enumerate(range(0, len(part), size))}
            work = ([todo[int(k)] for k in batch] for batch in list(batches.values()))
            with closing(_answers(ray, work, job, workers)) as answers:
                for number, answer in answers:
                    if isinstance(answer, CxrfeatError):
                        raise answer
                    if batches.pop(number, None) is not None:  # else it was done twice
                        block, said = answer
                        about.update(said)
                        lived = True
                        yield block
            lost += batches.values()
        if not lost:
            return
        left = np.concatenate(lost)
        _log.warning("%d images were lost with the processes that read them; they are tried again.", len(left))
    if not lived:
        raise ClusterError(
            "every worker's process ended before its first batch did: look at Ray's logs, and at memory."
        )
    reason = "ends every process that reads it."
    yield Block([], np.zeros((0, 32), np.uint8), _no_embeddings(0), [(todo[int(k)], reason) for k in left])


def _answers(ray: Any, work: Iterator[list[Item]], job: Job, workers: int) -> Generator[tuple[int, Any]]:
    """Have batches done, and yield their numbers with the answers as they come; what is lost has none."""
    import pyarrow as pa
    from ray.data import ActorPoolStrategy, DataContext, from_arrow

    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    context = DataContext.get_current()
    before = context.enable_progress_bars, context.max_errored_blocks
    # A block that fails has been tried again already; what it held is not reported, and so known to be missing.
    context.enable_progress_bars, context.max_errored_blocks = False, -1
    try:
        tables = [
            pa.table({"number": [number], "work": [pickle.dumps([_absolute(item) for item in items])]})
            for number, items in enumerate(work)
        ]
        data: Any = from_arrow(tables)
        if job.gpus:
            data = data.map(prepare, fn_args=[job], num_cpus=1)
        pool = ActorPoolStrategy(min_size=1, max_size=workers, initial_size=workers, max_tasks_in_flight_per_actor=2)
        with warnings.catch_warnings():  # this argument has no successor yet
            warnings.filterwarnings("ignore", message=".*ray_remote_args_fn", category=DeprecationWarning)
            data = data.map(
                Worker, fn_constructor_args=[job], compute=pool, num_cpus=job.cores, num_gpus=job.gpus or None,
                # Ray Data would try for ever, on an image that ends the process too.
                ray_remote_args_fn=lambda: {"max_restarts": -1, "max_task_retries": 1},
            )  # fmt: skip
        answers: Any = iter(data.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0))
        with closing(answers), _ended(data):
            for table in answers:
                for number, answer in zip(table["number"].to_pylist(), table["answer"].to_pylist(), strict=True):
                    yield number, pickle.loads(answer)
    except ray.exceptions.RayError as error:
        raise sentence(error) from error
    finally:
        context.enable_progress_bars, context.max_errored_blocks = before


@contextmanager
def _ended(data: Any) -> Iterator[None]:
    """End a dataset's tasks with the block: left to Python's collector, they end after the connection, which fails."""
    try:
        yield
    finally:
        if (executor := getattr(data, "_current_executor", None)) is not None:
            executor.shutdown(force=True)


def _absolute(item: Item) -> Item:
    return replace(item, path=item.path.absolute()) if isinstance(item.path, Path) else item


def _answer(work: Callable[[], Any]) -> bytes:
    """What a worker answers: its result, or the error that ends the job, with the worker's name."""
    try:
        return pickle.dumps(told(work)())
    except CxrfeatError as error:
        return pickle.dumps(error)
    except Exception as error:  # the process goes on, and the extraction ends: it is our fault
        _log.exception("a batch failed")
        return pickle.dumps(ClusterError(f"{here()}: {type(error).__name__}: {error}"))


def prepare(row: dict[str, Any], job: Job) -> dict[str, Any]:
    """Prepare a batch for the workers with GPUs, in a task."""

    def work() -> Prepared:
        job.begin()
        items = pickle.loads(row["work"])
        earlier = _earlier(job.shards.file, job.recipe)
        known = earlier.read([item.image_id for item in items]) if earlier else {}
        return pipeline.prepare_batch(items, job.recipe, known)

    return {"number": row["number"], "work": _answer(work)}


class Worker:
    """An actor: the engine, and what is done with a batch."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Embed the batch of a row and write its shard."""
        return {"number": row["number"], "answer": _answer(lambda: self._do(pickle.loads(row["work"])))}

    @cached_property
    def engine(self) -> Engine:
        """Opened by the first batch, whose answer says what goes wrong."""
        job = self.job
        job.begin()
        job.shards.check()
        return engines.open_engine(job.recipe, weights_of(job.recipe, job.options), job.engine)

    def _do(self, work: list[Item] | Prepared | CxrfeatError) -> tuple[Block, dict[str, Any]]:
        if isinstance(work, CxrfeatError):
            raise work
        job, engine = self.job, self.engine
        about = {"engine": engine.name, "batch": engine.batch, "streams": engine.streams}
        if isinstance(work, Prepared):
            parts = [pipeline.embed_batch(work, job.recipe, engine, threading.Semaphore(engine.streams))]
        else:
            parts = list(pipeline.run(work, job.recipe, engine, earlier=_earlier(job.shards.file, job.recipe)))
        block = _joined(parts)
        if block.image_ids:
            session = provenance({**job.session, **about})
            found = Rows(encode_ids(block.image_ids), block.sha256, block.embeddings)
            block.shard = str(job.shards.write(job.recipe, session, found))
        block.embeddings = _no_embeddings(len(block.image_ids))
        return block, about


def _joined(parts: Sequence[Block]) -> Block:
    """Put the blocks of a batch together."""
    there = [part for part in parts if part.image_ids]
    block = Block(
        [i for part in there for i in part.image_ids],
        np.concatenate([np.zeros((0, 32), np.uint8), *(part.sha256 for part in there)]),
        np.concatenate([part.embeddings for part in there], axis=1) if there else _no_embeddings(0),
        [failure for part in parts for failure in part.failures],
        Seconds(),
        sum((part.voi for part in parts), Counter[str]()),
        away=[image for part in parts for image in part.away],
    )
    for part in parts:
        block.seconds.add(part.seconds)
    return block


def _no_embeddings(n: int) -> np.ndarray:
    return np.zeros((0, n, 0), np.float32)


@lru_cache(maxsize=1)
def _earlier(file: Path, recipe: Recipe) -> Earlier | None:
    return Earlier.find(file, recipe)
