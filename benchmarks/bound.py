"""What bounds the network on this processor: where an inference's time goes, beside the rate of a matrix product.

One OpenVINO session on one core, by OpenVINO's own counters, and float32 matrix products of numpy on one core and on
all. The bound is what the convolutions would reach at the products' rate, with everything else for nothing.
"""

from __future__ import annotations

import sys

import harness

CODE = """
import json, sys, time
import numpy as np
import onnx, openvino
from collections import Counter
from cxrfeat._backbones import kept, open_engine
from cxrfeat._extract import make_recipe
backbone = sys.argv[1]
open_engine(make_recipe(backbone, weights="random:0"))
folders = [row["folder"] for row in kept.exports() if (row["backbone"], row["size"]) == (backbone, 224)]
folder = next(folder for folder in folders if (folder / "model.onnx").exists())
model = onnx.load(str(folder / "model.onnx"))
inferred = onnx.shape_inference.infer_shapes(model).graph
shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in inferred.value_info}
kernels = {tensor.name: tensor.dims for tensor in model.graph.initializer}
products = sum(
    int(np.prod(shapes[n.output[0]][2:])) * int(np.prod(kernels[n.input[1]]))
    for n in model.graph.node if n.op_type == "Conv"
)
core = openvino.Core()
read = core.read_model(folder / "model.onnx")
read = openvino.Model([read.output("embedding").node], read.get_parameters(), "network")
one = {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": "1", "INFERENCE_NUM_THREADS": 1, "PERF_COUNT": "YES"}
request = core.compile_model(read, "CPU", one).create_infer_request()
image = np.random.default_rng(0).integers(0, 256, (1, 1, 224, 224)).astype(np.float32)
spent, rounds = Counter(), 30
for i in range(rounds + 5):
    request.infer([image])
    if i >= 5:
        for entry in request.profiling_info:
            spent[entry.node_type] += 1000 * entry.real_time.total_seconds() / rounds
print(json.dumps({"gflop": 2e-9 * products, "ms": dict(spent)}))
"""
PRODUCT = """
import json, sys, time
import numpy as np
from threadpoolctl import threadpool_limits
a = np.random.default_rng(0).random((4096, 4096), np.float32)
rates = []
with threadpool_limits(int(sys.argv[1])):
    for _ in range(4):
        begun = time.perf_counter()
        a @ a
        rates.append(2e-9 * 4096**3 / (time.perf_counter() - begun))
print(json.dumps({"rate": max(rates)}))
"""
KINDS = {"Convolution": "convolutions", "Concat": "concatenations", "Subgraph": "normalising and rectifying"}


def main() -> None:
    harness.parser(__doc__).parse_args()
    cores = harness.machine.cores()
    one, all_ = (harness.run_json([sys.executable, "-c", PRODUCT, n])["rate"] for n in (1, cores))
    rows = []
    for backbone in ("densenet121", "resnet50"):
        found = harness.run_json([sys.executable, "-c", CODE, backbone])
        gflop, spent, total = (
            found["gflop"],
            dict.fromkeys([*KINDS.values(), "the rest"], 0.0),
            sum(found["ms"].values()),
        )
        for kind, ms in found["ms"].items():
            spent[KINDS.get(kind, "the rest")] += ms
        for what, ms in spent.items():
            rows.append({"backbone": backbone, "what": what, "ms": round(ms, 1), "share": round(ms / total, 3)})
        rate = gflop / spent["convolutions"] * 1000
        rows.append({"backbone": backbone, "what": "GFLOP of the convolutions", "value": round(gflop, 2)})
        rows.append({"backbone": backbone, "what": "their GFLOP/s, one core", "value": round(rate)})
        rows.append({"backbone": backbone, "what": "a matrix product's GFLOP/s, one core", "value": round(one)})
        bound = round(all_ / gflop, 1)
        rows.append({"backbone": backbone, "what": f"bound, images/s, {cores} cores", "value": bound})
    harness.save(
        "bound",
        "Convolutions run at the rate of a matrix product; the rest is little",
        rows,
        "One picture of 224 pixels in one session; what takes less than a microsecond is not counted. The bound: "
        f"a matrix product's rate on all cores ({all_:.0f} GFLOP/s) over the GFLOP of the convolutions.",
    )


if __name__ == "__main__":
    main()
