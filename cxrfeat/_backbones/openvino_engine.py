"""The CPU engine: OpenVINO, one stream a core, on an export that is made once and kept.

Its convolutions run at the rate of the processor's widest multiplications. One stream a core rather than all cores on
one image: a network's tensors then stay in a core's own cache, and no core waits for another at the end of a layer. A
row's bits do not depend on its neighbours, since every call takes one image.
"""

from __future__ import annotations

import ctypes
import queue
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from cxrfeat import _machine as machine
from cxrfeat._backbones import kept
from cxrfeat._backbones.engine import Floats, Images
from cxrfeat._backbones.registry import Backbone
from cxrfeat._precision import PRECISIONS
from cxrfeat._recipe import Recipe
from cxrfeat.errors import EngineError

MAX_STREAMS = 32
WAITING = 4
"""Calls beyond the streams: OpenVINO starts one that waits without asking for Python's lock, which a decoder keeps."""


@dataclass
class OpenVINOEngine:
    """A compiled network and its inference requests, one a call; see `engine.Engine`.

    The network computes the outputs `computed`. Where that is the map alone, the embedding is the map's average.
    """

    name: str
    streams: int
    outputs: tuple[str, ...]
    requests: queue.SimpleQueue[Any]
    computed: tuple[str, ...] = ("embedding",)
    batch: int = 1

    def run(self, images: Images) -> tuple[Floats, ...]:
        """See `engine.Engine.run`. Calls beyond `streams` wait until a request is free."""
        rows: list[list[Floats]] = []
        request = self.requests.get()
        try:
            for image in images:
                request.infer([image[None, None].astype(np.float32)], share_inputs=True)
                found = {name: _channels_last(request.get_tensor(name).data) for name in self.computed}
                if "embedding" not in found:
                    found["embedding"] = found["map"].mean(axis=(1, 2), dtype=np.float64).astype(np.float32)
                rows.append([found[name] for name in self.outputs])
        finally:
            self.requests.put(request)
        return tuple(np.concatenate(output) for output in zip(*rows, strict=True))


def open_engine(
    recipe: Recipe, spec: Backbone, write: Callable[[Path], None], outputs: tuple[str, ...], fresh: bool = False
) -> OpenVINOEngine:
    """Open the kept export of a recipe's network; one whose embedding of the canary is wrong is made again."""
    for mode in ("fresh",) if fresh else ("kept", "again"):
        with kept.export(recipe, spec, write, mode) as folder:  # type: ignore[arg-type]
            engine = compile_model(folder, min(machine.cores(), MAX_STREAMS), outputs, recipe.precision, keep=not fresh)
            canary = np.load(folder / "canary.npz", allow_pickle=False)
        embedding = engine.run(canary["image"][None])[0][0]
        off = np.abs(embedding - canary["embedding"]).max() / max(np.abs(canary["embedding"]).max(), 1e-30)
        if off <= PRECISIONS[recipe.precision].canary:
            return engine
    way_on = "`precision=float32`" if recipe.network_sha256 else "`engine=keras`"
    raise EngineError(
        f"OpenVINO's embedding of a test image with {recipe.backbone} in {recipe.precision} differs from the expected "
        f"one by {off:.1g} of the largest value. Take {way_on}."
    )


