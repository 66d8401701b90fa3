"""Imported weights against the package they come from: conversion time, embeddings, classifier outputs.

Random but realistic checkpoints are written by PyTorch, torchvision and TorchXRayVision, and read by them and by
cxrfeat. Each side prepares the films itself; half of them are cut to be oblong.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path

import harness
import numpy as np
from PIL import Image

import cxrfeat as cxr
from cxrfeat._heads.prediction import load_head

SIZES = (224, 320, 400, 512)
LAYOUTS = {
    "torchvision-densenet121": "torchvision-densenet121",
    "torchvision-resnet50": "torchvision-resnet50",
    "xrv-densenet121": "xrv-nih",
    "xrv-resnet50-512": "xrv-resnet50-all",
    "chexnet-pytorch": "chexnet-weng",
    "chexnet-keras": "chexnet-keras",
}


def main() -> None:
    options = harness.parser(__doc__)
    options.add_argument("--number", type=int, default=50)
    options.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    options.add_argument("--only", nargs="+", default=list(LAYOUTS))
    options.add_argument("--keep", action="store_true", help="keep rows of earlier results that are not measured now")
    given = options.parse_args()
    python = harness.peer_python("torch", ["torch", "torchvision", "torchxrayvision", "scikit-image", "pillow"])
    if python is None:
        sys.exit(2)
    peer = harness.HERE / "peers" / "checkpoints.py"
    files, what = harness.image_files(given.images, given.number)
    kept = harness.HERE / "results" / "weights_import.json"
    rows = json.loads(kept.read_text())["rows"] if given.keep and kept.exists() else []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["CXRFEAT_WEIGHTS"], os.environ["CXRFEAT_CACHE"] = str(folder / "weights"), str(folder / "cache")
        listing = folder / "films.txt"
        films = list(oblong(files, folder))
        listing.write_text("\n".join(map(str, films)))
        checkpoints = harness.run_json([python, peer, "make", folder])
        checkpoints["chexnet-keras"] = "chexnet.h5"
        keras_model(folder / "chexnet.h5")
        for key in given.only:
            begin = time.perf_counter()
            done = cxr.import_weights(
                folder / checkpoints[key], key, layout=LAYOUTS[key], with_head=key not in NO_LABELS, run=folder / key
            )
            seconds = time.perf_counter() - begin
            sizes = [512] if key == "xrv-resnet50-512" else given.sizes
            keras_one = key == "chexnet-keras"
            harness.run_json([python, peer, "scaled" if keras_one else "run", folder, key, listing, *sizes])
            for size in sizes:
                if keras_one:
                    keras_outputs(folder, size)
                theirs = np.load(folder / f"{key}-{size}.npz")
                ours = cxr.embed(films, weights=key, size=size)
                row = {
                    "checkpoint": key,
                    "px": size,
                    "films": len(films),
                    "embeddings: largest difference / largest value": ratio(ours, theirs["embeddings"]),
                }
                if done.run:
                    head = load_head(done.run)
                    named = [i for i, label in enumerate(done.card.labels) if label]
                    p, q = head.probabilities(ours)[:, head.fitted], theirs["outputs"][:, named][:, head.fitted]
                    row["outputs: largest difference"] = f"{np.abs(p - q).max():.1e}"
                rows = [one for one in rows if (one["checkpoint"], one["px"]) != (key, size)]
                rows.append({**row, "import, s": round(seconds, 2)})
                rows.sort(key=lambda one: (list(LAYOUTS).index(one["checkpoint"]), one["px"]))
                save(rows, what)


def save(rows: list[dict], what: str) -> None:
    harness.save(
        "weights_import",
        "Imported weights give the original package's embeddings and outputs within 1e-4, its preprocessing included; "
        "a DenseNet121 is imported in under 5 s",
        rows,
        f"Films: {what}, every second one cut to three quarters of its height. Random weights with the statistics of "
        "trained ones. Outputs are probabilities, after TorchXRayVision's `op_norm` where it has operating points.",
    )


NO_LABELS = ("torchvision-densenet121", "torchvision-resnet50")


def ratio(ours: np.ndarray, theirs: np.ndarray) -> str:
    return f"{np.abs(ours - theirs).max() / np.abs(theirs).max():.1e}"


def oblong(files: list[Path], folder: Path):
    """The films, every second one without the lowest quarter of its rows."""
    for number, file in enumerate(files):
        if number % 2 == 0:
            yield file
            continue
        with Image.open(file) as image:
            image = image.convert("L")
            image.crop((0, 0, image.width, image.height * 3 // 4)).save(folder / file.name)
        yield folder / file.name


def keras_model(path: Path) -> None:
    """CheXNet as github.com/brucechou1983/CheXNet-Keras builds it, saved by Keras."""
    import keras

    keras.utils.set_random_seed(5)
    base = keras.applications.DenseNet121(include_top=False, weights=None, pooling="avg")
    outputs = keras.layers.Dense(14, activation="sigmoid", name="predictions")(base.output)
    model = keras.Model(base.input, outputs)
    draw = np.random.default_rng(5)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            n = layer.gamma.shape[0]
            values = draw.uniform(0.5, 1, n), draw.normal(0, 0.2, n), draw.normal(0, 0.3, n), draw.uniform(0.5, 2, n)
            layer.set_weights(values)
    model.save(path)


def keras_outputs(folder: Path, size: int) -> None:
    """Embeddings and outputs of Keras itself, on films that scikit-image prepared."""
    import keras

    model = keras.models.load_model(folder / "chexnet.h5", compile=False)
    base = keras.applications.DenseNet121(include_top=False, weights=None, pooling="avg", input_shape=(size, size, 3))
    base.set_weights(model.get_weights()[:-2])
    x = base.predict(np.load(folder / f"chexnet-keras-{size}.npy"), batch_size=8, verbose=0)
    kernel, bias = model.get_weights()[-2:]
    np.savez(folder / f"chexnet-keras-{size}.npz", embeddings=x, outputs=1 / (1 + np.exp(-(x @ kernel + bias))))


if __name__ == "__main__":
    main()
