"""The CPU engine: OpenVINO, one stream a core, on an export that is made once and kept.

Its convolutions run at the rate of the processor's widest multiplications. One stream a core rather than all cores on
one image: a network's tensors then stay in a core's own cache, and no core waits for another at the end of a layer. A
row's bits do not depend on its neighbours, since every call takes one image.
"""

from __future__ import annotations

import logging
import queue
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cxrfeat import _machine as machine
from cxrfeat._backbones import kept
from cxrfeat._backbones.engine import Floats, Images
from cxrfeat._backbones.export import canary, ensure_export, fresh_export, network_file
from cxrfeat._backbones.weights import Weights
from cxrfeat._recipe import Recipe
from cxrfeat.errors import EngineError

MAX_STREAMS = 32

TOLERANCE = 1e-3
"""How far the canary's embedding may be from the Keras graph's, as a share of its largest value. Engines agree within
1e-4; a damaged network is off by far more."""

_log = logging.getLogger(__name__)


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


def open_engine(recipe: Recipe, weights: Weights, outputs: tuple[str, ...], fresh: bool = False) -> OpenVINOEngine:
    """Open the kept export of a recipe's network, making it first if necessary; see `engine.open_engine`."""
    streams = min(machine.cores(), MAX_STREAMS)
    if fresh:
        with fresh_export(recipe, weights) as folder:
            engine = compile_model(folder, streams, outputs, keep=False)
            found = _difference(engine, folder, recipe.size)
    else:
        folder = ensure_export(recipe, weights)
        engine = compile_model(folder, streams, outputs)
        found = _difference(engine, folder, recipe.size)
        if not found <= TOLERANCE:  # made once more: hashes miss what was damaged before they were taken
            kept.discard(folder)
            folder = ensure_export(recipe, weights)
            engine = compile_model(folder, streams, outputs)
            found = _difference(engine, folder, recipe.size)
    if not found <= TOLERANCE:
        raise EngineError(
            f"OpenVINO's embedding of a test image with {recipe.backbone} differs from Keras's by {found:.1g} of the "
            "largest value. Take `engine=tensorflow`."
        )
    return engine


def compile_model(folder: Path, streams: int, outputs: tuple[str, ...], keep: bool = True) -> OpenVINOEngine:
    """Compile an export, or load what an earlier call compiled and kept beside it."""
    ov = _ov()
    core = ov.Core()
    if keep:
        kept.drop_damaged(folder)
        core.set_property({"CACHE_DIR": str(folder / kept.COMPILED)})
    else:
        core.set_property({"ENABLE_MMAP": False})  # the export is removed while the network is in use
    properties = {
        "INFERENCE_PRECISION_HINT": "f32",  # never bfloat16, which OpenVINO takes where a processor has it
        "PERFORMANCE_HINT": "THROUGHPUT" if streams > 1 else "LATENCY",
        "NUM_STREAMS": str(streams),
        "INFERENCE_NUM_THREADS": streams,
        "ENABLE_CPU_PINNING": False,
    }
    try:
        model = core.read_model(network_file(folder))
        wanted = [model.output(name) for name in outputs]
        model = ov.Model([output.node for output in wanted], model.get_parameters(), model.friendly_name)
        compiled = core.compile_model(model, "CPU", properties)
    except RuntimeError as error:
        raise EngineError(f"OpenVINO cannot compile {folder.name}: {str(error).strip().splitlines()[-1]}") from error
    if keep:
        kept.note_compiled(folder)
    requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
    for _ in range(streams):
        requests.put(compiled.create_infer_request())
    version = str(ov.__version__).split("-")[0]
    return OpenVINOEngine(f"OpenVINO {version}, CPU, float32", streams, outputs, requests)


def convert(network: Any, folder: Path) -> None:
    """Convert what `graph.keras_graph` built by OpenVINO's own converter; inputs and outputs are as in our export."""
    import tensorflow as tf

    ov, size = _ov(), network.input_shape[1]

    def run(image: Any) -> list[Any]:
        embedding, feature_map = network(tf.transpose(image, (0, 2, 3, 1)), training=False)
        return [embedding, tf.transpose(feature_map, (0, 3, 1, 2))]

    traced = tf.function(run).get_concrete_function(tf.TensorSpec((1, 1, size, size), tf.float32, name="image"))
    try:
        converted = ov.convert_model(traced)
        # The converter adds outputs of its own; ours are called as TensorFlow calls what a function returns.
        found = [converted.output(name) for name in ("Identity:0", "Identity_1:0")]
    except Exception as error:  # the package raises many kinds
        raise EngineError(
            f"OpenVINO cannot convert {network.name}: {str(error).strip().splitlines()[-1]} Take `engine=tensorflow`."
        ) from error
    for output, name in zip(found, ("embedding", "map"), strict=True):
        output.set_names({name})
    model = ov.Model(found, converted.get_parameters(), network.name)
    ov.save_model(model, folder / "model.xml", compress_to_fp16=False)


def _difference(engine: OpenVINOEngine, folder: Path, size: int) -> float:
    """How far the canary's embedding is from the one kept at making, as a share of its largest value."""
    values = engine.run(canary(size))[0]
    embedding = values if values.ndim == 2 else values.mean(axis=(1, 2))
    expected = np.load(folder / "canary.npy", allow_pickle=False)
    if embedding.shape[1:] != expected.shape:
        return float("inf")
    return float(np.abs(embedding[0] - expected).max() / max(float(np.abs(expected).max()), 1e-30))


def _channels_last(values: Floats) -> Floats:
    """A copy, since the request's memory is used again."""
    return values.copy() if values.ndim == 2 else np.ascontiguousarray(values.transpose(0, 2, 3, 1))


def _ov() -> Any:
    # OpenVINO reports each import and conversion to its maker, unless the package that does so is not there (which is
    # what it documents: pip uninstall openvino-telemetry). So it is hidden, for this process.
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
