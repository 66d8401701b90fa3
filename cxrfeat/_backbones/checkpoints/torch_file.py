"""PyTorch's files: zip archives (since 1.6) and the earlier stream, each a pickle and the storages that it refers to.

Every size that a file states is compared with the file before memory is taken, and a tensor's values are read only when
they are asked for, so an optimiser's state costs nothing.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cxrfeat._backbones.checkpoints import unpickle
from cxrfeat._backbones.checkpoints.meanings import Inert, Storage, View
from cxrfeat._backbones.checkpoints.tensors import DTYPES, Tensor, values
from cxrfeat.errors import WeightsError

MAGIC = 0x1950A86A20F9469CFC6C
_KINDS = {
    "Float": "F32", "Double": "F64", "Half": "F16", "BFloat16": "BF16", "Long": "I64", "Int": "I32", "Short": "I16",
    "Char": "I8", "Byte": "U8", "Bool": "BOOL",
}  # fmt: skip
_WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "module", "weights")
"""Under which keys training scripts keep the weights beside other things, the first that is there first."""
MAX_MODULES = 20_000

Reader = Callable[[Storage], npt.NDArray[Any]]


def read_zip(path: Path, what: str) -> dict[str, Tensor]:
    """Read the tensors of a zip archive of PyTorch's, by name."""
    archive = zipfile.ZipFile(path)  # open as long as its tensors may be read
    entries = {entry.filename: entry for entry in archive.infolist()}
    pickles = [name for name in entries if name.count("/") == 1 and name.endswith("/data.pkl")]
    if any(name.endswith("/constants.pkl") for name in entries):
        raise WeightsError(
            f"{what} is a TorchScript archive, which is a program. Save the model's `state_dict()` and import that."
        )
    if len(pickles) != 1:
        raise WeightsError(f"{what} is a zip archive that PyTorch did not write: it has no data.pkl.")
    top = pickles[0].removesuffix("data.pkl")

    def bytes_of(name: str, size: int | None = None) -> bytes:
        entry = entries.get(name)
        if entry is None:
            raise WeightsError(f"{what} is damaged: {name} is missing.")
        if entry.compress_type != zipfile.ZIP_STORED:
            raise WeightsError(f"{what} is not used: {name} is compressed, which PyTorch's files never are.")
        if size not in (None, entry.file_size) or entry.file_size > path.stat().st_size:
            raise WeightsError(f"{what} is damaged: {name} has {entry.file_size} bytes and not the {size} stated.")
        return archive.read(name)

    order = bytes_of(f"{top}byteorder").strip() if f"{top}byteorder" in entries else b"little"
    found = unpickle.load(io.BytesIO(bytes_of(pickles[0])), what)

    def storage(kept: Storage) -> npt.NDArray[Any]:
        dtype = _dtype(kept, what)
        data = bytes_of(f"{top}data/{kept.key}", kept.numel * dtype.itemsize)
        return np.frombuffer(data, dtype.newbyteorder(">" if order == b"big" else "<"))

    return named(found, storage, what)


def read_stream(path: Path, what: str) -> dict[str, Tensor]:
    """Read the format before PyTorch 1.6: five pickles, and then the storages one after another."""
    with path.open("rb") as file:
        if (magic := unpickle.load(file, what)) != MAGIC:
            raise WeightsError(
                f"{what} is a pickle that PyTorch did not write: it begins with a {type(magic).__name__} and not as "
                "a checkpoint does."
            )
        unpickle.load(file, what), unpickle.load(file, what)  # version, and the system that wrote it
        kinds: dict[str, Storage] = {}
        found, keys = unpickle.load(file, what, kinds), unpickle.load(file, what)
        start = file.tell()
    places, size = {}, path.stat().st_size
    for key in map(str, keys if isinstance(keys, list) else ()):
        if key not in kinds:
            raise WeightsError(f"{what} is damaged: it has a storage {key} that no tensor refers to.")
        width, numel = _dtype(kinds[key], what).itemsize, kinds[key].numel
        places[key], start = start, start + 8 + numel * width
        if start > size:
            raise WeightsError(
                f"{what} is damaged: it ends within its storages; {start - size} bytes or more are missing."
            )

    def storage(kept: Storage) -> npt.NDArray[Any]:
        if kept.key not in places:
            raise WeightsError(f"{what} is damaged: the storage {kept.key} is missing.")
        dtype = _dtype(kept, what)
        with path.open("rb") as file:
            file.seek(places[kept.key])
            (stated,) = struct.unpack("<q", file.read(8))
            if stated != kept.numel:
                raise WeightsError(f"{what} is damaged: a storage has {stated} elements and not {kept.numel}.")
            return np.frombuffer(file.read(stated * dtype.itemsize), dtype.newbyteorder("<"))

    return named(found, storage, what)


