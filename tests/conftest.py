"""What several test modules share."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxrfeat.labels import NIH_LABELS
from cxrfeat.store.recipe import Recipe


def write_run(folder: Path, strength: float = 1.0, weights: str = "imagenet", seed: int = 0, **info) -> Path:
    """Write a run folder as `fit-head` leaves it, with made-up predictions: 300 images of 120 patients.

    The last label has no positive in the test split. `strength` is how far positives' logits stand above the others'.
    """
    rng = np.random.default_rng(seed)
    n = 300
    patients = rng.integers(0, 120, n)
    split = np.where(patients < 60, "train", np.where(patients < 80, "val", "test"))
    prevalence = np.linspace(0.05, 0.4, 14)
    noise = rng.normal(size=(n, 14))
    y = (rng.random((n, 14)) < prevalence).astype(int)
    y[split == "test", 13] = 0
    logits = noise + strength * y * np.linspace(0.2, 2.0, 14) + np.log(prevalence / (1 - prevalence))
    ids = [f"{i:05d}.png" for i in range(n)]
    table = pd.DataFrame(
        {
            "image_id": ids,
            "path": [f"images/{name}" for name in ids],
            "patient_id": patients.astype(str),
            "split": split,
            "view": rng.choice(["PA", "AP"], n),
            "sex": rng.choice(["F", "M"], n),
            "age": rng.integers(5, 95, n),
        }
    )
    folder.mkdir(parents=True, exist_ok=True)
    labels = pd.DataFrame(y, columns=list(NIH_LABELS))
    pd.concat([table, labels], axis=1).to_csv(folder / "study.csv", index=False)
    probabilities = pd.DataFrame(1 / (1 + np.exp(-logits)), columns=list(NIH_LABELS))
    pd.concat([table[["image_id", "split"]], probabilities], axis=1).to_csv(folder / "predictions.csv", index=False)
    recipe = Recipe("densenet121", weights, "0" * 64, "relu", "torch", 224)
    head = {
        "format": "cxrfeat-run",
        "format_version": 1,
        "kind": "logistic",
        "labels": list(NIH_LABELS),
        "recipes": [json.loads(recipe.to_json())],
        "study": {"name": "made-up", "sha256": "0"},
        "thresholds": {
            "method": "youden",
            "split": "val",
            "values": dict(zip(NIH_LABELS, prevalence.tolist(), strict=True)),
        },
        "fitted_on": {"splits": ["train"]},
        "unfitted": [],
        "created": "2026-01-01T00:00:00+00:00",
        **info,
    }
    (folder / "head.json").write_text(json.dumps(head))
    return folder


@pytest.fixture
def make_run(tmp_path):
    """Give `write_run` under the test's own folder: make_run("a", strength=1.3) -> path."""
    return lambda name, **kwargs: write_run(tmp_path / name, **kwargs)