def compile_model(
    folder: Path, cores: int, outputs: tuple[str, ...], precision: str = "float32", keep: bool = True
) -> OpenVINOEngine:
    """Compile an export, or load what an earlier call compiled and kept in it.

    In less than float32 an average that the network computes is rounded, and of another map than the one given out: the
    map is computed alone, and averaged in float64.
    """
    ov = package()
    _check(precision)
    properties = {
        "CACHE_DIR": str(folder / "compiled") if keep else "",
        # OpenVINO would take bfloat16 wherever a processor has it.
        "INFERENCE_PRECISION_HINT": PRECISIONS[precision].hint,
        "PERFORMANCE_HINT": "THROUGHPUT" if cores > 1 else "LATENCY",
        "NUM_STREAMS": str(cores),
        "INFERENCE_NUM_THREADS": cores,
        "ENABLE_CPU_PINNING": False,
    }
    try:
        path = next(path for path in folder.iterdir() if path.name in ("model.onnx", "model.xml"))
        # The pages of a file that is not kept are read before it is removed.
        model = core().read_model(path, config={"ENABLE_MMAP": keep})
        mapped = precision != "float32" and any("map" in output.get_names() for output in model.outputs)
        computed = ("map",) if mapped else outputs
        nodes = [model.output(name).node for name in computed]
        model = ov.Model(nodes, model.get_parameters(), model.friendly_name)
        compiled = core().compile_model(model, "CPU", properties)
    except RuntimeError as error:
        raise EngineError(f"OpenVINO cannot compile {folder.name}: {str(error).strip().splitlines()[-1]}") from error
    requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
    streams = cores + WAITING if cores > 1 else 1
    for _ in range(streams):
        requests.put(compiled.create_infer_request())
    version = str(ov.__version__).split("-")[0]
    return OpenVINOEngine(f"OpenVINO {version}, CPU, {precision}", streams, outputs, requests, computed)


def _check(precision: str) -> None:
    """Raise an EngineError if this processor does not compute in a precision: OpenVINO would emulate it."""
    needed = PRECISIONS[precision]
    capabilities = core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if not (_exact_int8() if needed.calibrated else needed.capability in capabilities):
        raise EngineError(
            f"this processor has no {needed.instructions}, which {precision} needs. Take `precision=float32`, or run "
            "on a processor that has it."
        )


@lru_cache(maxsize=1)
def _exact_int8() -> bool:
    """Whether sums of products of 8-bit integers are exact here: without VNNI, OpenVINO saturates pairs at 16 bits."""
    from openvino import opset13 as ops

    image = ops.parameter([1, 64, 4, 4], np.float32, name="image")
    ends = [np.float32(end) for end in (0, 255)]
    x = ops.fake_quantize(image, *ends, *ends, levels=256)
    scale = np.full((64, 1, 1, 1), 1, np.float32)
    weights = ops.multiply(ops.convert(ops.constant(np.full((64, 64, 1, 1), 127, np.int8)), np.float32), scale)
    y = ops.convolution(x, weights, [1, 1], [0, 0], [0, 0], [1, 1])
    model = package().Model([y], [image], "probe")
    compiled = core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return bool((compiled(np.full((1, 64, 4, 4), 255, np.float32))[0] == 64 * 255 * 127).all())


@lru_cache(maxsize=1)
def core() -> Any:
    """Return the process's one `openvino.Core`.

    With its plugin for CPUs, a core gives the thread another stack for signals, and frees it at its end. Where that is
    not the last core made, or another thread's, the freed one stays in use, and Ctrl-C crashes the process.
    """
    return package().Core()


@contextmanager
def signal_stack() -> Iterator[None]:
    """Give the thread back its stack for signals, after a block in which others make cores and end them."""
    if sys.platform != "linux":  # where alone OpenVINO does this
        yield
        return
    core()  # the stack that it needs is one of those given back
    before = _SignalStack()
    libc = ctypes.CDLL(None)
    libc.sigaltstack(None, ctypes.byref(before))
    try:
        yield
    finally:
        libc.sigaltstack(ctypes.byref(before), None)


class _SignalStack(ctypes.Structure):
    """`stack_t` of sigaltstack(2)."""

    _fields_ = (("address", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


def package() -> Any:
    # OpenVINO reports to Google Analytics, unless the package that does it cannot be imported.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino
    except ImportError as error:
        raise EngineError("OpenVINO is not installed: pip install openvino, or take `engine=keras`.") from error
    # OpenVINO's tables of types are filled when they are first asked, and give up the interpreter's lock midway: two
    # workers that ask first and at once wait for each other forever. So they are filled here, by one thread.
    openvino.Type.u8.to_dtype()
    openvino.Type.f32.to_dtype()
    _ = openvino.Tensor(np.zeros(1, np.float32)).data
    return openvino


def _channels_last(values: Floats) -> Floats:
    """A copy, since the request's memory is used again."""
    return np.array(values if values.ndim == 2 else values.transpose(0, 2, 3, 1), order="C")
