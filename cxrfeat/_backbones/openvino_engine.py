"""The CPU engine: OpenVINO, one stream a core, on an export that is made once and kept.

Its convolutions run at the rate of the processor's widest multiplications. One stream a core rather than all cores on
one image: a network's tensors then stay in a core's own cache, and no core waits for another at the end of a layer. A
row's bits do not depend on its neighbours, since every call takes one image.
"""

from __future__ import annotations

import queue
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cxrfeat import _machine as machine
from cxrfeat._backbones.engine import Floats, Images
from cxrfeat._backbones.export import ensure_export
from cxrfeat._backbones.weights import Weights
from cxrfeat._recipe import Recipe
from cxrfeat.errors import EngineError

MAX_STREAMS = 32


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


def open_engine(recipe: Recipe, weights: Weights, outputs: tuple[str, ...]) -> OpenVINOEngine:
    """Open the kept export of a recipe's network, making it first if necessary; see `engine.open_engine`."""
    folder = ensure_export(recipe.backbone, weights, recipe.preprocessing, recipe.size)
    return compile_model(folder, min(machine.cores(), MAX_STREAMS), outputs)


def compile_model(folder: Path, streams: int, outputs: tuple[str, ...]) -> OpenVINOEngine:
    """Compile an export, or load what an earlier call compiled and kept beside it."""
    ov = _ov()
    core = ov.Core()
    core.set_property({"CACHE_DIR": str(folder / "compiled")})
    model = core.read_model(folder / "model.onnx")
    wanted = [model.output(name) for name in outputs]
    model = ov.Model([output.node for output in wanted], model.get_parameters(), model.friendly_name)
    properties = {
        "INFERENCE_PRECISION_HINT": "f32",  # never bfloat16, which OpenVINO takes where a processor has it
        "PERFORMANCE_HINT": "THROUGHPUT" if streams > 1 else "LATENCY",
        "NUM_STREAMS": str(streams),
        "INFERENCE_NUM_THREADS": streams,
        "ENABLE_CPU_PINNING": False,
    }
    try:
        compiled = core.compile_model(model, "CPU", properties)
    except RuntimeError as error:
        raise EngineError(f"OpenVINO cannot compile {folder.name}: {str(error).strip().splitlines()[-1]}") from error
    requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
    for _ in range(streams):
        requests.put(compiled.create_infer_request())
    version = str(ov.__version__).split("-")[0]
    return OpenVINOEngine(f"OpenVINO {version}, CPU, float32", streams, outputs, requests)


def _channels_last(values: Floats) -> Floats:
    """A copy, since the request's memory is used again."""
    return values.copy() if values.ndim == 2 else np.ascontiguousarray(values.transpose(0, 2, 3, 1))


def _ov() -> Any:
    # OpenVINO reports its import to Google Analytics, unless the package that does it cannot be imported.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino
    except ImportError as error:
        raise EngineError("OpenVINO is not installed: pip install openvino, or take `engine=tensorflow`.") from error
    # OpenVINO's tables of types are filled when they are first asked, and give up the interpreter's lock midway: two
    # workers that ask first and at once wait for each other for ever. So they are filled here, by one thread.
    openvino.Type.u8.to_dtype()
    openvino.Type.f32.to_dtype()
    _ = openvino.Tensor(np.zeros(1, np.float32)).data
    return openvino
