"""The export of a network, made once and kept: what lets an extraction start without TensorFlow."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from cxrfeat._backbones import kept, registry
from cxrfeat._backbones.weights import Weights, weights_sha256
from cxrfeat._recipe import Recipe
from cxrfeat.errors import EngineError

EXPORT_VERSION = 5
"""Part of an export's name: raised when the translation changes, so that no old export is read."""


def ensure_export(recipe: Recipe, weights: Weights) -> Path:
    """Return the folder of the export, making it if it is missing or damaged; only making it needs TensorFlow.

    It holds the network (`model.onnx`, or `model.xml` and `model.bin`) and the Keras graph's embedding of a canary
    image (`canary.npy`).
    """
    spec = registry.get(recipe.backbone)
    sha256 = weights_sha256(recipe.backbone, weights)
    parts = [spec.name, sha256[:16], recipe.preprocessing, recipe.size, spec.sha256[:8], f"v{EXPORT_VERSION}"]
    return kept.folder("-".join(map(str, parts)), lambda folder: _make(folder, recipe, weights))


@contextmanager
def fresh_export(recipe: Recipe, weights: Weights) -> Iterator[Path]:
    """Make an export from the weights that is used once, whatever is kept."""
    with tempfile.TemporaryDirectory() as name:
        yield kept.fill(Path(name), lambda folder: _make(folder, recipe, weights))


def network_file(folder: Path) -> Path:
    """The network of an export."""
    return next(path for name in ("model.onnx", "model.xml") if (path := folder / name).is_file())


def canary(size: int) -> np.ndarray:
    """The image, uint8 (1, size, size), that an engine is checked by."""
    row = np.arange(size)
    return ((row[:, None] * row[None, :] // 7 + 3 * row[:, None]) % 256).astype(np.uint8)[None]


def map_geometry(backbone: str, size: int) -> tuple[int, float]:
    """Return a map's stride and the centre of its first cell, in pixels of the network's input.

    As the backbone's entry declares, else as the strides and paddings of its graph say.
    """
    spec = registry.get(backbone)
    if spec.first_centre is not None:
        return spec.stride, spec.first_centre

    def walk() -> list[float]:
        from cxrfeat._backbones import graph

        model = graph.keras_graph(backbone, Weights("random:0"), spec.preprocessing, size)
        rows, columns = graph.place_of(model, model.outputs[1])
        return [rows.stride, rows.centre, columns.stride, columns.centre]  # type: ignore[list-item]

    stride, centre, *other = kept.value(f"geometry/{backbone}-{spec.sha256[:8]}-{size}", walk)
    if [stride, centre] != other or centre is None or np.isnan(centre):
        raise EngineError(
            f"where a map of {backbone} lies on its input does not follow from its layers: declare `first_centre` in "
            "its entry."
        )
    return int(stride), float(centre)


def _make(folder: Path, recipe: Recipe, weights: Weights) -> dict[str, Any]:
    from cxrfeat._backbones import graph, openvino_engine, rewrite, translate

    network = graph.keras_graph(recipe.backbone, weights, recipe.preprocessing, recipe.size)
    try:
        model = rewrite.rewrite(translate.translate(network))
        (folder / "model.onnx").write_bytes(model.SerializeToString())
    except translate.NotTranslatedError:
        openvino_engine.convert(network, folder)
    embedding = network(canary(recipe.size)[..., None], training=False)[0]
    np.save(folder / "canary.npy", np.asarray(embedding)[0])
    return {"backbone": recipe.backbone, "weights": weights.name, "size": recipe.size}
