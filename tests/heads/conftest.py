"""A small study and embedding files for it, made through the project's own writer."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cxrfeat._recipe import Recipe
from cxrfeat._store import Writer
from cxrfeat._study import Study

LABELS = ("Mass", "Edema", "Hernia")
DIM = 12


def _recipe(passes=0, **changes):
    fields = {
        "backbone": "densenet121",
        "weights": "random:0",
        "weights_sha256": "0" * 64,
        "layer": "relu",
        "preprocessing": "torch",
        "size": 224,
        "passes": passes,
        "augmentation": {"name": "mild"} if passes else None,
    }
    return Recipe(**{**fields, **changes})


def _make_study(n=240, seed=0, val=True, name="small"):
    rng = np.random.default_rng(seed)
    patient = np.sort(rng.integers(0, n // 2, n))
    side = rng.choice(
        ["train", "val", "test"] if val else ["train", "test"], n // 2, p=[0.6, 0.2, 0.2] if val else [0.8, 0.2]
    )
    y = (rng.random((n, len(LABELS))) < [0.4, 0.3, 0.25]).astype(float)
    table = pd.DataFrame(
        {
            "image_id": [f"i{k:04d}.png" for k in rng.permutation(n)],
            "path": [f"images/{k}.png" for k in range(n)],
            "patient_id": [f"p{p}" for p in patient],
            "split": side[patient],
            **{label: y[:, k] for k, label in enumerate(LABELS)},
        }
    )
    return Study(table, LABELS, name)


def _write_file(path, study, passes=0, seed=1, dim=DIM, **changes):
    """Embeddings that know something of the labels; augmented passes differ a little from pass 0."""
    rng = np.random.default_rng(seed)
    clean = np.maximum(
        rng.standard_normal((len(study), dim)) + np.nan_to_num(study.y) @ rng.standard_normal((3, dim)), 0
    )
    noise = 0.1 * rng.standard_normal((passes, len(study), dim))
    x = np.concatenate([clean[None], clean + noise]).astype(np.float32)
    order = rng.permutation(len(study))
    with Writer.open(path, _recipe(passes, **changes), dim, {}) as writer:
        writer.append(study.ids[order].tolist(), np.zeros((len(study), 32), np.uint8), x[:, order])
        writer.publish(study.ids[order].tolist())
    return path


@pytest.fixture(scope="session")
def study():
    return _make_study()


@pytest.fixture(scope="session")
def embeddings(study, tmp_path_factory):
    """One clean and two augmented passes."""
    return _write_file(tmp_path_factory.mktemp("cache") / "small.h5", study, passes=2)


@pytest.fixture(scope="session")
def make_study():
    """A function that makes such a study."""
    return _make_study


@pytest.fixture(scope="session")
def write_file():
    """A function that writes an embedding file for a study."""
    return _write_file
