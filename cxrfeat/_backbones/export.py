"""The export of a network, made once and kept: what lets an extraction start without TensorFlow."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock

from cxrfeat import _files as files
from cxrfeat import _machine as machine
from cxrfeat._backbones.weights import Weights, weights_sha256

EXPORT_VERSION = 4
"""Part of an export's name: raised when the translation changes, so that no old export is read."""


def ensure_export(backbone: str, weights: Weights, preprocessing: str, size: int) -> Path:
    """Return the folder of the export (`model.onnx`, `meta.json`), making it if it is missing or damaged.

    Making it is what needs TensorFlow; afterwards an extraction starts without.
    """
    sha256 = weights_sha256(backbone, weights)

    def make(folder: Path) -> dict[str, Any]:
        import onnx

        from cxrfeat._backbones import graph, rewrite, translate

        model = translate.translate(graph.keras_graph(backbone, weights, preprocessing, size))
        onnx.save(rewrite.rewrite(model), str(folder / "model.onnx"))
        return {"backbone": backbone, "weights": weights.name, "weights_sha256": sha256}

    name = f"{backbone}-{sha256[:16]}-{preprocessing}-{size}-v{EXPORT_VERSION}"
    return ensure_kept(machine.cache_folder() / "engines" / name, make)


def ensure_kept(folder: Path, make: Callable[[Path], dict[str, Any]]) -> Path:
    """Return a folder whose files are what they were when it was made, making it if it is missing or damaged.

    Parameters
    ----------
    folder : Path
        Where it is kept.
    make : callable
        Writes the files into the empty folder it is given, and returns what `meta.json` is to say besides their
        hashes.
    """
    if _sound(folder):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):  # a second extraction waits for the export of the first
        if not _sound(folder):
            made = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
            try:
                meta = make(made)
                hashes = {path.name: files.sha256(path) for path in sorted(made.iterdir())}
                files.write_atomically(made / "meta.json", json.dumps({**meta, "sha256": hashes}, indent=1))
                if folder.exists():
                    shutil.rmtree(folder)  # damaged
                made.rename(folder)
            finally:
                shutil.rmtree(made, ignore_errors=True)
    return folder


def _sound(folder: Path) -> bool:
    try:
        meta = json.loads((folder / "meta.json").read_text())
        return all(files.sha256(folder / file) == sha256 for file, sha256 in meta["sha256"].items())
    except (OSError, ValueError, KeyError, AttributeError):
        return False
