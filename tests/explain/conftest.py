"""A stand-in network whose answer is known, and the graph of the trained run's real one."""

from __future__ import annotations

import numpy as np
import pytest


class BlockEngine:
    """A stand-in network whose features are known: channel 0 the brightness of each 32 px block, channel 1 darkness."""

    name, batch, streams = "blocks", 4, 2

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
def graph(trained):
    """The flat Keras graph of the trained run's backbone."""
    from cxrfeat._backbones import registry
    from cxrfeat._backbones.graph import keras_graph

    return keras_graph(registry.get(trained.recipe.backbone), trained.weights, "torch", trained.recipe.size)


@pytest.fixture(scope="session")
def keras():
    """Keras, imported when a test wants it and not when tests are collected."""
    import keras

    return keras
