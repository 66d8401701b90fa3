"""Which backend Keras runs on, TensorFlow, JAX or PyTorch, and the few things that each does in a way of its own."""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from cxrfeat import _files as files
from cxrfeat import _machine as machine
from cxrfeat.errors import EngineError

_log = logging.getLogger(__name__)

Compiled = Callable[..., list[Any]]
"""Runs a network on one array of images an input; gives NumPy arrays, float32."""


class Backend(Protocol):
    """What differs from one backend to another; everything else is Keras's."""

    title: str
    install: str
    """How to install it for a GPU."""

    def devices(self) -> list[str]:
        """The GPUs that it sees, else the CPUs, as `keras.device` calls them."""

    def exact(self, on: bool) -> None:
        """Compute float32 as such, or as TensorFloat-32 where a card can: that moves embeddings in the third digit."""

    def compile(self, network: Any, frozen: bool = True) -> Compiled:
        """Compile a Keras model with a list of outputs, where `keras.device` says; `frozen` weights never change again.

        A call transfers its images, runs and fetches without holding Python's lock, so that several threads overlap.
        """

    def gradients(self, function: Callable[[list[Any]], Sequence[Any]], at: Sequence[Any]) -> tuple[list[Any], list]:
        """Differentiate each column of the last of `function`'s outputs (n, columns) by the arrays `at`.

        Returns the other outputs, and by column a gradient for each array; None if there is none.
        """


class _TensorFlow:
    """tf.function, compiled by XLA on a GPU."""

    title, install = "TensorFlow", "pip install 'tensorflow[and-cuda]'"

    def devices(self) -> list[str]:
        import tensorflow as tf

        for card in tf.config.list_physical_devices("GPU"):
            with suppress(RuntimeError):  # already initialised by the caller, whose choice stands
                tf.config.experimental.set_memory_growth(card, True)
        found = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        return [device.name.removeprefix("/device:").lower() for device in found]

    def exact(self, on: bool) -> None:
        import tensorflow as tf

        tf.config.experimental.enable_tensor_float_32_execution(not on)

    def compile(self, network: Any, frozen: bool = True) -> Compiled:
        import tensorflow as tf

        @tf.function(jit_compile=frozen and on_gpu(self.devices()), reduce_retracing=not frozen, autograph=False)
        def step(*images: Any) -> list[Any]:
            return [tf.cast(values, tf.float32) for values in _call(network, images)]

        return lambda *images: [values.numpy() for values in step(*map(tf.constant, images))]

    def gradients(self, function: Callable[[list[Any]], Sequence[Any]], at: Sequence[Any]) -> tuple[list[Any], list]:
        import tensorflow as tf

        x = [tf.constant(values) for values in at]
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(x)
            *others, scores = function(x)
            columns = tf.unstack(scores, axis=1)
        return others, [tape.gradient(column, x) for column in columns]


class _Jax:
    """jax.jit; the weights are arguments, since XLA would spend minutes on constants."""

    title, install = "JAX", "pip install 'jax[cuda12]'"

    def devices(self) -> list[str]:
        import jax

        return [f"{device.platform}:{device.id}" for device in jax.local_devices()]

    def exact(self, on: bool) -> None:
        import jax

        jax.config.update("jax_default_matmul_precision", "highest" if on else None)

    def compile(self, network: Any, frozen: bool = True) -> Compiled:
        import jax

        @jax.jit
        def step(weights: list[Any], state: list[Any], images: Sequence[Any]) -> list[Any]:
            found, _ = network.stateless_call(weights, state, _one(images), training=False)
            return [values.astype("float32") for values in _list(found)]

        def run(*images: Any) -> list[Any]:
            weights, state = network.trainable_variables, network.non_trainable_variables
            found = step([v.value for v in weights], [v.value for v in state], images)
            for values in found:
                values.copy_to_host_async()
            return [np.asarray(values) for values in found]

        return run

    def gradients(self, function: Callable[[list[Any]], Sequence[Any]], at: Sequence[Any]) -> tuple[list[Any], list]:
        import jax
        import jax.numpy as jnp

        def last_first(x: list[Any]) -> tuple[Any, list[Any]]:
            *others, scores = function(x)
            return scores, others

        scores, back, others = jax.vjp(last_first, [jnp.asarray(values) for values in at], has_aux=True)
        columns = [jnp.zeros_like(scores).at[:, k].set(1) for k in range(scores.shape[1])]
        return others, [back(column)[0] for column in columns]


