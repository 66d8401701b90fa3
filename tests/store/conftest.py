"""Synthetic embedding files: small ones, made through the same Writer as real ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from cxrfeat._recipe import Recipe
from cxrfeat._store import Writer


@dataclass
class Made:
    """A file and what went into it."""

    path: Path
    recipe: Recipe
    ids: list[str]
    image_sha256: np.ndarray
    embeddings: np.ndarray


def a_recipe(passes: int = 1, **changes) -> Recipe:
    fields = {"weights": "random:0", "weights_sha256": "0" * 64, "layer": "relu", "preprocessing": "torch", "size": 224}
    return Recipe("densenet121", **fields | changes, passes=passes, augmentation={"name": "mild"} if passes else None)


def some_rows(n: int, passes: int = 1, dim: int = 8, seed: int = 0):
    rng = np.random.default_rng(seed)
    ids = [f"{seed}-{i:05d}.png" for i in range(n)]
    hashes = rng.integers(1, 256, (n, 32), dtype=np.uint8)
    return ids, hashes, rng.standard_normal((passes + 1, n, dim), dtype=np.float32)


@pytest.fixture
def recipe() -> Callable[..., Recipe]:
    return a_recipe


@pytest.fixture
def rows() -> Callable:
    return some_rows


@pytest.fixture
def make_file(tmp_path: Path) -> Callable[..., Made]:
    """Make `tmp_path/<name>` with `n` rows: two passes, 8 values each, one image that could not be read."""

    def make(n: int = 600, name: str = "a.h5", passes: int = 1, dim: int = 8, seed: int = 0, **changes) -> Made:
        made_by = a_recipe(passes, **changes)
        ids, hashes, embeddings = some_rows(n, passes, dim, seed)
        with Writer.open(tmp_path / name, made_by, dim, {"engine": "none"}) as writer:
            writer.append(ids, hashes, embeddings)
            writer.fail("unreadable", "images/unreadable.png", "not an image")
            writer.publish(ids)
        return Made(tmp_path / name, made_by, ids, hashes, embeddings)

    return make
