import importlib.util
from pathlib import Path

import numpy as np
import pytest

from cxrfeat._backbones import registry
from cxrfeat._backbones.weights import Weights, weights_sha256
from cxrfeat._recipe import Recipe

SIZE = 64


@pytest.fixture(scope="session")
def recipe_for():
    """Recipe of a backbone with random weights at a size that is quick."""

    def make(backbone: str, size: int = SIZE) -> Recipe:
        spec = registry.get(backbone)
        sha256 = weights_sha256(spec, Weights("random:0"))
        return Recipe(backbone, "random:0", sha256, spec.layer, spec.preprocessing, size)

    return make


@pytest.fixture(scope="session")
def pictures():
    return np.random.default_rng(0).integers(0, 256, (5, SIZE, SIZE), dtype=np.uint8)


def load(name: str):
    """Import a file of this folder: it is no package, since test folders are not."""
    place = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(place)
    place.loader.exec_module(module)
    return module


@pytest.fixture
def small(monkeypatch):
    """The entry of `small_network.py`, as a backbone that users can name."""
    entry = load("small_network").SMALL
    monkeypatch.setitem(registry.BACKBONES._loaded, entry.name, entry)
    return entry


@pytest.fixture
def short(monkeypatch):
    """The entry of `short_densenet.py`."""
    entry = load("short_densenet").SHORT
    monkeypatch.setitem(registry.BACKBONES._loaded, entry.name, entry)
    return entry
