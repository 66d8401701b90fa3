"""An extraction by the Keras engine on one backend; TensorFlow cannot be imported unless it is the backend.

Arguments: the backend, backbone, side, file to write, and a file that lists the images.
"""

# ruff: noqa: E402
import json
import os
import sys
from importlib.machinery import PathFinder
from pathlib import Path

backend, backbone, size, out, listing = sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]), sys.argv[5]
engine = "openvino" if backend == "openvino" else "keras"
if engine == "keras":
    os.environ["KERAS_BACKEND"] = backend
if backend in ("jax", "torch"):
    find = PathFinder.find_spec
    PathFinder.find_spec = lambda name, *more: None if name.startswith("tensorflow") else find(name, *more)

import pandas as pd

import cxrfeat as cxr
from cxrfeat._study import Study

files = Path(listing).read_text().split("\n")
ids = [str(i) for i in range(len(files))]
table = pd.DataFrame({"image_id": ids, "path": files, "patient_id": ids, "split": "train", "Mass": 1.0})
study = Study(table, ("Mass",), "bench")
found = cxr.extract(study, out=out, backbone=backbone, weights="random:0", size=size, engine=engine)
print(json.dumps({"engine": found.engine}))
