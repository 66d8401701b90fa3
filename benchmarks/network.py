"""The network alone at 224 pixels: one MNN session a core, as we run it, beside OpenVINO and TensorFlow."""

from __future__ import annotations

import sys

import harness

CODE = """
import json, os, sys, time; os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import numpy as np
from concurrent.futures import ThreadPoolExecutor
from cxrfeat.backbones import export, graph, mnn_engine, openvino_engine, registry, weights
way, backbone = sys.argv[1], sys.argv[2]
spec, random = registry.get(backbone), weights.Weights("random:0")
images = np.random.default_rng(0).integers(0, 256, (16, 224, 224), dtype=np.uint8)
if way.startswith("mnn"):
    model = mnn_engine.ensure_model(backbone, random, spec.preprocessing, 224)
    ready = mnn_engine.compile_model(model, int(way.split()[1]), ("embedding",))
    run, threads = lambda: ready.run(images), ready.seats
elif way.startswith("openvino"):
    folder = export.ensure_export(backbone, random, spec.preprocessing, 224)
    ready = openvino_engine.compile_model(folder, int(way.split()[1]), ("embedding",))
    run, threads = lambda: ready.run(images), ready.seats
else:
    import tensorflow as tf
    network = graph.keras_graph(backbone, random, spec.preprocessing, 224)
    step = tf.function(lambda x: network(x, training=False), jit_compile=way == "tensorflow xla")
    predict = lambda: network.predict(images[..., None], batch_size=16, verbose=0)
    run, threads = predict if way == "keras predict" else (lambda: step(images[..., None])), 1
with ThreadPoolExecutor(threads) as pool:
    list(pool.map(lambda _: run(), range(threads)))
    begun, rounds = time.perf_counter(), 4 * threads
    list(pool.map(lambda _: run(), range(rounds)))
print(json.dumps({"rate": 16 * rounds / (time.perf_counter() - begun)}))
"""


def main() -> None:
    options = harness.parser(__doc__)
    options.add_argument("--repeats", type=int, default=3)
    given = options.parse_args()
    cores = harness.machine.cores()
    ways = {f"mnn {cores}": f"ours: MNN, {cores} sessions", "mnn 1": "MNN, 1 session"}
    ways |= {f"openvino {cores}": f"OpenVINO, {cores} streams", "keras predict": "Keras predict, batch 16"}
    ways |= {"tensorflow xla": "TensorFlow with XLA, batch 16"}
    rows = []
    for backbone in ("densenet121", "resnet50"):
        rates: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(given.repeats):
            for way in ways:
                rates[way].append(harness.run_json([sys.executable, "-c", CODE, way, backbone])["rate"])
        ours = harness.median(rates[f"mnn {cores}"])
        for way, words in ways.items():
            rate = harness.median(rates[way])
            row = {"backbone": backbone, "way": words, "images/s": round(rate, 1)}
            rows.append({**row, "ours is times": round(ours / rate, 2)})
    harness.save("network", "One MNN session a core is the fastest way to run either backbone on a CPU", rows)


if __name__ == "__main__":
    main()
