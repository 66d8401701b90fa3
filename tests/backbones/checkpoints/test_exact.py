"""Embeddings of imported weights are those of PyTorch, torchvision and TorchXRayVision (`tests/data/pytorch-2.15`)."""

from pathlib import Path

import numpy as np
import pytest

import cxrfeat as cxr
from cxrfeat._backbones import graph, library, open_engine, registry
from cxrfeat._backbones.checkpoints import convert
from cxrfeat._backbones.checkpoints.importing import import_file

TRUTH = Path(__file__).parents[2] / "data" / "pytorch-2.15" / "embeddings.npz"


@pytest.fixture(scope="module", autouse=True)
def place(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CXRFEAT_WEIGHTS", str(tmp_path_factory.mktemp("weights")))
        yield


def test_the_architecture_of_pytorchs_resnet_is_that_of_the_graph():
    """That of the other two: tests/backbones/test_graph.py."""
    (backbone,) = set(convert.ARCHITECTURES) - {"densenet121", "resnet50"}
    spec = registry.get(backbone)
    variables = graph.by_path(graph.keras_graph(spec, None, spec.preprocessing, 32))
    assert {name: tuple(variable.shape) for name, variable in variables.items()} == dict(convert._shapes(backbone, 3))


def test_what_keras_itself_has_saved_is_read_to_the_bit(tmp_path):
    """A network with a classifier as CheXNet-Keras builds it, in each of Keras's own containers."""
    import keras

    base = keras.applications.DenseNet121(include_top=False, weights=None, pooling="avg", input_shape=(32, 32, 3))
    top = keras.layers.Dense(14, activation="sigmoid", name="predictions")
    model = keras.Model(base.input, top(base.output))
    variables = {name: np.asarray(v) for name, v in graph.by_path(model).items() if not name.startswith("predictions")}
    cards = []
    for number, ending in enumerate((".h5", ".weights.h5", ".keras")):
        file = tmp_path / f"chexnet{ending}"
        model.save_weights(file) if ending == ".weights.h5" else model.save(file)
        cards.append(import_file(file, f"keras-{number}"))
        assert (cards[-1].layout, len(cards[-1].labels)) == ("chexnet-keras", 14)
        found = library.arrays(cards[-1], classifier=True)
        np.testing.assert_array_equal(found["kernel"], np.asarray(top.kernel))
    assert {card.values_sha256 for card in cards} == {library.values_sha256(variables)}


@pytest.mark.parametrize(
    ("key", "layout", "state"),
    [
        ("densenet121", "chexnet-weng", {}),
        ("resnet50-v1.5", "torchvision-resnet50", {"backbone": "resnet50-v1.5", "outputs": 1000, "top": "fc"}),
        ("xrv-nih", "xrv-nih", {"channels": 1, "outputs": 18}),
    ],
)
def test_embeddings_are_those_of_the_original_package(tmp_path, checkpoints, key, layout, state):
    truth = np.load(TRUTH)
    import_file(checkpoints.save_state(tmp_path / "a.pt", checkpoints.state_dict(**state)), key, layout)
    recipe = cxr.make_recipe(weights=key, size=64)
    images = truth["images"] if recipe.interpolation != "skimage" else truth["images"].astype(np.float32)
    (found,) = open_engine(recipe).run(images)
    np.testing.assert_allclose(found, truth[key], atol=1e-5 * np.abs(truth[key]).max())
