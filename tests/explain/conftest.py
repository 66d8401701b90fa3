"""Small networks for explanations: one of block means whose answer is known, and a real one with random weights."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest

from cxrfeat.store.recipe import Recipe
from cxrfeat.study import Study

LABELS = ("Effusion", "Mass", "Nodule")
SIZE = 96


class BlockEngine:
    """A stand-in network whose features are known: channel 0 the brightness of each 32 px block, channel 1 darkness."""

    name, batch, seats = "blocks", 4, 2

    def run(self, images):
        n, size, _ = images.shape
        cells = size // 32
        bright = images.reshape(n, cells, 32, cells, 32).mean(axis=(2, 4)) / 255
        features = np.stack([bright, 1 - bright], axis=3).astype(np.float32)
        return features.mean(axis=(1, 2)), features


@pytest.fixture
def block_engine():
    return BlockEngine()


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> SimpleNamespace:
    """A run of a logistic head on real (random-weight) DenseNet121 embeddings of 30 small images, and its parts."""
    from cxrfeat.backbones import open_engine, registry
    from cxrfeat.backbones.engine import weights_sha256
    from cxrfeat.backbones.weights import find
    from cxrfeat.heads import fit_head
    from cxrfeat.images import prepare
    from cxrfeat.images.decode import read_grey
    from cxrfeat.store import Writer

    folder = tmp_path_factory.mktemp("trained")
    study = _study(folder / "films", 30)
    backbone = registry.get("densenet121")
    weights = find(backbone, "random:0")
    recipe = Recipe(
        "densenet121", weights.name, weights_sha256("densenet121", weights), backbone.cam_layer, "torch", SIZE
    )
    pixels = np.stack([prepare.render(read_grey(path), SIZE) for path in study.paths()])
    (embeddings,) = open_engine(recipe, weights, "openvino").run(pixels)
    file = folder / "films.h5"
    with Writer.open(file, recipe, backbone.dim, {}) as writer:
        writer.append(list(study.ids), np.zeros((len(study), 32), np.uint8), embeddings[None])
        writer.publish(list(study.ids))
    run = fit_head(study, file, "logistic", out=folder / "run")
    return SimpleNamespace(run=run, study=study, file=file, folder=folder, recipe=recipe, weights=weights, pixels=pixels)


@pytest.fixture(scope="session")
def graph(trained):
    """The flat Keras graph of the trained run's backbone."""
    from cxrfeat.backbones.graph import keras_graph

    return keras_graph("densenet121", trained.weights, "torch", SIZE)


def _study(folder: Path, n: int) -> Study:
    rng = np.random.default_rng(1)
    folder.mkdir(parents=True)
    for i in range(n):
        coarse = rng.integers(0, 256, (8, 8), dtype=np.uint8)
        cv2.imwrite(str(folder / f"film{i:02d}.png"), cv2.resize(coarse, (120, 120), interpolation=cv2.INTER_CUBIC))
    table = pd.DataFrame(
        {
            "image_id": [f"film{i:02d}.png" for i in range(n)],
            "path": [f"film{i:02d}.png" for i in range(n)],
            "patient_id": [f"p{i}" for i in range(n)],
            "split": ["train"] * (n - 18) + ["val"] * 8 + ["test"] * 10,
        }
    )
    for k, label in enumerate(LABELS):
        table[label] = [float((i + k) % 2) for i in range(n)]
    return Study(table, LABELS, "films", folder)
