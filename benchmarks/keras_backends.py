"""The same embedding file whichever backend Keras runs on, and OpenVINO's: compared value by value, on a CPU.

PyTorch is in an environment of its own (`CXRFEAT_BENCH_TORCH` names its interpreter, of this Python's version); JAX
and PyTorch run where TensorFlow cannot be imported.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import harness
import numpy as np

from cxrfeat._store import EmbeddingFile

BACKENDS = ("openvino", "tensorflow", "jax", "torch")


def main() -> None:
    options = harness.parser(__doc__)
    options.add_argument("--number", type=int, default=20, help="images; the last batch is not full")
    options.add_argument("--size", type=int, default=128)
    given = options.parse_args()
    files, what = harness.image_files(given.images, given.number)
    torch = harness.peer_python("torch", ["torch", "numpy"])
    # The peer's environment has PyTorch; the rest comes from this one.
    os.environ["PYTHONPATH"] = os.pathsep.join([str(harness.HERE.parent), str(Path(np.__file__).parents[1])])
    rows = []
    with tempfile.TemporaryDirectory() as name:
        listing = Path(name) / "files.txt"
        listing.write_text("\n".join(map(str, files)))
        for backbone in ("densenet121", "resnet50"):
            first = None
            for backend in BACKENDS if torch else BACKENDS[:-1]:
                python, out = torch if backend == "torch" else sys.executable, Path(name) / f"{backend}-{backbone}.h5"
                script = harness.HERE / "peers" / "extract_on.py"
                answer = harness.run_json([python, script, backend, backbone, given.size, out, listing])
                with EmbeddingFile.open(out) as file:
                    values = file.read([str(i) for i in range(len(files))])[0]
                first = values if first is None else first
                off = np.abs(values - first).max() / np.abs(first).max()
                row = {"backbone": backbone, "size": given.size, "images": len(files), "engine": answer["engine"]}
                rows.append(row | {"largest difference from the first": f"{off:.0e}" if off else "0"})
    harness.save(
        "keras_backends",
        "The same file within 1e-4 of the largest value on TensorFlow, JAX and PyTorch, and as OpenVINO's",
        rows,
        f"Images: {what}. Random weights. Differences are relative to the largest value.",
    )


if __name__ == "__main__":
    main()
