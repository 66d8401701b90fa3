"""A Ray cluster: the connection to it, a look at its workers, and errors that name the worker.

Ray is an extra and is imported here alone, inside functions.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from cxrfeat import __version__
from cxrfeat.errors import ClusterError, CxrfeatError, MissingExtraError

PATIENCE = 10.0
"""Seconds within which an address answers, or nothing is there."""

GONE, ASKED = 45.0, 5.0
"""Seconds without an answer after which the head of the cluster is gone, and between two questions."""

HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""How a client of HTTP/2, and so of gRPC, begins: the preface, and settings that are empty."""
NOISE = r"failed\. There are|worker died or was killed|has been marked dead|Raylet is terminated"

_log = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")


@contextmanager
def connected(address: str | bool) -> Iterator[Any]:
    """Connect to a cluster, check its workers, and give the module `ray`; the connection ends with the block.

    True is the cluster that this process is connected to, that `RAY_ADDRESS` names or that runs on this machine; where
    there is none, one is started for the block. A ClusterError says that no Ray is at the address, which worker has
    another version of cxrfeat, or that the head of the cluster is gone.
    """
    # Ray ends a process without a word when the head has been gone for a minute.
    os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", str(10**6))
    # Ray reports its use over the network, its inner errors on stderr, and on stdout that a process or a node died.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", NOISE)
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError("A Ray cluster", "ray") from error
    there = ray.is_initialized()
    if not there:
        if isinstance(address, str) and address not in ("auto", "local"):
            _knock(address)
        named: Any = {"address": address} if isinstance(address, str) else {}
        try:
            ray.init(**named, log_to_driver=False, logging_level=logging.CRITICAL, include_dashboard=False)
        except (Exception, SystemExit) as error:
            reason = " ".join(str(error).split())[:200]
            raise ClusterError(f"no Ray cluster answers at {address!r} ({type(error).__name__}: {reason}).") from error
    try:
        with _watched(ray.get_runtime_context().gcs_address):
            _check_versions(ray)
            yield ray
    finally:
        if not there:
            ray.shutdown()


@contextmanager
def _watched(head: str) -> Iterator[None]:
    """Raise a ClusterError in the block when the head of the cluster has not answered for long, which Ray does not do.

    Only the main thread can be interrupted, and not in every call of Ray's: where it does not end, the process does.
    """
    watch = _Watch(head)

    def interrupted(number: int, frame: Any) -> None:
        if watch.gone.is_set():
            raise KeyboardInterrupt  # Ray's calls end for no other error
        if callable(before):
            before(number, frame)

    before = signal.getsignal(signal.SIGINT)
    if watch.interrupts:
        signal.signal(signal.SIGINT, interrupted)
    watch.start()
    try:
        yield
    except KeyboardInterrupt:
        if watch.gone.is_set():
            raise ClusterError(watch.said) from None
        raise
    finally:
        watch.over.set()
        if watch.interrupts:
            signal.signal(signal.SIGINT, before)


class _Watch(threading.Thread):
    """Asks the head of a cluster, HOST:PORT, until it is `over` or the head is `gone`."""

    def __init__(self, head: str) -> None:
        super().__init__(name="cxrfeat-watch", daemon=True)
        host, _, port = head.rpartition(":")
        self.head = host.strip("[]"), int(port)
        self.said = (
            f"the head of the Ray cluster, {head}, has not answered for {GONE:.0f} seconds. Start it again and repeat "
            "this: an extraction goes on where it ended."
        )
        self.over, self.gone = threading.Event(), threading.Event()
        self.interrupts = threading.current_thread() is threading.main_thread() and hasattr(signal, "pthread_kill")

    def run(self) -> None:
        missed = 0.0
        while missed < GONE:
            if self.over.wait(ASKED):
                return
            try:
                socket.create_connection(self.head, timeout=ASKED).close()
                missed = 0
            except OSError:
                missed += ASKED
        self.gone.set()
        if self.interrupts and (main := threading.main_thread().ident):
            signal.pthread_kill(main, signal.SIGINT)
        if not self.over.wait(GONE):  # a call of Ray's that cannot be interrupted
            _log.error(self.said)
            os._exit(2)


def told(work: Callable[P, T]) -> Callable[P, T]:
    """Wrap what a worker does, so that every error of ours or of a disk is a ClusterError that names the worker."""

    @wraps(work)
    def telling(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return work(*args, **kwargs)
        except ClusterError:
            raise
        except (CxrfeatError, OSError, MemoryError) as error:
            raise ClusterError(f"{here()}: {error or type(error).__name__}") from error

    return telling


def sentence(error: BaseException) -> CxrfeatError:
    """What the error of a Ray call means: the worker's own sentence, or that its process ended."""
    cause = getattr(error, "cause", None) or error
    if isinstance(cause, CxrfeatError):
        return cause
    text = " ".join(str(cause).split())
    return ClusterError(f"a worker of the cluster failed ({type(cause).__name__}: {text[:300]}).")


def here() -> str:
    """Name this worker."""
    return f"worker on {socket.gethostname()}, process {os.getpid()}"


def _knock(address: str) -> None:
    """Raise a ClusterError unless a server of gRPC answers at an address; Ray itself asks for minutes."""
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdigit():
        raise ClusterError(f"{address!r} is no address of a Ray cluster: give HOST:PORT of its head, or `auto`.")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE) as connection:
            connection.sendall(HELLO)
            answer = connection.makefile("rb").read(4)
    except (OSError, OverflowError, UnicodeError) as error:
        raise ClusterError(f"no Ray cluster answers at {address}: {error}.") from error
    # A server of HTTP/2 begins with a frame of settings, which is number 4.
    if answer[3:] != b"\x04" and os.environ.get("RAY_USE_TLS") != "1":
        raise ClusterError(
            f"what answers at {address} is no Ray cluster: give HOST:PORT of its head, usually port 6379."
        )


def _check_versions(ray: Any) -> None:
    """Raise a ClusterError if a node that would work has another version of cxrfeat, or none."""

    def probe() -> tuple[str, str]:  # pickled by value, being a local function: what it needs is in it
        import socket

        try:
            from cxrfeat import __version__ as version
        except Exception as error:
            return socket.gethostname(), f"no cxrfeat ({error})"
        return socket.gethostname(), f"cxrfeat {version}"

    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(num_cpus=0, max_retries=0)(probe)
    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    if not nodes:
        raise ClusterError("the Ray cluster has no CPU to give: no node is alive that has one.")
    asked = [
        task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(id_, soft=False)).remote() for id_ in nodes
    ]
    for answer in asked:
        try:
            host, found = ray.get(answer, timeout=12 * PATIENCE)
        except ray.exceptions.RayError:  # the node left meanwhile, or is too busy to say
            continue
        if found != f"cxrfeat {__version__}":
            raise ClusterError(
                f"the worker on {host} has {found}, and this process cxrfeat {__version__}: install the same version "
                "on every node."
            )
