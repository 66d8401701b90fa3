"""What several test modules share: the embedded sample, tiny studies of generated images, made-up runs."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from filelock import FileLock

from cxrfeat import _sample as sample
from cxrfeat._labels import NIH_LABELS
from cxrfeat._recipe import Recipe
from cxrfeat._study import Study

LONGEST = ("test_ray.py", "docs/test_tutorial.py", "test_reproduce.py", "backbones/test_backends.py",
           "docs/test_public.py", "backbones/test_graph.py", "backbones/test_any_backbone.py",
           "heads/test_keras_training.py", "test_plugin.py", "extract/test_killed.py", "backbones/test_engines.py",
           "extract/test_extraction.py", "docs/test_notebook.py", "test_demo.py", "docs/test_site.py")  # fmt: skip
"""Files that begin first: were one of them the last, a worker would wait for it with nothing to do."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first; they keep the order of their tests."""
    here = Path(__file__).parent
    place = {here / name: k for k, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


@pytest.fixture(scope="session")
def of_all_workers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of this test run's that its workers share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base


@pytest.fixture(scope="session", autouse=True)
def own_cache(of_all_workers: Path) -> Iterator[Path]:
    """Keep exported networks in a folder of this test run's, shared by its workers, and never in the user's.

    Imported weights go into another, which each test may set for itself (`CXRFEAT_WEIGHTS`).
    """
    folder = of_all_workers / "cxrfeat-cache"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CXRFEAT_CACHE", str(folder))
        patch.setenv("CXRFEAT_WEIGHTS", str(folder.with_name("cxrfeat-weights")))
        yield folder


@pytest.fixture(scope="session")
def demo_run(of_all_workers: Path, own_cache: Path) -> SimpleNamespace:
    """`cxrfeat demo` with random weights, run once for all workers: its `folder`, `words`, `stdout` and `stderr`."""
    from cxrfeat._backbones import open_engine
    from cxrfeat._extract import make_recipe

    folder, told = of_all_workers / "demo", of_all_workers / "demo.json"
    with FileLock(of_all_workers / "demo.lock"):
        if not told.exists():
            folder.mkdir()
            # Here, where TensorFlow is imported already, the network is exported for the process that runs the demo.
            open_engine(make_recipe("densenet121", weights="random:0"), engine="openvino")
            words = ["demo", "-o", "out", "--weights", "random:0", "--passes", "0", "--json"]
            command = [sys.executable, "-m", "cxrfeat_cli.main", *words]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            told.write_text(json.dumps({"words": words, "stdout": done.stdout, "stderr": done.stderr}))
    return SimpleNamespace(folder=folder, **json.loads(told.read_text()))


@pytest.fixture(scope="module")
def graphs() -> Iterator[dict[tuple, Any]]:
    """Build each Keras graph once in a module; a test that changes one empties this dictionary of them afterwards."""
    from cxrfeat._backbones import graph

    build, kept = graph.keras_graph, {}

    def once(spec, weights, preprocessing, size, dtype="uint8"):
        key = spec.sha256, weights, preprocessing, size, dtype
        if key not in kept:
            kept[key] = build(spec, *key[1:])
        return kept[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph, "keras_graph", once)
        yield kept


def _module(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / f"backbones/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def small_networks() -> Iterator[None]:
    """Put small networks in the places of DenseNet121 and ResNet50, for tests of what happens around them."""
    from dataclasses import replace

    from cxrfeat._backbones.registry import BACKBONES

    small = _module("small_network")
    shape = {name: getattr(small.SMALL, name) for name in ("dim", "layer", "stride", "first_centre")}
    with pytest.MonkeyPatch.context() as patch:
        for name in ("densenet121", "resnet50"):
            patch.setitem(BACKBONES._loaded, name, replace(BACKBONES[name], builder=small.build, arguments={}, **shape))
        yield


@pytest.fixture
def in_sweeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks, samples and limits of size, for rows of a test: every problem begins at a sample and goes in sweeps."""
    monkeypatch.setattr("cxrfeat._heads.solver.path.DENSE_BYTES", 0)
    monkeypatch.setattr("cxrfeat._heads.solver.path.MANY", 1)
    monkeypatch.setattr("cxrfeat._heads.solver.path.SAMPLE_ROWS", 8)
    monkeypatch.setattr("cxrfeat._heads.solver.rows.BLOCK", 64)


@pytest.fixture(scope="session")
def checkpoints() -> Any:
    """The module that writes files as PyTorch does."""
    return _module("pytorch_files")


@pytest.fixture(scope="session")
def tiny_onnx() -> Any:
    """The module that makes small ONNX networks."""
    return _module("tiny_onnx")


@pytest.fixture(scope="session")
def sample_study() -> Study:
    return sample.study()


def draw_image(path: Path, seed: int, size: int = 64) -> Path:
    """Write a grey PNG of smooth random structure, different for every seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC))
    return path


