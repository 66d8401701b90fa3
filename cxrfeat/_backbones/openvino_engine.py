"""The CPU engine: OpenVINO, one stream a core, on an export that is made once and kept.

Its convolutions run at the rate of the processor's widest multiplications. One stream a core rather than all cores on
one image: a network's tensors then stay in a core's own cache, and no core waits for another at the end of a layer. A
row's bits do not depend on its neighbours, since every call takes one image.
"""

from __future__ import annotations

import queue
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cxrfeat import _machine as machine
from cxrfeat._backbones import kept
from cxrfeat._backbones.engine import Floats, Images
from cxrfeat._backbones.registry import Backbone
from cxrfeat._recipe import Recipe
from cxrfeat.errors import EngineError

MAX_STREAMS = 32

TOLERANCE = {"float32": 1e-3, "bfloat16": 0.03, "float16": 0.02}
"""How far the canary's embedding may be from the Keras graph's, as a share of its largest value. In float32 engines
agree within 1e-4; a damaged network is off by far more."""

HINTS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
NEEDS = {"bfloat16": ("BF16", "AVX512_BF16 or AMX"), "float16": ("FP16", "AVX512_FP16 or AMX-FP16")}
"""What OpenVINO calls the capability of a processor, and the instructions that it is."""


@dataclass
class OpenVINOEngine:
    """A compiled network and one inference request a stream; see `engine.Engine`."""

    name: str
    streams: int
    outputs: tuple[str, ...]
    requests: queue.SimpleQueue[Any]
    batch: int = 1

    def run(self, images: Images) -> tuple[Floats, ...]:
        """See `engine.Engine.run`. Calls beyond `streams` wait until a request is free."""
        rows: list[list[Floats]] = []
        request = self.requests.get()
        try:
            for image in images:
                request.infer([image[None, None].astype(np.float32)], share_inputs=True)
                rows.append([_channels_last(request.get_tensor(name).data) for name in self.outputs])
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
        values = engine.run(canary["image"][None])[0]
        embedding = values[0] if values.ndim == 2 else values[0].mean(axis=(0, 1))
        off = np.abs(embedding - canary["embedding"]).max() / max(np.abs(canary["embedding"]).max(), 1e-30)
        if off <= TOLERANCE[recipe.precision]:
            return engine
    raise EngineError(
        f"OpenVINO's embedding of a test image with {recipe.backbone} differs from the expected one by {off:.1g} of "
        "the largest value. Take `engine=keras`."
    )


def compile_model(
    folder: Path, streams: int, outputs: tuple[str, ...], precision: str = "float32", keep: bool = True
) -> OpenVINOEngine:
    """Compile an export, or load what an earlier call compiled and kept in it."""
    ov = package()
    core = ov.Core()
    _check(core, precision)
    # The pages of a file that is not kept are read before it is removed.
    core.set_property({"CACHE_DIR": str(folder / "compiled")} if keep else {"ENABLE_MMAP": False})
    properties = {
        "INFERENCE_PRECISION_HINT": HINTS[precision],  # OpenVINO would take bfloat16 wherever a processor has it
        "PERFORMANCE_HINT": "THROUGHPUT" if streams > 1 else "LATENCY",
        "NUM_STREAMS": str(streams),
        "INFERENCE_NUM_THREADS": streams,
        "ENABLE_CPU_PINNING": False,
    }
    try:
        model = core.read_model(next(path for path in folder.iterdir() if path.name in ("model.onnx", "model.xml")))
        wanted = [model.output(name) for name in outputs]
        model = ov.Model([output.node for output in wanted], model.get_parameters(), model.friendly_name)
        compiled = core.compile_model(model, "CPU", properties)
    except RuntimeError as error:
        raise EngineError(f"OpenVINO cannot compile {folder.name}: {str(error).strip().splitlines()[-1]}") from error
    requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
    for _ in range(streams):
        requests.put(compiled.create_infer_request())
    version = str(ov.__version__).split("-")[0]
    return OpenVINOEngine(f"OpenVINO {version}, CPU, {precision}", streams, outputs, requests)


def _check(core: Any, precision: str) -> None:
    """Raise an EngineError if this processor does not compute in a precision: OpenVINO would emulate it."""
    capability, instructions = NEEDS.get(precision, ("FP32", ""))
    if capability not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise EngineError(
            f"this processor has no {instructions}, which {precision} needs. Take `precision=float32`, or run on a "
            "processor that has it."
        )


def package() -> Any:
    """Import OpenVINO."""
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
