"""What a pickle of PyTorch's may name with a meaning: for each name a function of ours that makes plain data.

None of them calls anything that the file brings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Name:
    """A class or function that a pickle names; it is not imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False)
class Inert:
    """An object of a class that is not known here: its class by name, its items and states.

    States are those of the file and not copies, since one may stand in many objects.
    """

    kind: Name
    items: dict[Any, Any] = field(default_factory=dict)
    states: list[Any] = field(default_factory=list)

    def get(self, name: str) -> Any:
        """An attribute, or None."""
        return next((state[name] for state in reversed(self.states) if isinstance(state, dict) and name in state), None)


@dataclass(frozen=True)
class Storage:
    """A storage of so many elements of a type (as PyTorch calls it, `FloatStorage`); its bytes are elsewhere."""

    kind: str
    key: str
    numel: int
    offset: int = 0


@dataclass(frozen=True)
class View:
    """A tensor: a view of a storage, in elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


def of_kind(kind: type, value: Any) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"a {type(value).__name__} stands where a {kind.__name__} must")
    return value


def persistent(saved: tuple[Any, ...]) -> Any:
    """What PyTorch keeps outside a pickle: storages, and in old files the source of a class beside its name."""
    kind = _text(saved[0])
    if kind == "module":
        return of_kind(Name, saved[1])
    if kind != "storage":
        raise ValueError(f"it refers to a {kind!r}")
    _, of, key, _, numel, *view = saved
    whole = Storage(of_kind(Name, of).name, _text(key), _count(numel))
    if not view or view[0] is None:
        return whole
    _, offset, size = view[0]
    if _count(offset) + _count(size) > whole.numel:
        raise ValueError(f"a view of the storage {whole.key} is larger than the storage")
    return Storage(whole.kind, whole.key, whole.numel, offset)


def _text(value: Any) -> str:
    """A text; Python 2 wrote bytes."""
    return (
        value.decode("ascii") if isinstance(value, bytes) else str(value) if type(value) is int else of_kind(str, value)
    )


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} stands where a size must")
    return value


def _view(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> View:
    """`torch._utils._rebuild_tensor` and its later forms; a view outside its storage is refused."""
    storage, offset = of_kind(Storage, storage), _count(offset)
    shape, stride = tuple(map(_count, shape)), tuple(map(_count, stride))
    if len(shape) != len(stride) or len(shape) > 8:
        raise ValueError(f"a tensor has the shape {shape} and the strides {stride}")
    elements = 1
    for side in shape:
        elements *= side
    reach = offset + sum((side - 1) * step for side, step in zip(shape, stride, strict=True)) if elements else 0
    # Without the second condition a stride of 0 would make a tensor of any size from one number.
    if elements and (reach + storage.offset >= storage.numel or elements > storage.numel):
        raise ValueError(f"a tensor of shape {shape} lies outside its storage of {storage.numel} elements")
    return View(storage, offset + storage.offset, shape, stride)


def _first(value: Any, *_: Any) -> Any:
    return value


def _new(kind: Any, *arguments: Any) -> Any:
    return KNOWN.get(str(of_kind(Name, kind)), lambda *_: Inert(kind))(*arguments)


def _inert(name: str) -> Callable[..., Inert]:
    module, _, leaf = name.rpartition(".")
    return lambda *_: Inert(Name(module, leaf))


def _ordered(*pairs: Any) -> dict[Any, Any]:
    """An OrderedDict; Python 2 wrote its items as lists of two."""
    return dict(pairs[0]) if pairs else {}


KNOWN: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _ordered,
    "collections.defaultdict": lambda *_: {},
    "torch._utils._rebuild_tensor": _view,
    "torch._utils._rebuild_tensor_v2": _view,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch._tensor._rebuild_from_type_v2": lambda function, kind, arguments, state: KNOWN[str(function)](*arguments),
    # Before PyTorch 0.4.
    "torch.nn.parameter.Parameter": _first,
    "torch.autograd.variable.Variable": _first,
    "copy_reg.__newobj__": _new,
    "copyreg.__newobj__": _new,
    "torch.Size": lambda sizes=(): tuple(sizes),
    "_codecs.encode": lambda text, encoding: of_kind(str, text).encode("latin1"),
    "copy_reg._reconstructor": lambda kind, base, state: Inert(of_kind(Name, kind)),
    "copyreg._reconstructor": lambda kind, base, state: Inert(of_kind(Name, kind)),
    **{f"{module}.set": lambda values=(): set(values) for module in ("builtins", "__builtin__")},
    # Values that training scripts keep beside the weights; they are not read.
    **{
        name: _inert(name)
        for name in (
            "torch.device",
            "torch.Generator",
            "numpy.dtype",
            "numpy.core.multiarray.scalar",
            "numpy._core.multiarray.scalar",
            "numpy.core.multiarray._reconstruct",
            "numpy._core.multiarray._reconstruct",
            "numpy.ndarray",
            "pathlib.PosixPath",
            "pathlib.WindowsPath",
            "datetime.datetime",
        )
    },
}
