"""Objects from JSON by the type hints of their fields: a damaged file is an error, and never an object of its parts."""

from __future__ import annotations

import functools
import json
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any

hints_of: Callable[[Any], dict[str, Any]] = functools.cache(typing.get_type_hints)


def typed(kind: Any, value: Any, place: str = "") -> Any:
    """Build what a type hint declares from JSON; a TypeError names the place of a value of another type."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any or (kind is Path and isinstance(value, Path)):
        return value
    if origin in (typing.Union, types.UnionType):
        return None if value is None and type(None) in arguments else typed(arguments[0], value, place)
    if place and hasattr(kind, "from_json") and isinstance(value, Mapping):
        return kind.from_json(json.dumps(value))
    if is_dataclass(kind) and isinstance(value, Mapping):
        return _object(kind, value, place)
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(typed(arguments[0], v, f"{place}{i}.") for i, v in enumerate(value))
    if origin is Mapping and isinstance(value, Mapping):
        return {key: typed(arguments[1], v, f"{place}{key}.") for key, v in value.items()}
    if kind is float and type(value) in (int, float):
        return float(value)
    if kind in (str, int, bool) and type(value) is kind:
        return value
    raise TypeError(f"{place.rstrip('.')} is {str(value)[:60]!r}")


def _object(kind: Any, value: Mapping[str, Any], place: str) -> Any:
    hints = hints_of(kind)
    if unknown := set(value) - set(hints):
        raise TypeError(f"{place}{min(unknown)!r} is not known")
    needed = {f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING}
    if missing := needed - set(value):
        raise TypeError(f"{place}{min(missing)!r} is missing")
    return kind(**{k: typed(hints[k], v, f"{place}{k}.") for k, v in value.items()})
