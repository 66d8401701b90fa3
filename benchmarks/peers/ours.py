"""Ours, timed as the peers are: from the first file to a closed embedding file, imports and export not counted."""

import json
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from cxrfeat import _machine as machine
from cxrfeat._backbones import open_engine
from cxrfeat._extract import extract, make_recipe, pipeline
from cxrfeat._study import Study

backbone, size, out, passes, listing = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
precision, bound = sys.argv[6] if len(sys.argv) > 6 else "float32", len(sys.argv) > 7
files = Path(listing).read_text().split("\n")
ids = [f"{i}-{Path(f).stem}" for i, f in enumerate(files)]
table = pd.DataFrame({"image_id": ids, "path": files, "patient_id": ids, "split": "train", "Mass": 1.0})
study = Study(table, ("Mass",), "bench")
# An int8 network is quantised here, once, and found by the next turn.
recipe = make_recipe(backbone, weights="random:0", size=size, passes=passes, precision=precision, study=study)
extract(study.take(range(min(16, len(files)))), recipe, out=out.with_suffix(".warm.h5"))
begun = time.perf_counter()
result = extract(study, recipe, out=out)
answer = {"seconds": time.perf_counter() - begun, "images": len(files), "worker_seconds": vars(result.seconds)}
answer["engine"] = result.engine
if bound:  # the two parts alone, in the same process: the network on every core, and preparation on one core
    from concurrent.futures import ThreadPoolExecutor

    ready, recipe = open_engine(recipe.pass0), recipe.pass0
    images = np.random.default_rng(0).integers(0, 256, (16, size, size), dtype=np.uint8)
    with ThreadPoolExecutor(ready.streams) as pool:
        list(pool.map(lambda _: ready.run(images[:2]), range(2 * ready.streams)))
        begun = time.perf_counter()
        list(pool.map(lambda _: ready.run(images), range(4 * ready.streams)))
        answer["network_seconds"] = (time.perf_counter() - begun) / (64 * ready.streams)

    class Nothing:
        batch, streams = 1, 1

        def run(self, images):
            return (np.zeros((len(images), 1), np.float32),)

    some = [pipeline.Item(i, Path(f)) for i, f in zip(ids[:64], files[:64], strict=True)]
    begun = time.perf_counter()
    for _ in pipeline.run(some, recipe, Nothing(), workers=1):
        continue
    answer["decode_seconds"] = (time.perf_counter() - begun) / len(some)
    answer["cores"] = machine.cores()
print(json.dumps(answer))