class _Torch:
    """The graph as PyTorch exports it, without Keras between the operations; compiled on a GPU.

    Keras copies every tensor to channels-first and back around a convolution. The compiler leaves these copies out and
    keeps channels last throughout, folds what depends on weights alone, and joins the element-wise steps.
    """

    title, install = "PyTorch", "pip install torch"

    def devices(self) -> list[str]:
        import torch

        return [f"cuda:{k}" for k in range(torch.cuda.device_count())] or ["cpu"]

    def exact(self, on: bool) -> None:
        import torch

        torch.set_float32_matmul_precision("highest" if on else "high")
        torch.backends.cudnn.allow_tf32 = not on
        torch.backends.cudnn.benchmark = True  # every batch has the same shape

    def compile(self, network: Any, frozen: bool = True) -> Compiled:
        import torch

        device = network.weights[0].value.device
        graphs: dict[Any, Any] = {}

        class Module(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.network = network

            def forward(self, *images: Any) -> list[Any]:
                return [values.float() for values in _call(self.network, images)]

        def step(images: Sequence[Any]) -> Any:
            if not frozen:
                return Module()(*images)
            shape = images[0].shape  # a halved batch is another graph
            if shape not in graphs:
                graph = torch.export.export(Module(), tuple(images), strict=False).module()
                graphs[shape] = _compiled(graph, images) if device.type == "cuda" else graph
            return graphs[shape](*images)

        def run(*images: Any) -> list[Any]:
            tensors = [torch.from_numpy(np.ascontiguousarray(array)) for array in images]
            with torch.no_grad():
                if device.type != "cuda":
                    return [values.numpy() for values in step(tensors)]
                with torch.cuda.device(device):
                    found = step([tensor.pin_memory().to(device, non_blocking=True) for tensor in tensors])
                    hosts = [values.to("cpu", non_blocking=True) for values in found]  # into pinned memory
                    done = torch.cuda.Event()
                    done.record()
                    done.synchronize()
            return [host.numpy() for host in hosts]

        return run

    def gradients(self, function: Callable[[list[Any]], Sequence[Any]], at: Sequence[Any]) -> tuple[list[Any], list]:
        import torch

        x = [keras().ops.convert_to_tensor(values).requires_grad_() for values in at]
        *others, scores = function(x)
        options = {"retain_graph": True, "allow_unused": True}
        return others, [torch.autograd.grad(scores[:, k].sum(), x, **options) for k in range(scores.shape[1])]


def _compiled(graph: Any, images: Sequence[Any]) -> Any:
    """A graph as PyTorch's compiler makes it, or as it is, where the compiler does not work or is no faster."""
    import torch

    def seconds(run: Any) -> float:
        for _ in range(2):  # the first call compiles, or chooses algorithms
            run(*images)
        settle()
        begun = time.perf_counter()
        for _ in range(3):
            run(*images)
        settle()
        return time.perf_counter() - begun

    settle = torch.cuda.synchronize if images[0].is_cuda else lambda: None
    compiled = torch.compile(graph, options={"freezing": True})
    try:
        faster = seconds(compiled) < seconds(graph)
    except Exception as error:  # no Triton, no C compiler: of many kinds
        if out_of_memory(error):
            raise
        reason = str(error).strip().splitlines() or [type(error).__name__]
        _log.warning("PyTorch does not compile the network (%s); it runs, but more slowly.", reason[0])
        return graph
    return compiled if faster else graph


def _one(images: Sequence[Any]) -> Any:
    return images[0] if len(images) == 1 else list(images)


def _list(found: Any) -> list[Any]:
    return list(found) if isinstance(found, list | tuple) else [found]


def _call(network: Any, images: Sequence[Any]) -> list[Any]:
    return _list(network(_one(images), training=False))


BACKENDS: dict[str, Backend] = {"tensorflow": _TensorFlow(), "jax": _Jax(), "torch": _Torch()}
"""By the name that `KERAS_BACKEND` and `import` have for them, in the order in which they are taken."""


@contextmanager
def quiet() -> Iterator[None]:
    """Keep from the terminal what the backends' libraries print of themselves when they are first used.

    They write to the file descriptor and heed no setting of Python. What else is written meanwhile is passed on after.
    """
    try:
        kept = os.dup(2)
    except OSError:  # there is no standard error
        yield
        return
    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            caught.seek(0)
            lines = caught.read().splitlines(keepends=True)
            os.write(2, b"".join(line for line in lines if not _NOISE.match(line)))


_NOISE = re.compile(
    rb"[IW]\d{4} \d\d:\d\d:|E.*failed call to cuInit|WARNING: All log messages before absl|To enable the following ins"
)


def keras() -> Any:
    """Import Keras, which reads its backend from the environment, once."""
    first = "keras" not in sys.modules
    if first:
        os.environ["KERAS_BACKEND"] = _chosen()
    try:
        with quiet() if first else nullcontext():
            import keras
    except ImportError as error:
        raise EngineError(f"Keras cannot be imported ({error}): pip install keras") from error
    return keras


def backend() -> Backend:
    """The backend that Keras runs on in this process."""
    name = keras().backend.backend()
    if name not in BACKENDS:
        raise EngineError(f"Keras runs on {name} here, and cxrfeat needs one of {', '.join(BACKENDS)}.")
    return BACKENDS[name]


def version() -> str:
    return f"{backend().title} {sys.modules[keras().backend.backend()].__version__}"


def on_gpu(devices: Sequence[str]) -> bool:
    """Whether devices, named as `keras.device` does, are GPUs or the like."""
    return not devices[0].startswith("cpu")


def out_of_memory(error: BaseException) -> bool:
    """Whether a device's memory was too small, as each backend says it."""
    return "OutOfMemory" in type(error).__name__ or any(
        words in f"{type(error).__name__} {error}" for words in ("ResourceExhausted", "RESOURCE_EXHAUSTED")
    )


@lru_cache(maxsize=1)
def _chosen() -> str:
    """The backend that is named, else the first installed one that sees a GPU, else the first installed one."""
    installed = [name for name in BACKENDS if importlib.util.find_spec(name)]
    named = os.environ.get("KERAS_BACKEND") or _configured()
    if named:
        if named not in BACKENDS:
            raise EngineError(f"KERAS_BACKEND names {named!r}, and cxrfeat needs one of {', '.join(BACKENDS)}.")
        if named not in installed:
            raise EngineError(f"KERAS_BACKEND names {named}, which is not installed: pip install {named}, or unset it.")
        return named
    if not installed:
        raise EngineError("Keras needs TensorFlow, JAX or PyTorch, and none is installed: pip install tensorflow")
    seen = installed[1:] and machine.gpu_likely() and [n for n in installed if on_gpu(BACKENDS[n].devices())]
    return seen[0] if seen else installed[0]


def _configured() -> str:
    """The backend of Keras's own settings; Keras itself writes `tensorflow` there unasked, so that is no choice."""
    folder = Path(os.environ.get("KERAS_HOME") or Path("~").expanduser() / ".keras")
    named = str(files.read_json(folder / "keras.json").get("backend", ""))
    return "" if named == "tensorflow" else named
