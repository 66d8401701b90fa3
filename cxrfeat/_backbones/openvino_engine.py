"""An engine for processors: OpenVINO, one stream a core, on an export that is made once and kept.

Its convolutions run at the rate of the processor's widest multiplications. A row's bits depend neither on its place in
a batch nor on the batch's size (a test holds it to that), so the batch is free to be chosen by what is fastest.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from cxrfeat._backbones import seated
from cxrfeat._backbones.engine import Floats
from cxrfeat._backbones.export import ensure_export
from cxrfeat._backbones.weights import Weights
from cxrfeat._recipe import Recipe
from cxrfeat.errors import EngineError


def open_engine(recipe: Recipe, weights: Weights, outputs: tuple[str, ...], batch: int = 1) -> seated.SeatedEngine:
    """Open the kept export of a recipe's network, making it first if need be; see `choice.open_engine`."""
    folder = ensure_export(recipe.backbone, weights, recipe.preprocessing, recipe.size)
    return compile_model(folder, seated.seats(), outputs, batch)


def compile_model(folder: Path, seats: int, outputs: tuple[str, ...], batch: int = 1) -> seated.SeatedEngine:
    """Compile an export, or load what an earlier call compiled and kept beside it."""
    ov = _ov()
    core = ov.Core()
    core.set_property({"CACHE_DIR": str(folder / "compiled")})
    model = core.read_model(folder / "model.onnx")
    wanted = [model.output(name) for name in outputs]
    model = ov.Model([output.node for output in wanted], model.get_parameters(), model.friendly_name)
    if batch > 1:
        model.reshape({"image": [batch, *model.input("image").shape[1:]]})
    properties = {
        "INFERENCE_PRECISION_HINT": "f32",  # never bfloat16, which OpenVINO takes where a processor has it
        "PERFORMANCE_HINT": "THROUGHPUT" if seats > 1 else "LATENCY",
        "NUM_STREAMS": str(seats),
        "INFERENCE_NUM_THREADS": seats,
        "ENABLE_CPU_PINNING": False,
    }
    try:
        compiled = core.compile_model(model, "CPU", properties)
    except RuntimeError as error:
        raise EngineError(f"OpenVINO cannot compile {folder.name}: {str(error).strip().splitlines()[-1]}") from error
    requests = [_Stream(compiled.create_infer_request(), outputs) for _ in range(seats)]
    return seated.SeatedEngine.of(f"OpenVINO {_version(ov)}, CPU, float32", requests, batch)


class _Stream:
    """One inference request."""

    def __init__(self, request: Any, outputs: tuple[str, ...]) -> None:
        self.request, self.outputs = request, outputs

    def infer(self, images: Floats) -> list[Floats]:
        """See `seated.Request`."""
        self.request.infer([images], share_inputs=True)
        return [self.request.get_tensor(name).data for name in self.outputs]


def _version(ov: Any) -> str:
    return str(ov.__version__).split("-")[0]


def _ov() -> Any:
    os.environ.setdefault("OPENVINO_TELEMETRY_DISABLE", "1")
    try:
        import openvino
    except ImportError as error:
        raise EngineError("OpenVINO is not installed: pip install openvino, or use --engine mnn.") from error
    # OpenVINO's tables of types are filled when they are first asked, and give up the interpreter's lock midway: two
    # workers that ask first and at once wait for each other for ever. So they are filled here, by one thread.
    openvino.Type.u8.to_dtype()
    openvino.Type.f32.to_dtype()
    _ = openvino.Tensor(np.zeros(1, np.float32)).data
    return openvino
