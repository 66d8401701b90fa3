"""A reader of pickles that calls nothing.

It runs the opcodes of a pickle on a stack of its own. What a pickle names stays a name; only names in `meanings.KNOWN`
have a meaning, which is a function of ours that makes plain data. An object of any other class becomes an `Inert`,
which keeps its state and does nothing. Everything else that a pickle could have called is refused. `pickletools` has
the opcodes and documents them.
"""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Callable
from typing import IO, Any

from cxrfeat._backbones.checkpoints.meanings import KNOWN, Inert, Name, Storage, of_kind, persistent
from cxrfeat.errors import WeightsError

MAX_OPCODES = 2_000_000
"""A checkpoint of the largest networks has some 100,000."""
MAX_BYTES = 64 << 20
"""Of one pickle, tensors aside, which are stored beside it."""
_MARK = object()
_DAMAGED = (
    ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, MemoryError, RecursionError,
    StopIteration, struct.error,
)  # fmt: skip


def load(file: IO[bytes], what: str, storages: dict[str, Storage] | None = None) -> Any:
    """Read one pickle, from the file's position to its STOP; `storages` gets those that it refers to, by key.

    A pickle that would call anything, is damaged or too large is a WeightsError; `what` begins its sentence.
    """
    try:
        return _Machine(what, {} if storages is None else storages).run(_Limited(file))  # type: ignore[arg-type]
    except _DAMAGED as error:
        raise WeightsError(
            f"{what} is damaged: its pickle cannot be read ({type(error).__name__}: {error})."
        ) from error


class _Limited:
    """A file of which a pickle may read so many bytes."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.left = file, MAX_BYTES

    def read(self, size: int) -> bytes:
        if size > self.left:
            raise ValueError(f"it is longer than {MAX_BYTES >> 20} MiB")
        self.left -= size
        return self.file.read(size)

    def readline(self) -> bytes:
        line = self.file.readline(self.left)
        self.left -= len(line)
        return line

    def tell(self) -> int:
        return MAX_BYTES - self.left


class _Machine:
    """The stack, the memo, and one function for each opcode."""

    def __init__(self, what: str, storages: dict[str, Storage]) -> None:
        self.what, self.storages = what, storages
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.copied = 0

    def run(self, file: IO[bytes]) -> Any:
        for number, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            if number > MAX_OPCODES:
                raise ValueError(f"it has more than {MAX_OPCODES} opcodes")
            name = opcode.name
            if name == "STOP":
                return self.stack.pop()
            if name in _VALUES:
                self.stack.append(argument)
            elif name in _MAKES:
                self.stack.append(_MAKES[name]())
            elif name in _TUPLES:
                self._tuples(_TUPLES[name])
            else:
                step = getattr(self, f"_{name.lower()}", None)
                if step is None:
                    raise WeightsError(f"{self.what} uses the pickle opcode {name}, which no checkpoint needs.")
                step(argument)
        raise ValueError("it ends early")

    def _pop_mark(self, argument: None = None) -> list[Any]:
        """What was pushed since the last mark."""
        place = next(i for i in range(len(self.stack) - 1, -1, -1) if self.stack[i] is _MARK)
        found = self.stack[place + 1 :]
        del self.stack[place:]
        return found

    def _proto(self, argument: int) -> None:
        if argument > 5:
            raise ValueError(f"its protocol is {argument}")

    def _frame(self, argument: int) -> None:
        return

    def _mark(self, argument: None) -> None:
        self.stack.append(_MARK)

    def _pop(self, argument: None) -> None:
        self.stack.pop()

    def _dup(self, argument: None) -> None:
        self.stack.append(self.stack[-1])

    def _put(self, argument: int) -> None:
        self.memo[int(argument)] = self.stack[-1]

    _binput = _long_binput = _put

    def _memoize(self, argument: None) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def _get(self, argument: int) -> None:
        self.stack.append(self.memo[int(argument)])

    _binget = _long_binget = _get

    def _tuple(self, argument: None) -> None:
        self.stack.append(tuple(self._pop_mark()))

    def _tuples(self, size: int) -> None:
        found = tuple(self.stack[-size:])
        if len(found) != size:
            raise IndexError("its stack is too short")
        self.stack[-size:] = [found]

    def _list(self, argument: None) -> None:
        self.stack.append(self._pop_mark())

    def _append(self, argument: None) -> None:
        value = self.stack.pop()
        of_kind(list, self.stack[-1]).append(value)

    def _appends(self, argument: None) -> None:
        values = self._pop_mark()
        of_kind(list, self.stack[-1]).extend(values)

    def _additems(self, argument: None) -> None:
        values = self._pop_mark()
        of_kind(set, self.stack[-1]).update(values)

    def _frozenset(self, argument: None) -> None:
        self.stack.append(frozenset(self._pop_mark()))

    def _dict(self, argument: None) -> None:
        values = self._pop_mark()
        self.stack.append({})
        self._fill(values)

    def _setitem(self, argument: None) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._fill([key, value])

    def _setitems(self, argument: None) -> None:
        self._fill(self._pop_mark())

    def _fill(self, values: list[Any]) -> None:
        target = self.stack[-1]
        # An object of a class derived from a dict, such as a Counter, gets its items as a dict does.
        mapping = target.items if isinstance(target, Inert) else of_kind(dict, target)
        mapping.update(zip(values[::2], values[1::2], strict=True))

    def _global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self.stack.append(Name(module, name))

    def _stack_global(self, argument: None) -> None:
        name, module = of_kind(str, self.stack.pop()), of_kind(str, self.stack.pop())
        self.stack.append(Name(module, name))

    def _newobj(self, argument: None) -> None:
        arguments, kind = of_kind(tuple, self.stack.pop()), of_kind(Name, self.stack.pop())
        made = KNOWN.get(str(kind))
        self.stack.append(self._call(made, arguments) if made else Inert(kind))

    def _newobj_ex(self, argument: None) -> None:
        named, _, kind = self.stack.pop(), of_kind(tuple, self.stack.pop()), of_kind(Name, self.stack.pop())
        self.stack.append(Inert(kind, states=[named]))

    def _reduce(self, argument: None) -> None:
        arguments, called = of_kind(tuple, self.stack.pop()), self.stack.pop()
        known = KNOWN.get(str(called)) if isinstance(called, Name) else None
        if known is None:
            raise WeightsError(
                f"{self.what} would call {called if isinstance(called, Name) else type(called).__name__} when it is "
                "opened. No weights need that: the file is refused, and nothing of it was run."
            )
        self.stack.append(self._call(known, arguments))

    def _call(self, known: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        # What is copied is counted, since one long list may be copied as often as there are opcodes.
        self.copied += sum(len(value) for value in arguments if isinstance(value, list | tuple | dict | set | str))
        if self.copied > MAX_OPCODES:
            raise ValueError("it copies too much")
        return known(*arguments)

    def _build(self, argument: None) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, Inert):
            target.states.extend(state[:2] if isinstance(state, tuple) else [state])
        # Other targets are plain data, and PyTorch's state of an OrderedDict is metadata.

    def _binpersid(self, argument: None) -> None:
        found = persistent(of_kind(tuple, self.stack.pop()))
        if isinstance(found, Storage):
            self.storages[found.key] = found
        self.stack.append(found)


_VALUES = (
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING",
    "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES",
    "BINBYTES8", "BYTEARRAY8",
)  # fmt: skip
"""Opcodes that push what follows them."""
_MAKES: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": set,
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
