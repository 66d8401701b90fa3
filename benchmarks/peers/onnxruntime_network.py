"""The network alone in ONNX Runtime: one session a core, on the export that our engines read."""

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnxruntime as ort

model, cores, rounds = sys.argv[1], int(sys.argv[2]), 64
options = ort.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
sessions = [ort.InferenceSession(model, options, providers=["CPUExecutionProvider"]) for _ in range(cores)]
size = sessions[0].get_inputs()[0].shape[-1]
image = np.random.default_rng(0).integers(0, 256, (1, 1, size, size)).astype(np.float32)


def sit(session, rounds=rounds):
    for _ in range(rounds):
        session.run(["embedding"], {"image": image})


with ThreadPoolExecutor(cores) as pool:
    list(pool.map(lambda session: sit(session, 2), sessions))
    begun = time.perf_counter()
    list(pool.map(sit, sessions))
print(json.dumps({"rate": rounds * cores / (time.perf_counter() - begun)}))
