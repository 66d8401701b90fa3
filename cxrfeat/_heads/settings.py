"""Settings of a head: read from `key=value` texts, and checked against the dataclass that the head declares."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any, TypeVar

from cxrfeat.errors import HeadError

T = TypeVar("T")


def parse(pairs: Iterable[str]) -> dict[str, Any]:
    """Read `key=value` texts; a value is a Python literal if it is one, and a text otherwise.

    >>> parse(["C=0.1", "hidden=(256, 64)", "kernel=rbf"])
    {'C': 0.1, 'hidden': (256, 64), 'kernel': 'rbf'}
    """
    found: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise HeadError(f"setting {pair!r} is not of the form key=value.")
        try:
            found[key.strip()] = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            found[key.strip()] = value.strip()
    return found


def parse_grid(pairs: Iterable[str]) -> dict[str, tuple[Any, ...]]:
    """Read `key=value,value` texts.

    >>> parse_grid(["C=0.1,1", "kernel=rbf,linear"])
    {'C': (0.1, 1), 'kernel': ('rbf', 'linear')}
    """
    found: dict[str, tuple[Any, ...]] = {}
    for key, value in parse(pairs).items():
        if isinstance(value, str):
            value = tuple(parse([f"{key}={item}"])[key] for item in value.split(","))
        found[key] = value if isinstance(value, tuple) else (value,)
    return found


UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def parse_size(text: str | int | None) -> int | None:
    """Read a size such as `2GB`, `512MiB` or a number of bytes; None stays None.

    >>> parse_size("1.5GB")
    1500000000
    """
    if text is None:
        return None
    number = str(text).strip().upper().rstrip("KMGIB")
    try:
        size = float(number) * UNITS[str(text).strip().upper()[len(number) :]]
    except (ValueError, KeyError):
        size = math.nan
    if not 0 < size < 2**63:
        raise HeadError(f"{text!r} is not a size; give for instance 2GB or 512MiB.")
    return int(size)


def read_settings(declared: type[T], given: Mapping[str, Any], head: str) -> T:
    """Make a dataclass of settings; a number where a tuple is declared becomes a tuple of one."""
    defaults = {f.name: f.default for f in fields(declared)}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for key, value in given.items():
        if key not in defaults:
            raise HeadError(f"head {head!r} has no setting {key!r}; it has {', '.join(defaults)}.")
        values[key] = _like(defaults[key], value, key, head)
    return declared(**values)


def _like(default: Any, value: Any, key: str, head: str) -> Any:
    try:
        if isinstance(default, tuple):
            items = value if isinstance(value, tuple | list) else ([value] if value else [])
            return tuple(int(item) for item in items)
        if isinstance(default, int) and int(value) != float(value):
            raise ValueError
        return type(default)(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise HeadError(f"setting {key} of head {head!r} is like {default!r}, not {value!r}.") from error


def require(head: str, **ranges: tuple[Any, bool, str]) -> None:
    """Raise a HeadError for the first setting out of range; each is (value, whether in range, the range in words)."""
    for key, (value, fine, words) in ranges.items():
        if not fine:
            raise HeadError(f"setting {key} of head {head!r} must be {words}, not {value!r}.")
