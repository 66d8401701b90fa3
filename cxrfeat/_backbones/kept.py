"""What is kept in the user's cache folder and can be made again: exported networks, and values that need Keras.

An export is a folder: the network (`model.onnx`, or `model.xml` and `model.bin`), a test image with the Keras graph's
embedding of it (`canary.npz`), what the engine compiles (`compiled/`), and the hashes of all of it. What does not have
its hash is made again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from filelock import FileLock

from cxrfeat import _files as files
from cxrfeat import _machine as machine
from cxrfeat._backbones import backends, registry
from cxrfeat._backbones.registry import Backbone
from cxrfeat._recipe import Recipe
from cxrfeat.errors import EngineError

EXPORT_VERSION = 7
"""Part of an export's name: raised when the translation changes, so that no old export is read."""

_META, _COMPILED, _COMPILED_META = "meta.json", "compiled", "compiled.json"

_log = logging.getLogger(__name__)


@contextmanager
def export(
    recipe: Recipe, spec: Backbone, write: Callable[[Path], None], mode: Literal["kept", "again", "fresh"] = "kept"
) -> Iterator[Path]:
    """Give the folder of a recipe's export, in which an engine may keep what it compiles.

    `write` puts the network and the embedding of the test image into a folder where the export is made: if it is
    missing or damaged, `again` whatever is there, or `fresh` in a temporary folder.
    """

    def make(folder: Path) -> None:
        write(folder)
        hashes = {path.name: files.sha256(path) for path in sorted(folder.iterdir())}
        meta = {"backbone": recipe.backbone, "weights": recipe.weights, "size": recipe.size, "sha256": hashes}
        files.write_atomically(folder / _META, json.dumps(meta, indent=1))

    if mode == "fresh":
        with tempfile.TemporaryDirectory() as name:
            make(Path(name))
            yield Path(name)
        return
    values = recipe.network_sha256 or recipe.weights_sha256
    parts = spec.name, values[:16], recipe.preprocessing, recipe.size, spec.sha256[:8]
    folder = machine.cache_folder() / "engines" / "-".join(map(str, (*parts, f"v{EXPORT_VERSION}")))
    _ensure(folder, make, again=mode == "again")
    known = files.read_json(folder / _COMPILED_META)
    for path in (folder / _COMPILED).glob("*"):
        if known.get(path.name) != files.sha256(path):
            path.unlink(missing_ok=True)
            if path.name in known:
                _log.warning("what was compiled of %s is damaged and is compiled again.", folder.name)
    yield folder
    hashes = {path.name: known.get(path.name) or files.sha256(path) for path in (folder / _COMPILED).glob("*")}
    if hashes != known:
        files.write_atomically(folder / _COMPILED_META, json.dumps(hashes, indent=1))


def value(name: str, make: Callable[[], Any]) -> Any:
    """Return a kept value that JSON can hold, making it if it is missing or damaged; `name` is its file's."""
    path = machine.cache_folder() / f"{name}.json"
    found = files.read_json(path)
    if "value" not in found or found.get("sha256") != _digest(found["value"]):
        made = make()
        found = {"value": made, "sha256": _digest(made)}
        files.write_atomically(path, json.dumps(found))
    return found["value"]


def map_geometry(backbone: str, size: int) -> tuple[float, float]:
    """Return a map's stride and the centre of its first cell, in pixels of the network's input.

    As the backbone's entry declares, else as the strides and paddings of its graph say.
    """
    spec = registry.get(backbone)
    name = f"geometry/{backbone}-{spec.sha256[:8]}-{size}"
    if spec.onnx:
        from cxrfeat._backbones import imported

        stride, centre = value(name, lambda: imported.place(backbone, size))
        return stride, centre
    if spec.first_centre is not None:
        return spec.stride, spec.first_centre

    def walk() -> list[list[float | None]]:
        from cxrfeat._backbones import graph

        model = graph.keras_graph(spec, None, spec.preprocessing, size)
        found = [graph.place_of(model, model.outputs[1], axis) for axis in (0, 1)]
        return [[place.stride, place.centre] for place in found]

    (stride, centre), columns = value(name, walk)
    if [stride, centre] != columns or centre is None or np.isnan(centre):
        raise EngineError(
            f"where a map of {backbone} lies on its input does not follow from its layers: declare `first_centre` in "
            "its entry."
        )
    return int(stride), float(centre)


