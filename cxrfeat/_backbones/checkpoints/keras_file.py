"""Keras's files: `.h5` (whole models and weights), `.weights.h5` and `.keras`, read as arrays; no model is built.

A dataset must lie in the file as large as it says: compressed, virtual and external ones, which Keras does not write,
are refused.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from cxrfeat._backbones.checkpoints.tensors import Tensor, values
from cxrfeat.errors import WeightsError

_VARIABLES = {
    "batch_normalization": ("gamma", "beta", "moving_mean", "moving_variance"),
    "conv2_d": ("kernel", "bias"),
    "conv2d": ("kernel", "bias"),
    "dense": ("kernel", "bias"),
}
"""In what order `.weights.h5` keeps a layer's variables, by the class's name in its path."""


def read_archive(path: Path, what: str) -> dict[str, Tensor]:
    with zipfile.ZipFile(path) as archive:
        entry = archive.getinfo("model.weights.h5")
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > path.stat().st_size:
            raise WeightsError(f"{what} is not used: its weights are compressed, which Keras's never are.")
        return read_hdf5(io.BytesIO(archive.read(entry)), what)


def read_hdf5(file: Path | IO[bytes], what: str) -> dict[str, Tensor]:
    """Read the datasets of an HDF5 file of Keras's, an optimiser's aside, by `layer/variable` or their path."""
    import h5py

    found: dict[str, Tensor] = {}

    def visit(name: str, item: Any) -> None:
        if not isinstance(item, h5py.Dataset) or name.split("/")[0].startswith("optimizer"):
            return
        size = item.size * item.dtype.itemsize if item.shape is not None else 0
        if item.dtype.kind not in "fiu" or item.is_virtual or item.external or item.id.get_storage_size() != size:
            raise WeightsError(f"{what} is not used: its dataset {name} is not plain numbers as Keras writes them.")
        found[_name(item, name, what)] = Tensor(tuple(item.shape), lambda: _read(name), what)

    def _read(name: str) -> npt.NDArray[np.float32]:
        return values(opened[name][()], "F32")

    opened = h5py.File(file, "r")
    opened.visititems(visit)
    return found


def _name(item: Any, path: str, what: str) -> str:
    """The variable's name: `layer/variable` in `.weights.h5`, where variables have numbers, else as it stands.

    Layers without names are not told apart by their order, which no shape would confirm.
    """
    parts = path.split("/")
    if len(parts) < 3 or parts[-2] != "vars" or not parts[-1].isdigit():
        return path.removesuffix(":0")
    layer = item.parent.attrs.get("name")
    if layer is None:
        raise WeightsError(f"{what} has no names of layers: an early Keras 3 saved it. Save it again with a newer one.")
    kind = parts[-3].rstrip("0123456789").rstrip("_")
    names = _VARIABLES.get(kind, ())
    number = int(parts[-1])
    return f"{layer}/{names[number] if number < len(names) else number}"
