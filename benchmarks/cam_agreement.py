"""Our maps against pytorch-grad-cam's on the same weights, and their places against the network's own gradients."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import harness
import numpy as np

from cxrfeat.backbones import open_engine, registry
from cxrfeat.backbones.engine import weights_sha256
from cxrfeat.backbones.graph import keras_graph
from cxrfeat.backbones.weights import find
from cxrfeat.explain.cam import ClosedForm
from cxrfeat.explain.geometry import grid_to_input
from cxrfeat.explain.gradcam import Gradients, dense
from cxrfeat.images import prepare
from cxrfeat.images.decode import read_grey
from cxrfeat.store.recipe import Recipe

PACKAGES = ["torch==2.14.1", "torchvision==0.29.1", "grad-cam==1.5.7"]
LABELS = 14


def main() -> None:
    options = harness.parser(__doc__)
    options.add_argument("--number", type=int, default=4)
    given = options.parse_args()
    files, what = harness.image_files(given.images, given.number)
    images = np.stack([prepare.render(read_grey(path), 224) for path in files])
    rows = [*_against_peer(images), *(_places(name) for name in ("densenet121", "resnet50"))]
    claim = "maps equal pytorch-grad-cam's before the ReLU, and lie where the network looked"
    notes = f"DenseNet121, random:0, {len(images)} images ({what}), {LABELS} labels; differences as a share of the "
    notes += "largest value."
    harness.save("cam_agreement", claim, rows, notes)


def _against_peer(images: np.ndarray) -> list[dict]:
    rng, backbone = np.random.default_rng(0), registry.get("densenet121")
    weights = find(backbone, "random:0")
    coef, intercept = rng.normal(size=(LABELS, backbone.dim)) / 10, rng.normal(size=LABELS)
    graph = keras_graph("densenet121", weights, "torch", 224)
    recipe = Recipe("densenet121", weights.name, weights_sha256("densenet121", weights), "relu", "torch", 224)
    engine = open_engine(recipe, weights, "openvino", ("embedding", "map"))
    closed = ClosedForm([engine], coef, intercept)([images])
    ours = {"gradcam++": None, "hirescam": None, "gradcam": None}
    for name in ours:
        method = Gradients(name, [keras_graph("densenet121", weights, "torch", 224)], dense(coef, intercept))
        ours[name] = method([images])
    cells = closed.parts[0].shape[2] * closed.parts[0].shape[3]
    gradcam = ours["gradcam"].parts[0]
    rows = [
        {
            "compared": "closed form, less its intercept, / cells, with our Grad-CAM (OpenVINO with TensorFlow)",
            "largest difference": _share((closed.parts[0] - intercept[:, None, None]) / cells, gradcam),
        },
        {
            "compared": "mean of the closed form with the logit of the same pass",
            "largest difference": _share(
                closed.parts[0].mean(axis=(2, 3)), closed.embedding.astype(float) @ coef.T + intercept
            ),
        },
    ]
    python = harness.peer_python("gradcam", PACKAGES)
    if python is None:
        return rows
    with tempfile.TemporaryDirectory() as folder:
        _write_case(Path(folder) / "case.npz", graph, images, coef, intercept)
        answer = harness.run_json([python, harness.HERE / "peers" / "gradcam_peer.py", folder])
        with np.load(Path(folder) / "peer.npz") as peer:
            rows.append(
                {
                    "compared": "logits with the peer's",
                    "largest difference": _share(ours["gradcam"].logits, peer["logits"]),
                }
            )
            for name, found in ours.items():
                row = {"compared": f"{name} with pytorch-grad-cam 1.5.7"}
                row |= {"largest difference": _share(found.parts[0], peer[name])}
                rows.append(row | {"peer, seconds an image": round(answer["seconds"][name], 2)})
    return rows


def _share(a: np.ndarray, b: np.ndarray) -> float:
    return float(f"{np.abs(a - b).max() / np.abs(b).max():.2g}")


def _write_case(path: Path, graph, images: np.ndarray, coef: np.ndarray, intercept: np.ndarray) -> None:
    norm = prepare.NORMALISATION["torch"]
    layers = [layer for layer in graph.layers if layer.weights]
    arrays = {f"w{n}_{k}": w for n, layer in enumerate(layers) for k, w in enumerate(layer.get_weights())}
    epsilon = next(layer.epsilon for layer in layers if hasattr(layer, "epsilon"))
    np.savez(path, images=images, coef=coef, intercept=intercept, scale=norm.scale, offset=norm.offset,
             epsilon=epsilon, layers=len(layers), **arrays)  # fmt: skip


def _places(name: str) -> dict:
    """Centre of gravity of the input gradient of a cell in the middle, against where our geometry puts the cell."""
    import tensorflow as tf

    backbone = registry.get(name)
    size, shots = 640, 4
    graph = keras_graph(name, find(backbone, "random:0"), backbone.preprocessing, size)
    import keras

    # Differentiate by the float picture that the uint8 input becomes.
    tail = keras.Model(graph.get_layer("grey").output, graph.outputs[1])
    cell, total = size // 64, np.zeros((size, size))
    for seed in range(shots):
        image = tf.constant(np.random.default_rng(seed).uniform(0, 255, (1, size, size, 1)).astype(np.float32))
        with tf.GradientTape() as tape:
            tape.watch(image)
            value = tf.reduce_sum(tail(image)[:, cell, cell])
        total += np.abs(tape.gradient(value, image).numpy()[0, :, :, 0])
    weight = total / total.sum()
    y, x = (weight.sum(axis=1 - axis) @ np.arange(size) for axis in (0, 1))
    expected = grid_to_input(name) @ [cell, cell, 1]
    even = (cell + 0.5) * 32 - 0.5
    return {
        "compared": f"{name}: centre of cell ({cell}, {cell}) with the centre of its input gradient, pixels",
        "largest difference": round(float(max(abs(x - expected[0]), abs(y - expected[1]))), 1),
        "if cells were even shares": round(float(max(abs(x - even), abs(y - even))), 1),
    }


if __name__ == "__main__":
    main()