def exports() -> Iterator[dict[str, Any]]:
    """The exports that are kept: what of, how large, when last made, and whether they are sound."""
    for folder in sorted(path for path in (machine.cache_folder() / "engines").glob("[!.]*") if path.is_dir()):
        meta = files.read_json(folder / _META)
        yield {
            "network": folder.name,
            "backbone": meta.get("backbone"),
            "weights": meta.get("weights"),
            "size": meta.get("size"),
            "bytes": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
            "modified": folder.stat().st_mtime,
            "state": "ok" if _sound(folder) else "damaged",
            "folder": folder,
        }


def remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.with_name(f".{folder.name}.lock").unlink(missing_ok=True)


def _ensure(folder: Path, make: Callable[[Path], None], again: bool) -> None:
    if _sound(folder) and not again:
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):  # a second process waits for what the first one makes
        if _sound(folder) and not again:
            return
        made = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            make(made)
            if folder.exists():
                _log.warning("the kept network %s is damaged and is made again.", folder.name)
                shutil.rmtree(folder)
            made.rename(folder)
        finally:
            shutil.rmtree(made, ignore_errors=True)


def write_graph(folder: Path, graph: Any) -> None:
    """Write the export of a Keras graph: our own translation where it knows every layer, else the engine's."""
    from cxrfeat._backbones import rewrite, translate

    try:
        model = rewrite.rewrite(translate.translate(graph))
        (folder / "model.onnx").write_bytes(model.SerializeToString())
    except translate.NotTranslatedError:
        _convert(folder, graph)
    kind = graph.input.dtype
    numpy = backends.keras().ops.convert_to_numpy

    def embed(images: Any) -> Any:
        return numpy(graph(images[..., None].astype(kind), training=False)[0])

    write_canary(folder, graph.input_shape[1], embed)


def write_canary(folder: Path, size: int, embed: Callable[[Any], Any]) -> None:
    """Keep a test image uint8 (size, size) and its embedding, as `embed` gives it of images (1, size, size)."""
    row = np.arange(size)
    image = ((np.outer(row, row) // 7 + 3 * row[:, None]) % 256).astype(np.uint8)
    np.savez(folder / "canary.npz", image=image, embedding=embed(image[None])[0])


def _convert(folder: Path, graph: Any) -> None:
    """Convert a graph by OpenVINO's own converter; inputs and outputs are those of our translation."""
    from cxrfeat._backbones.openvino_engine import package

    if (backend := backends.keras().backend.backend()) != "tensorflow":
        raise EngineError(
            f"{graph.name} has layers that OpenVINO takes from TensorFlow alone, and Keras runs on {backend} here. "
            "Take `engine=keras`, or set KERAS_BACKEND=tensorflow."
        )
    import tensorflow as tf

    ov, size = package(), graph.input_shape[1]

    def run(image: Any) -> list[Any]:
        embedding, feature_map = graph(tf.transpose(image, (0, 2, 3, 1)), training=False)
        return [embedding, tf.transpose(feature_map, (0, 3, 1, 2))]

    traced = tf.function(run).get_concrete_function(tf.TensorSpec((1, 1, size, size), tf.float32, name="image"))
    try:
        converted = ov.convert_model(traced)
        # The converter adds outputs of its own; ours are called as TensorFlow calls what a function returns.
        found = [converted.output(name) for name in ("Identity:0", "Identity_1:0")]
    except Exception as error:  # the package raises many kinds
        raise EngineError(
            f"OpenVINO cannot convert {graph.name}: {str(error).strip().splitlines()[-1]} Take `engine=keras`."
        ) from error
    for output, name in zip(found, ("embedding", "map"), strict=True):
        output.set_names({name})
    model = ov.Model(found, converted.get_parameters(), graph.name)
    ov.save_model(model, folder / "model.xml", compress_to_fp16=False)


def _sound(folder: Path) -> bool:
    hashes = files.read_json(folder / _META).get("sha256", {})
    try:
        return bool(hashes) and all(files.sha256(folder / name) == sha256 for name, sha256 in hashes.items())
    except (OSError, AttributeError):
        return False


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
