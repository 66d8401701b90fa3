"""What the reference shows is documented in full, by numpydoc's own validation."""

from __future__ import annotations

import importlib
import inspect
import re
from dataclasses import is_dataclass
from operator import attrgetter
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from numpydoc.docscrape import NumpyDocString
from numpydoc.validate import validate

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
SHOWN = re.compile(r"^::: (\S+)\n((?: {4}.*\n)*)", re.M)

# Of numpydoc's checks, those on content: a docstring (GL08); each parameter there (PR01) and described (PR07), and
# none that is not in the signature (PR02). What is returned may stand in the summary, where one line says it all.
CHECKS = {"GL08", "PR01", "PR02", "PR07"}


def shown() -> list[tuple[ModuleType, list[str]]]:
    """Modules of the reference, and the names each page shows of them."""
    found = []
    for page in sorted(REFERENCE.glob("*.md")):
        for module, options in SHOWN.findall(page.read_text()):
            room = importlib.import_module(module)
            listed = (yaml.safe_load(options) or {}).get("options", {}).get("members")
            found.append((room, listed or getattr(room, "__all__", None) or _own(room)))
    return found


def _own(room: ModuleType) -> list[str]:
    return [
        name
        for name, thing in vars(room).items()
        if name[0] != "_" and getattr(thing, "__module__", "") == room.__name__
    ]


def things() -> list[str]:
    """Full names of every function, class and public method that the reference shows."""
    found: dict[str, None] = {}
    for room, names in shown():
        for name in names:
            thing = getattr(room, name)
            if not (inspect.isclass(thing) or inspect.isfunction(thing)):
                continue
            found[full := f"{thing.__module__}.{name}"] = None
            if inspect.isclass(thing):
                parts = [
                    k
                    for k, v in vars(thing).items()
                    if k[0] != "_" and (callable(v) or isinstance(v, classmethod | property))
                ]
                found |= dict.fromkeys(f"{full}.{part}" for part in parts)
    return list(found)


def wanting(name: str) -> list[str]:
    """What numpydoc has against a docstring; a class may tell its parameters as attributes, as dataclasses do."""
    errors = [f"{code}: {text}" for code, text in validate(name)["errors"] if code in CHECKS]
    thing = attrgetter(name.removeprefix(room := _room(name)).lstrip("."))(importlib.import_module(room))
    if not inspect.isclass(thing):
        return errors
    told = NumpyDocString(inspect.getdoc(thing) or "")
    names = {
        part.strip()
        for section in ("Attributes", "Parameters")
        for row in told[section]
        for part in row.name.split(",")
    }
    plain = "__init__" not in vars(thing) or getattr(
        thing, "_is_protocol", False
    )  # an exception or a protocol has the parameters of its base
    missing = (
        [] if plain and not is_dataclass(thing) else [p for p in inspect.signature(thing).parameters if p not in names]
    )
    return [e for e in errors if not e.startswith(("PR01", "PR02"))] + [f"PR01: {p} is not documented" for p in missing]


def _room(name: str) -> str:
    """The module of a full name."""
    while name:
        try:
            return importlib.import_module(name).__name__
        except ModuleNotFoundError:
            name = name.rpartition(".")[0]
    raise AssertionError(name)


@pytest.mark.parametrize("name", things())
def test_it_is_documented(name):
    assert wanting(name) == []