@pytest.fixture
def make_study(tmp_path: Path) -> Callable[..., Study]:
    """Make a study of `n` generated images under `tmp_path/tiny`, two to a patient, splits 60:20:20 by patient."""

    def make(n: int = 10, labels: tuple[str, ...] = ("Effusion", "Mass"), size: int = 64, name: str = "tiny") -> Study:
        rng = np.random.default_rng(0)
        sides = ["train", "train", "train", "val", "test"]
        ids = [f"img{i:03d}" for i in range(n)]
        for i, image_id in enumerate(ids):
            draw_image(tmp_path / name / f"{image_id}.png", i, size)
        table = pd.DataFrame(
            {
                "image_id": ids,
                "path": [f"{i}.png" for i in ids],
                "patient_id": [f"p{i // 2}" for i in range(n)],
                "split": [sides[i // 2 % 5] for i in range(n)],
            }
        )
        for j, label in enumerate(labels):
            y = rng.integers(0, 2, n).astype(float)
            y[j % n], y[(j + 1) % n] = 1.0, 0.0  # both classes occur
            table[label] = y
        return Study(table, labels, name, tmp_path / name)

    return make


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


@pytest.fixture(scope="session")
def run_writer():
    """Give `write_run` itself, for fixtures that live longer than a test."""
    return write_run


@pytest.fixture
def make_run(tmp_path):
    """Give `write_run` under the test's own folder: make_run("a", strength=1.3) -> path."""
    return lambda name, **kwargs: write_run(tmp_path / name, **kwargs)


@pytest.fixture(scope="session")
def films(tmp_path_factory) -> Study:
    """A study of 30 drawn films with three labels: 12 to train, 8 to validate, 10 to test."""
    return _films(tmp_path_factory.mktemp("films") / "films", 30)


@pytest.fixture(scope="session")
def trained(tmp_path_factory, films) -> Iterator[SimpleNamespace]:
    """A logistic run on real embeddings of 30 films by a short DenseNet (random weights), and what it was made of.

    Attributes: `run`, `study`, `file` (embeddings), `recipe`, `weights`, `pixels` (network inputs), `folder`.
    """
    from cxrfeat._backbones import open_engine, registry
    from cxrfeat._backbones.weights import find, weights_sha256
    from cxrfeat._heads import fit_head
    from cxrfeat._images import prepare
    from cxrfeat._images.decode import read_grey
    from cxrfeat._store import Writer

    folder, study = tmp_path_factory.mktemp("trained"), films
    backbone = _module("short_densenet").SHORT
    weights = find(backbone, "random:0")
    recipe = Recipe(backbone.name, weights.name, weights_sha256(backbone, weights), backbone.layer, "torch", 96)
    pixels = np.stack([prepare.View(read_grey(path), 96).render() for path in study.paths()])
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.BACKBONES._loaded, backbone.name, backbone)
        (embeddings,) = open_engine(recipe, weights, "openvino").run(pixels)
        file = folder / "films.h5"
        with Writer.open(file, recipe, backbone.dim, {}) as writer:
            writer.append(list(study.ids), np.zeros((len(study), 32), np.uint8), embeddings[None])
            writer.publish(list(study.ids))
        run = fit_head(study, file, "logistic", out=folder / "run", threshold="0.5")  # 8 validation images choose none
        yield SimpleNamespace(
            run=run, study=study, file=file, folder=folder, recipe=recipe, weights=weights, pixels=pixels
        )


def _films(folder: Path, n: int) -> Study:
    rng, labels = np.random.default_rng(1), ("Effusion", "Mass", "Nodule")
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
    for k, label in enumerate(labels):
        table[label] = [float((i + k) % 2) for i in range(n)]
    return Study(table, labels, "films", folder)


def pytest_terminal_summary(terminalreporter):
    """Print what the fault tests tried and what was lost."""
    reports = terminalreporter.stats.get("passed", []) + terminalreporter.stats.get("failed", [])
    told = [
        text for report in reports if report.when == "call" for key, text in report.user_properties if key == "told"
    ]
    if told:
        terminalreporter.section("faults tried")
        for text in told:
            terminalreporter.write_line(text)
