"""Our maps against pytorch-grad-cam's on the same weights, and against each other.

The peer's networks are torchvision's, filled with the weights of our Keras graphs and changed where the two differ (in
keras.applications' ResNet50 a block's stride is in its first convolution). Head weights are drawn wide: the peer adds
1e-6 to Grad-CAM++'s denominator, which would outweigh the squared gradients of a head with small weights.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import harness
import numpy as np

from cxrfeat._backbones import open_engine, registry
from cxrfeat._backbones.graph import keras_graph
from cxrfeat._backbones.weights import find, weights_sha256
from cxrfeat._explain.cam import ClosedForm, Evidence
from cxrfeat._explain.gradcam import FORMULAS, Gradients, dense
from cxrfeat._images import choices, prepare
from cxrfeat._images.decode import read_grey
from cxrfeat._recipe import Recipe

PACKAGES = ["torch==2.14.1", "torchvision==0.29.1", "grad-cam==1.5.7"]
LABELS = 3
PEERS = ("gradcam", "gradcam++", "hirescam")


def main() -> None:
    options = harness.parser(__doc__)
    options.add_argument("--number", type=int, default=2)
    given = options.parse_args()
    files, what = harness.image_files(given.images, given.number)
    images = np.stack([prepare.View(read_grey(path), 224).render() for path in files])
    rows = [row for name in ("densenet121", "resnet50") for row in _backbone(name, images)]
    claim = "maps equal pytorch-grad-cam's before the ReLU, and each other where they should, to 1e-5"
    notes = (
        f"Weights random:0, {len(images)} images ({what}), {LABELS} labels of a linear head; differences as a share "
    )
    notes += "of the largest value. pytorch-grad-cam 1.5.7. On global average pooling and a linear head the paper's "
    notes += "variant is HiResCAM."
    harness.save("cam_agreement", claim, rows, notes)


def _backbone(name: str, images: np.ndarray) -> list[dict]:
    rng, backbone = np.random.default_rng(0), registry.get(name)
    weights = find(backbone, "random:0")
    coef, intercept = 1000 * rng.normal(size=(LABELS, backbone.dim)), rng.normal(size=LABELS)
    graph = keras_graph(backbone, weights, backbone.preprocessing, 224)
    sha256 = weights_sha256(backbone, weights)
    recipe = Recipe(name, weights.name, sha256, backbone.layer, backbone.preprocessing, 224)
    engine = open_engine(recipe, weights, "openvino", ("embedding", "map"))
    closed = ClosedForm([engine], coef, intercept)([images])
    method = Gradients("gradcam", [graph], dense(coef, intercept))
    ours: dict[str, Evidence] = {}
    for method.name in FORMULAS:  # one graph; only the formula changes
        ours[method.name] = method([images])
    cells = closed.parts[0].shape[2] * closed.parts[0].shape[3]
    scaled = (closed.parts[0] - intercept[:, None, None]) / cells
    logits = closed.embedding.astype(float) @ coef.T + intercept
    rows = [
        _row(name, "closed form less its intercept, / cells, with our Grad-CAM", scaled, ours["gradcam"].parts[0]),
        _row(name, "our HiResCAM and the paper's variant", ours["paper"].parts[0], ours["hirescam"].parts[0]),
        _row(name, "mean of the closed form with the logit", closed.parts[0].mean(axis=(2, 3)), logits),
        _row(name, "logit, OpenVINO with TensorFlow", logits, ours["gradcam"].logits),
    ]
    python = harness.peer_python("gradcam", PACKAGES)
    if python is None:
        return rows
    with tempfile.TemporaryDirectory() as folder:
        _write_case(Path(folder) / "case.npz", name, graph, images, coef, intercept)
        seconds = harness.run_json([python, harness.HERE / "peers" / "gradcam_peer.py", folder])["seconds"]
        with np.load(Path(folder) / "peer.npz") as peer:
            rows.append(_row(name, "logit with the peer's", logits, peer["logits"]))
            for kind in PEERS:
                row = _row(name, f"{kind} with the peer's", ours[kind].parts[0], peer[kind])
                rows.append(row | {"peer, seconds an image and label": round(seconds[kind], 2)})
    return rows


def _row(name: str, compared: str, a: np.ndarray, b: np.ndarray) -> dict:
    difference = float(f"{np.abs(a - b).max() / np.abs(b).max():.2g}")
    return {"backbone": name, "compared": compared, "largest difference": difference}


def _write_case(path: Path, name: str, graph, images: np.ndarray, coef: np.ndarray, intercept: np.ndarray) -> None:
    norm = choices.NORMALISATION[registry.get(name).preprocessing]
    layers = [layer for layer in graph.layers if layer.weights]
    arrays = {f"{layer.name}/{k}": w for layer in layers for k, w in enumerate(layer.get_weights())}
    epsilon = next(layer.epsilon for layer in layers if hasattr(layer, "epsilon"))
    np.savez(path, backbone=name, images=images, coef=coef, intercept=intercept, scale=norm.scale, offset=norm.offset,
             epsilon=epsilon, **arrays)  # fmt: skip


if __name__ == "__main__":
    main()