def named(found: Any, storage: Reader, what: str) -> dict[str, Tensor]:
    """Give the tensors by name of what a pickle holds: a module, a dict of tensors, or one of them in a dict."""
    for _ in range(5):  # wrappers in wrappers
        if isinstance(found, Inert):
            tensors = _of_module(found, what)
            if tensors:
                break
            found = found.items or next((state for state in found.states if isinstance(state, dict)), {})
        if not isinstance(found, dict):
            break
        tensors = {str(name): value for name, value in found.items() if isinstance(value, View)}
        inner = next((found[key] for key in _WRAPPERS if isinstance(found.get(key), dict | Inert)), None)
        if inner is None:
            break
        found = inner
    else:
        tensors = {}
    if not isinstance(found, dict | Inert) or not tensors:
        kind = str(found.kind) if isinstance(found, Inert) else f"a {type(found).__name__}"
        keys = f" with the keys {', '.join(map(str, list(found)[:5]))}" if isinstance(found, dict) and found else ""
        raise WeightsError(
            f"{what} holds no weights: a `state_dict` or a module with tensors was expected, found is {kind}{keys}."
        )
    return {name: _tensor(view, storage, what) for name, view in tensors.items()}


def _of_module(module: Inert, what: str) -> dict[str, View]:
    """The state dict of a pickled module, from the attributes that PyTorch keeps it in."""
    found: dict[str, View] = {}
    waiting, seen = [("", module, 0)], 0
    while waiting:
        prefix, module, depth = waiting.pop()
        seen += 1
        if seen > MAX_MODULES or depth > 50:
            raise WeightsError(f"{what} is damaged: its modules are nested without end.")
        for kept in ("_parameters", "_buffers"):
            for name, value in _items(module.get(kept)):
                if isinstance(value, View):
                    found[f"{prefix}{name}"] = value
        for name, value in _items(module.get("_modules")):
            if isinstance(value, Inert):
                waiting.append((f"{prefix}{name}.", value, depth + 1))
    return found


def _items(value: Any) -> list[tuple[Any, Any]]:
    return list(value.items()) if isinstance(value, dict) else []


def _dtype(kept: Storage, what: str) -> np.dtype[Any]:
    kind = _KINDS.get(kept.kind.removesuffix("Storage"))
    if kind is None:
        raise WeightsError(f"{what} has numbers of a kind that is not read: {kept.kind}.")
    return np.dtype(DTYPES[kind])


def _tensor(view: View, storage: Reader, what: str) -> Tensor:
    def read() -> npt.NDArray[Any]:
        flat = storage(view.storage)
        if len(flat) != view.storage.numel:
            raise WeightsError(f"{what} is damaged: a storage has {len(flat)} elements and not {view.storage.numel}.")
        flat = flat[view.offset :]
        step = flat.dtype.itemsize
        # Inside the storage: `unpickle` has compared shape and strides with its size, `storage` its size with the file.
        shown = np.lib.stride_tricks.as_strided(flat, view.shape, [n * step for n in view.stride], writeable=False)
        return values(np.array(shown), _KINDS[view.storage.kind.removesuffix("Storage")])

    _dtype(view.storage, what)
    return Tensor(view.shape, read, what)
