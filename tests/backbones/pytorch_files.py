"""Checkpoints written as PyTorch writes them, with the standard library alone."""

import contextlib
import io
import pickle
import sys
import types
import zipfile
from collections import OrderedDict
from pathlib import Path
from unittest import mock

import numpy as np

from cxrfeat._backbones.checkpoints import convert

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


def _rebuild(*arguments):  # pickled by name, and called by no one here
    raise AssertionError


class Storage:
    """What a pickle refers to; `numel` may lie."""

    def __init__(self, array, numel=None):
        self.array = np.ascontiguousarray(array)
        self.numel = self.array.size if numel is None else numel


class Pickled:
    """A tensor, as its pickle has it: a function's name and arguments."""

    def __init__(self, array, shape=None, stride=None, numel=None):
        array = np.asarray(array)
        self.storage = Storage(array, numel)
        self.shape = array.shape if shape is None else shape
        self.stride = tuple(s // array.itemsize for s in array.strides) if stride is None else stride

    def __reduce_ex__(self, protocol):
        rebuild = sys.modules["torch._utils"]._rebuild_tensor_v2
        return rebuild, (self.storage, 0, self.shape, self.stride, False, OrderedDict())


@contextlib.contextmanager
def stand_ins(*classes):
    """Modules that stand in for PyTorch while something is pickled: `module.name` of each class."""
    steps = [path.split(".") for path in ("torch._utils.any", *classes)]
    names = [".".join(path[:i]) for path in steps for i in range(1, len(path))]
    modules = {name: types.ModuleType(name) for name in names}
    rebuild = types.FunctionType(_rebuild.__code__, {}, "_rebuild_tensor_v2")
    rebuild.__module__, rebuild.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    modules["torch._utils"]._rebuild_tensor_v2 = rebuild
    for kind in ("Float", "Long"):
        modules["torch"].__dict__[f"{kind}Storage"] = type(f"{kind}Storage", (), {"__module__": "torch"})
    for path in classes:
        module, _, name = path.rpartition(".")
        modules[module].__dict__[name] = type(name, (), {"__module__": module, "is_stand_in": True})
    with mock.patch.dict(sys.modules, modules):
        yield {path: modules[path.rpartition(".")[0]].__dict__[path.rpartition(".")[2]] for path in classes}


class _Pickler(pickle.Pickler):
    def __init__(self, file, legacy):
        super().__init__(file, protocol=2)
        self.legacy, self.storages, self.sources = legacy, [], []

    def persistent_id(self, value):
        torch = sys.modules["torch"]
        if isinstance(value, Storage):
            if value not in self.storages:
                self.storages.append(value)
            kind = torch.LongStorage if value.array.dtype.kind == "i" else torch.FloatStorage
            found = ("storage", kind, str(self.storages.index(value)), "cpu", value.numel)
            return (*found, None) if self.legacy else found
        if self.legacy and isinstance(value, type) and hasattr(value, "is_stand_in") and value not in self.sources:
            self.sources.append(value)  # its source goes beside it, once
            return ("module", value, "models.py", "class Source: ...")
        return None


def write(path: Path, content, legacy=False) -> Path:
    """Write what `torch.save` would write of `content`, within `stand_ins`."""
    stream = io.BytesIO()
    pickler = _Pickler(stream, legacy)
    pickler.dump(content)
    arrays = [storage.array for storage in pickler.storages]
    if legacy:
        parts = [pickle.dumps(part, 2) for part in (MAGIC, PROTOCOL, {"little_endian": True})]
        parts += [stream.getvalue(), pickle.dumps([str(i) for i in range(len(arrays))], 2)]
        parts += [len(array.ravel()).to_bytes(8, "little") + array.tobytes() for array in arrays]
        path.write_bytes(b"".join(parts))
        return path
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", stream.getvalue())
        for number, array in enumerate(arrays):
            archive.writestr(f"archive/data/{number}", array.tobytes())
        archive.writestr("archive/version", "3\n")
    return path


def state_dict(backbone="densenet121", channels=3, outputs=14, top="classifier", seed=0) -> dict[str, np.ndarray]:
    """A realistic state dict in torchvision's names: kernels and normalisations of a trained network's scale."""
    # Its stream is the same in every version of numpy: `tests/data/pytorch-2.15` has what PyTorch makes of these.
    rng = np.random.RandomState(seed)
    found = {}
    for layer in convert.ARCHITECTURES[backbone].layers(channels):
        if layer.normalises:
            n = layer.shape[0]
            variance, gamma = rng.uniform(0.2, 2, n), rng.uniform(0.5, 1.2, n)
            # Dead channels, as trained networks have: their variance is of the size of the epsilons.
            variance[::17] = rng.uniform(0, 3e-8, len(variance[::17]))
            gamma[::17] *= 1e-3
            parts = {
                "weight": gamma, "bias": rng.normal(0, 0.2, n),
                "running_mean": rng.normal(0, 0.3, n), "running_var": variance,
            }  # fmt: skip
            found |= {f"{layer.torch}.{part}": values.astype(np.float32) for part, values in parts.items()}
            found[f"{layer.torch}.num_batches_tracked"] = np.array(7)
        else:
            kh, kw, inner, outer = layer.shape
            scale = np.sqrt(2 / (kh * kw * inner))
            found[f"{layer.torch}.weight"] = (scale * rng.standard_normal((outer, inner, kh, kw))).astype(np.float32)
    if outputs:
        found[f"{top}.weight"] = rng.normal(0, 0.03, (outputs, layer.shape[-1])).astype(np.float32)
        found[f"{top}.bias"] = rng.normal(0, 1, outputs).astype(np.float32)
    return found


def save_state(path: Path, state, legacy=False, wrap=lambda found: found) -> Path:
    """Write a state dict, wrapped as a training script does it."""
    with stand_ins():
        return write(path, wrap(OrderedDict((name, Pickled(values)) for name, values in state.items())), legacy)


def save_module(path: Path, state, kind="torchxrayvision.models.DenseNet", legacy=True) -> Path:
    """Write a whole module of these tensors, as a pickle of it has them: modules in `_modules`, tensors in the rest."""
    inner = "torch.nn.modules.container.Sequential"
    with stand_ins(kind, inner) as classes:

        def module(of):
            made = classes[of]()
            made.training, made._modules = True, OrderedDict()
            made._parameters, made._buffers = OrderedDict(), OrderedDict()
            return made

        root = module(kind)
        for name, values in state.items():
            *path_to, leaf = name.split(".")
            place = root
            for step in path_to:
                if step not in place._modules:
                    place._modules[step] = module(inner)
                place = place._modules[step]
            kept = place._buffers if leaf.startswith(("running", "num_batches")) else place._parameters
            kept[leaf] = Pickled(values)
        return write(path, root, legacy)
