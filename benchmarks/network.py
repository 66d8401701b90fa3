"""The network alone at 224 pixels: one stream a core, as we run it, beside one stream over all cores and TensorFlow."""

from __future__ import annotations

import sys

import harness

CODE = """
import json, os, sys, time; os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import numpy as np
from concurrent.futures import ThreadPoolExecutor
from cxrfeat.backbones import engine, graph, openvino_engine, registry, weights
way, backbone = sys.argv[1], sys.argv[2]
spec, random = registry.get(backbone), weights.Weights("random:0")
images = np.random.default_rng(0).integers(0, 256, (16, 224, 224), dtype=np.uint8)
if way.startswith("openvino"):
    folder = openvino_engine.ensure_export(backbone, random, spec.preprocessing, 224)
    streams, batch = (int(word) for word in way.split()[1:])
    ready = openvino_engine._compile(folder, batch, streams, 224, ("embedding",), keep=False)
    run, threads = lambda: ready.run(images), streams
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
    ways = {f"openvino {cores} {batch}": f"ours: {cores} streams, batch {batch}" for batch in (1, 4)}
    ways |= {"openvino 1 16": "OpenVINO: 1 stream, batch 16", "keras predict": "Keras predict, batch 16"}
    ways |= {"tensorflow xla": "TensorFlow with XLA, batch 16"}
    rows = []
    for backbone in ("densenet121", "resnet50"):
        rates: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(given.repeats):
            for way in ways:
                rates[way].append(harness.run_json([sys.executable, "-c", CODE, way, backbone])["rate"])
        ours = harness.median(rates[f"openvino {cores} 1"])
        for way, words in ways.items():
            rate = harness.median(rates[way])
            row = {"backbone": backbone, "way": words, "images/s": round(rate, 1)}
            rows.append({**row, "ours is times": round(ours / rate, 2)})
    harness.save(
        "network", "One stream a core on small batches is the fastest way to run either backbone on a CPU", rows
    )


if __name__ == "__main__":
    main()
