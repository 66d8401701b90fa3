"""What every backend of Keras must agree on, computed on one of them; run as a script.

Arguments: the backend, a folder with `study.csv` and its images, the file to write (.npz). TensorFlow cannot be
imported unless it is the backend. TensorFlow and JAX have two virtual processors, which stand for two GPUs. There is no
network; what would have been asked of it is printed.
"""

# ruff: noqa: E402
import json
import os
import sys
import threading
from importlib.machinery import PathFinder
from pathlib import Path

asked = []


def note(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "urllib.Request"):
        asked.append(f"{event} {arguments}")
        raise OSError("there is no network")


sys.addaudithook(note)
name, folder, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
os.environ |= {"KERAS_BACKEND": name, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
if name == "tensorflow":
    import tensorflow as tf

    two = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], two)
else:
    find = PathFinder.find_spec
    PathFinder.find_spec = lambda name, *more: None if name.startswith("tensorflow") else find(name, *more)
if name == "jax":
    os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"

import numpy as np
from small_network import SMALL

import cxrfeat as cxr
from cxrfeat._backbones import backends, graph, keras_engine, open_engine, registry
from cxrfeat._backbones.weights import Weights
from cxrfeat._explain.gradcam import Gradients, cascade, dense, score_of
from cxrfeat._heads import keras_head

registry.BACKBONES._loaded["small"] = SMALL
study = cxr.read_study(folder / "study.csv")
SIZE = 64


def build(dtype="uint8"):
    return graph.keras_graph(SMALL, Weights("random:0"), SMALL.preprocessing, SIZE, dtype)


pictures = np.load(folder / "pictures.npy")
found = {}

engine = keras_engine.open_engine(build, ("embedding", "map"), SIZE)
devices = 1 if name == "torch" else 2
assert engine.streams == devices and backends.backend().title in engine.name, engine
placed = [engine.networks.get() for _ in range(devices)]
assert len({device for device, _ in placed}) == devices, placed
for pair in placed:
    engine.networks.put(pair)
together = [None] * devices


def run(i):
    together[i] = engine.run(pictures)


threads = [threading.Thread(target=run, args=(i,)) for i in range(devices)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
found["embedding"], found["map"] = together[0]
for one, other in zip(together[0], together[-1], strict=True):
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-6 * np.abs(one).max())
for precision in ("float16", "bfloat16"):
    reduced = keras_engine.open_engine(build, ("embedding",), SIZE, precision, [placed[0][0]])
    (found[precision],) = reduced.run(pictures)

rng = np.random.default_rng(1)
coef, intercept = rng.normal(size=(3, SMALL.dim)), rng.normal(size=3)
coef[1] = intercept[1] = np.nan
score = score_of("probability", True, np.isfinite(intercept))
maps = Gradients("gradcam++", [build()], dense(coef, intercept), score)
evidence = maps([pictures])
found["gradients"], found["logits"] = evidence.parts[0], evidence.logits
list(cascade(maps))  # the same compiled network, other weights
found["randomised"] = maps([pictures]).parts[0]

options = {"backbone": "small", "weights": "random:0", "size": SIZE, "engine": "keras"}
extracted = cxr.extract(study, out=out.with_suffix(".h5"), **options)
# Translated from this backend's graph, in one process with it.
(found["openvino"],) = open_engine(extracted.recipe, engine="openvino", fresh=True).run(pictures)
built = keras_head.build


def build_head(*how):
    """A head with first weights that do not depend on the backend: each draws its own."""
    model, rng = built(*how), np.random.default_rng(0)
    model.set_weights([rng.normal(0, 0.3, w.shape) for w in model.get_weights()])
    return model


keras_head.build = build_head
settings = {"epochs": 6, "batch": 4, "hidden": 5, "learning_rate": 0.01, "patience": 100}
fitted = cxr.fit_head(study, extracted.path, "keras", out=out.with_suffix(""), settings=settings, passes="0")
found["losses"] = np.genfromtxt(fitted.path / "history.csv", delimiter=",", names=True)["loss"]
found["predictions"] = cxr.predict(fitted, study.paths()).filter(list(study.labels)).to_numpy()
np.savez(out, **found)
if name == "tensorflow":
    from cxrfeat_ward import TINY  # which is converted by OpenVINO, and not translated by us

    registry.BACKBONES._loaded["tiny"] = TINY
    recipe = cxr.make_recipe("tiny", weights="random:0", size=32)
    assert cxr.embed(np.zeros((1, 40, 40), np.uint8), recipe, engine="openvino").shape == (1, 32)
for thread in threading.enumerate():  # telemetry is sent by threads of its own
    if thread is not threading.current_thread() and not thread.daemon:
        thread.join(5)
print(json.dumps(asked))
