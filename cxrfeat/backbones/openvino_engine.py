"""The CPU engine: OpenVINO, one stream a core, on an export that is made once and kept.

OpenVINO rather than ONNX Runtime, with which it runs level: it needs no converter package (tf2onnx pins old releases
of what TensorFlow brings), has wheels for x86 and ARM on the three systems, and keeps compiled networks. One stream a
core rather than all cores on one batch: the network's tensors then stay in a core's own cache, and no core waits for
another at the end of a layer (`benchmarks/network.py` compares the two).
"""

from __future__ import annotations

import json
import os
import queue
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from cxrfeat import files, machine
from cxrfeat.backbones.engine import Floats, Images, weights_sha256
from cxrfeat.backbones.weights import Weights
from cxrfeat.errors import EngineError
from cxrfeat.store.recipe import Recipe

EXPORT_VERSION = 1
"""Part of an export's name: raised when the translation changes, so that no old export is read."""

MAX_STREAMS = 32
BATCHES = (1, 2, 4, 8)
PROBE_SECONDS = 0.6


@dataclass
class OpenVinoEngine:
    """A compiled network with one request per stream; see `engine.Engine`."""

    name: str
    batch: int
    seats: int
    size: int
    outputs: tuple[str, ...]
    requests: queue.SimpleQueue[Any]

    def run(self, images: Images) -> tuple[Floats, ...]:
        """See `engine.Engine.run`. Calls beyond `seats` wait for a request to come free."""
        n = len(images)
        parts: dict[str, list[Floats]] = {name: [] for name in self.outputs}
        request = self.requests.get()
        try:
            for start in range(0, n, self.batch):
                block = images[start : start + self.batch]
                if len(block) < self.batch:
                    block = np.concatenate([block, np.zeros((self.batch - len(block), *block.shape[1:]), np.uint8)])
                request.infer([np.ascontiguousarray(block[:, None])], share_inputs=True)
                for name in self.outputs:
                    values = request.get_tensor(name).data[: n - start]
                    parts[name].append(values.transpose(0, 2, 3, 1).copy() if values.ndim == 4 else values.copy())
        finally:
            self.requests.put(request)
        return tuple(np.concatenate(parts[name]) for name in self.outputs)


def open_engine(recipe: Recipe, weights: Weights, outputs: tuple[str, ...]) -> OpenVinoEngine:
    """Open the kept export of a recipe's network, making it first if need be; see `engine.open_engine`."""
    folder = ensure_export(recipe.backbone, weights, recipe.preprocessing, recipe.size)
    streams = min(machine.cores(), MAX_STREAMS)
    batch = _tuned_batch(folder, streams, recipe.size)
    return _compile(folder, batch, streams, recipe.size, outputs)


def ensure_export(backbone: str, weights: Weights, preprocessing: str, size: int) -> Path:
    """Return the folder of the export (`model.xml`, `model.bin`, `meta.json`), making it if it is missing or damaged.

    Making it is what needs TensorFlow; afterwards an extraction starts without.
    """
    sha256 = weights_sha256(backbone, weights)
    name = f"{backbone}-{sha256[:16]}-{preprocessing}-{size}-v{EXPORT_VERSION}"
    folder = machine.cache_folder() / "engines" / name
    if _sound(folder):
        return folder
    _ov()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{name}.lock")):  # a second extraction waits for the export of the first
        if not _sound(folder):
            _export(folder, backbone, weights, sha256, preprocessing, size)
    return folder


def _export(folder: Path, backbone: str, weights: Weights, sha256: str, preprocessing: str, size: int) -> None:
    from cxrfeat.backbones import graph, translate

    model = translate.translate(graph.keras_graph(backbone, weights, preprocessing, size), batch=1)
    made = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
    try:
        _ov().save_model(model, made / "model.xml", compress_to_fp16=False)
        hashes = {file: files.sha256(made / file) for file in ("model.xml", "model.bin")}
        meta = {"backbone": backbone, "weights": weights.name, "weights_sha256": sha256, "sha256": hashes}
        files.write_atomically(made / "meta.json", json.dumps(meta, indent=1))
        if folder.exists():
            shutil.rmtree(folder)  # damaged
        made.rename(folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _sound(folder: Path) -> bool:
    try:
        meta = json.loads((folder / "meta.json").read_text())
        return all(files.sha256(folder / file) == sha256 for file, sha256 in meta["sha256"].items())
    except (OSError, ValueError, KeyError, AttributeError):
        return False


def _compile(
    folder: Path, batch: int, streams: int, size: int, outputs: tuple[str, ...], keep: bool = True
) -> OpenVinoEngine:
    ov = _ov()
    core = ov.Core()
    if keep:  # the compiled network too, beside its export: compiling takes a second, loading it a fifth of that
        core.set_property({"CACHE_DIR": str(folder / "compiled")})
    model = core.read_model(folder / "model.xml")
    wanted = [model.output(name) for name in outputs]
    model = ov.Model([output.node for output in wanted], model.get_parameters(), model.friendly_name)
    model.reshape([batch, 1, size, size])
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
    return OpenVinoEngine(
        f"OpenVINO {ov.__version__.split('-')[0]}, CPU, float32", batch, streams, size, outputs, requests
    )


def _tuned_batch(folder: Path, streams: int, size: int) -> int:
    """Images per request: measured once per export, processor and number of streams, then remembered."""
    kept = folder / "tuning.json"
    key = f"{machine.processor()}, {streams} streams"
    try:
        tuned = json.loads(kept.read_text())
    except (OSError, ValueError):
        tuned = {}
    if tuned.get(key) not in BATCHES:
        speeds = {
            batch: _probe(_compile(folder, batch, streams, size, ("embedding",), keep=False)) for batch in BATCHES
        }
        best = max(speeds.values())
        # The smallest batch within 3 % of the fastest: less memory, and no wait for neighbours.
        tuned[key] = next(batch for batch in BATCHES if speeds[batch] >= 0.97 * best)
        files.write_atomically(kept, json.dumps(tuned, indent=1))
    return int(tuned[key])


def _probe(engine: OpenVinoEngine) -> float:
    """Images per second with every stream busy."""
    from concurrent.futures import ThreadPoolExecutor

    images = np.zeros((engine.batch, engine.size, engine.size), np.uint8)

    def keep_busy(until: float) -> int:
        engine.run(images)
        done = 0
        while time.perf_counter() < until:
            engine.run(images)
            done += len(images)
        return done

    with ThreadPoolExecutor(engine.seats) as pool:
        start = time.perf_counter()
        counts = list(pool.map(keep_busy, [start + PROBE_SECONDS] * engine.seats))
        return sum(counts) / (time.perf_counter() - start)


def _ov() -> Any:
    os.environ.setdefault("OPENVINO_TELEMETRY_DISABLE", "1")
    try:
        import openvino
    except ImportError as error:
        raise EngineError("OpenVINO is not installed: pip install openvino, or use --engine tensorflow.") from error
    # OpenVINO's tables of types are filled when they are first asked, and give up the interpreter's lock midway: two
    # workers that ask first and at once wait for each other for ever. So they are filled here, by one thread.
    openvino.Type.u8.to_dtype()
    _ = openvino.Tensor(np.zeros(1, np.uint8)).data
    return openvino
