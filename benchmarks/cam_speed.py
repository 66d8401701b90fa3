"""All 14 maps of an image: ours in closed form, beside one forward pass and beside 14 backward passes.

The 14 backward passes are what tutorials do: for each label the full Keras graph runs forward under a gradient tape
and the gradient of its logit is taken at the mapped layer.
"""

from __future__ import annotations

import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import harness
import numpy as np

from cxrfeat._backbones import open_engine, registry
from cxrfeat._backbones.graph import keras_graph
from cxrfeat._backbones.weights import find, weights_sha256
from cxrfeat._explain.cam import ClosedForm, forward
from cxrfeat._explain.gradcam import Gradients, dense
from cxrfeat._images import prepare
from cxrfeat._images.decode import read_grey
from cxrfeat._recipe import Recipe

LABELS = 14


def main() -> None:
    options = harness.parser(__doc__)
    options.add_argument("--number", type=int, default=32)
    options.add_argument("--repeats", type=int, default=7)
    options.add_argument("--naive", type=int, default=4, help="images for the 14 backward passes, which are slow")
    given = options.parse_args()
    files, what = harness.image_files(given.images, given.number)
    rows = [_one(name, files, given.repeats, given.naive) for name in ("densenet121", "resnet50")]
    claim = "all 14 maps of an image cost at most 1.15 forward passes, and 14 backward passes at least 10 times as much"
    harness.save("cam_speed", claim, rows, f"Images: {what}. Medians of interleaved rounds; decoding is not counted.")


def _one(name: str, files: list, repeats: int, naive: int) -> dict:
    backbone, rng = registry.get(name), np.random.default_rng(0)
    weights = find(backbone, "random:0")
    recipe = Recipe(name, weights.name, weights_sha256(backbone, weights), backbone.layer, backbone.preprocessing, 224)
    images = np.stack([prepare.View(read_grey(path), 224).render() for path in files])
    coef, intercept = rng.normal(size=(LABELS, backbone.dim)) / 10, rng.normal(size=LABELS)
    plain = open_engine(recipe, weights, "openvino")
    closed = ClosedForm([open_engine(recipe, weights, "openvino", ("embedding", "map"))], coef, intercept)
    tutorial = _tutorial(keras_graph(backbone, weights, recipe.preprocessing, 224), coef, intercept)
    ours = Gradients("gradcam", [keras_graph(backbone, weights, recipe.preprocessing, 224)], dense(coef, intercept))
    timed = {
        "forward": (lambda: forward(plain, images), len(images)),
        "closed": (lambda: closed([images]), len(images)),
        "gradients": (lambda: ours([images[:naive]]), naive),
        "tutorial": (lambda: tutorial(images[:naive]), naive),
    }
    for call, _ in timed.values():  # tracing and first touches are not counted
        call()
    seconds: dict[str, list[float]] = {key: [] for key in timed}
    for _ in range(repeats):
        for key, (call, number) in timed.items():
            start = time.perf_counter()
            call()
            seconds[key].append((time.perf_counter() - start) / number)
    median = {key: float(np.median(values)) for key, values in seconds.items()}
    # Ratios of neighbours in time: what else the machine did falls on both.
    ratio = float(np.median(np.array(seconds["closed"]) / np.array(seconds["forward"])))
    slower = float(np.median(np.array(seconds["tutorial"]) / np.array(seconds["closed"])))
    return {
        "backbone": name,
        "forward pass, ms": round(1000 * median["forward"], 1),
        "14 maps in closed form, ms": round(1000 * median["closed"], 1),
        "maps / forward pass": round(ratio, 3),
        "14 backward passes, ms": round(1000 * median["tutorial"], 1),
        "backward passes / maps": round(slower, 1),
        "14 maps by our gradients, ms": round(1000 * median["gradients"], 1),
    }


def _tutorial(graph, coef, intercept):
    """Grad-CAM as the Keras examples have it, a function of images (n, 224, 224)."""
    import tensorflow as tf

    logits = dense(coef, intercept)(graph.outputs[0])
    import keras

    model = keras.Model(graph.inputs, [graph.outputs[1], logits])

    @tf.function
    def one(images, label):
        with tf.GradientTape() as tape:
            features, scores = model(images)
            score = tf.gather(scores, label, axis=1)
        gradient = tape.gradient(score, features)
        weight = tf.reduce_mean(gradient, axis=(1, 2), keepdims=True)
        return tf.reduce_sum(weight * features, axis=-1)

    def run(images):
        batch = tf.constant(images[..., None])
        return [one(batch, tf.constant(label)).numpy() for label in range(LABELS)]

    return run


if __name__ == "__main__":
    main()
