"""The network alone at 224 pixels: our CPU engine on the rewritten export, beside what others make of the same weights.

`as translated` is the export before `backbones/rewrite.py`: what the rewriting is worth.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import harness

import cxrfeat as cxr
from cxrfeat import _sample as sample
from cxrfeat._backbones import open_engine
from cxrfeat.errors import EngineError

EXPORT = """
import os, sys; os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import onnx
from pathlib import Path
from cxrfeat._backbones import graph, registry, rewrite, translate, weights
spec, folder = registry.get(sys.argv[1]), Path(sys.argv[2])
plain = translate.translate(graph.keras_graph(spec, weights.Weights("random:0"), spec.preprocessing, 224))
for name, model in (("plain", plain), ("rewritten", rewrite.rewrite(plain))):
    (folder / name).mkdir()
    onnx.save(model, str(folder / name / "model.onnx"))
"""
CODE = """
import json, os, sys, time; os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import numpy as np
from pathlib import Path
from concurrent.futures import ThreadPoolExecutor
from cxrfeat._backbones import graph, open_engine, openvino_engine, registry, weights
from cxrfeat._recipe import Recipe
engine, kind, cores, backbone, folder = sys.argv[1:]
images = np.random.default_rng(0).integers(0, 256, (64, 224, 224), dtype=np.uint8)
if engine == "recipe":
    ready = open_engine(Recipe.from_json(kind), engine="openvino")
    run, threads = lambda: ready.run(images), ready.streams
elif engine == "openvino":
    ready = openvino_engine.compile_model(Path(folder) / kind, int(cores), ("embedding",))
    run, threads = lambda: ready.run(images), ready.streams
else:
    import tensorflow as tf
    spec = registry.get(backbone)
    network = graph.keras_graph(spec, weights.Weights("random:0"), spec.preprocessing, 224)
    compiled = tf.function(lambda x: network(x, training=False), jit_compile=True)
    step = lambda: [compiled(images[i : i + 16, ..., None]) for i in range(0, len(images), 16)]
    predict = lambda: network.predict(images[..., None], batch_size=16, verbose=0)
    run, threads = predict if engine == "keras" else step, 1
with ThreadPoolExecutor(threads) as pool:
    list(pool.map(lambda _: run(), range(threads)))
    begun, rounds = time.perf_counter(), 2 * threads
    list(pool.map(lambda _: run(), range(rounds)))
print(json.dumps({"rate": len(images) * rounds / (time.perf_counter() - begun)}))
"""
WAYS = {
    "OpenVINO, 1 image a call": ("openvino", "rewritten"),
    "OpenVINO, 1 image a call, as translated": ("openvino", "plain"),
    "Keras predict, 16 images a call": ("keras", ""),
    "TensorFlow with XLA, 16 images a call": ("xla", ""),
}
RUNTIME = "ONNX Runtime, 1 image a call, as translated"


def main() -> None:
    options = harness.parser(__doc__)
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--precision", nargs="+", default=["bfloat16", "int8"], help="measured beside float32")
    given = options.parse_args()
    cores = harness.machine.cores()
    runtime = harness.peer_python("onnxruntime", ["onnxruntime", "numpy"])
    rows = []
    for backbone in ("densenet121", "resnet50"):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            subprocess.run([sys.executable, "-c", EXPORT, backbone, folder], check=True, capture_output=True)
            ways = WAYS | reduced(backbone, folder, given.precision)
            rates = measure(backbone, folder, cores, runtime, given.repeats, ways)
        ours = rates["OpenVINO, 1 image a call"]
        for way, rate in rates.items():
            rows.append(
                {"backbone": backbone, "way": way, "images/s": round(rate, 1), "of ours": round(rate / ours, 3)}
            )
    harness.save(
        "network",
        "Our CPU engine is the fastest way to run either backbone on this processor",
        rows,
        f"{cores} streams side by side, one a core, except Keras and XLA, which spread each call over the cores. `of "
        "ours`: relative to OpenVINO with 1 image a call, which is what an extraction runs.",
    )


def reduced(backbone: str, folder: Path, precisions: list[str]) -> dict[str, tuple[str, str]]:
    """The other precisions, those that this processor computes in; int8 is quantised on the embedded sample."""
    os.environ["CXRFEAT_WEIGHTS"] = str(folder / "weights")
    found = {}
    for precision in precisions:
        try:
            recipe = cxr.make_recipe(backbone, weights="random:0", precision=precision, study=sample.study())
            open_engine(recipe, engine="openvino")
        except EngineError as error:
            print(error, file=sys.stderr)
            continue
        found[f"OpenVINO, {precision}"] = ("recipe", recipe.to_json())
    return found


def measure(
    backbone: str, folder: Path, cores: int, runtime: Path | None, repeats: int, ways: dict[str, tuple[str, str]]
) -> dict[str, float]:
    """Medians of images per second; the ways take turns."""
    rates: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(repeats):
        for way, (engine, kind) in ways.items():
            command = [sys.executable, "-c", CODE, engine, kind, cores, backbone, folder]
            rates[way].append(harness.run_json(command)["rate"])
        if runtime:
            script, model = harness.HERE / "peers" / "onnxruntime_network.py", folder / "plain" / "model.onnx"
            rates.setdefault(RUNTIME, []).append(harness.run_json([runtime, script, model, cores])["rate"])
    return {way: harness.median(values) for way, values in rates.items()}


if __name__ == "__main__":
    main()
