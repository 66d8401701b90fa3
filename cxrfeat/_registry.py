"""Things that users choose by name: backbones, datasets, heads, metrics; ours and those of other installed packages."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Generic, TypeVar

from cxrfeat.errors import CxrfeatError

_log = logging.getLogger(__name__)

T = TypeVar("T")


class Registry(Generic[T]):
    """Declarations by name, imported on first use.

    `kind` is what messages call them (`backbone`), `group` the entry point group in which other packages declare theirs
    (`cxrfeat.backbones`; the entry point's name is what users type), `builtin` has ours by name, as declarations or as
    `module:attribute`, in the order of help texts, and `error` is what an unknown name raises.
    """

    def __init__(
        self, kind: str, group: str, builtin: Mapping[str, str | T], error: Callable[[str], CxrfeatError] = CxrfeatError
    ) -> None:
        self.kind, self.group, self._error = kind, group, error
        self._loaded: dict[str, T] = {name: entry for name, entry in builtin.items() if not isinstance(entry, str)}
        self._builtin = {name: entry if isinstance(entry, str) else "" for name, entry in builtin.items()}

    @cached_property
    def _places(self) -> dict[str, str]:
        from importlib.metadata import entry_points  # not above: a help text without choices does not need it

        found = dict(self._builtin)
        for point in entry_points(group=self.group):
            if point.name in found:
                _log.warning("the %s %r of %s is not used: the name is taken.", self.kind, point.name, point.value)
            else:
                found[point.name] = point.value
        return found

    @property
    def names(self) -> tuple[str, ...]:
        """Every name, ours first; nothing is imported for it."""
        return tuple(self._places)

    @property
    def others(self) -> tuple[str, ...]:
        """The names that are not ours, which a help text shows; `cli/options.py` asks for it by name."""
        return tuple(name for name in self.names if name not in self._builtin)

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def __getitem__(self, name: str) -> T:
        """Return the declaration of that name; raise `error` if there is none, or its package cannot be imported."""
        if name not in self._loaded:
            if name not in self._places:
                raise self._error(f"unknown {self.kind} {name!r}; choose one of {', '.join(self.names)}.")
            module, _, attribute = self._places[name].partition(":")
            try:
                self._loaded[name] = getattr(importlib.import_module(module), attribute)
            except (ImportError, AttributeError) as error:
                if name in self._builtin:
                    raise
                raise self._error(f"{self.kind} {name!r} is declared by {self._places[name]}: {error}.") from error
        return self._loaded[name]

    def __iter__(self) -> Iterator[T]:
        """Yield every declaration; one of another package that cannot be imported is left out with a warning."""
        for name in self.names:
            try:
                yield self[name]
            except CxrfeatError as error:
                _log.warning("%s", error)
