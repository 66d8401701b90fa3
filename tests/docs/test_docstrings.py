"""What is public is documented in full, by numpydoc's own validation."""

from __future__ import annotations

import inspect
from dataclasses import is_dataclass
from types import ModuleType

import pytest
from numpydoc.docscrape import NumpyDocString
from numpydoc.validate import Validator, validate

import cxrfeat

# Of numpydoc's checks, those on content: a docstring (GL08); each parameter there (PR01) and described (PR07), and
# none that is not in the signature (PR02). What is returned may be in the summary, where one line says it all.
CHECKS = {"GL08", "PR01", "PR02", "PR07"}


def things() -> dict[str, object]:
    """Every public function and class, those of public modules too, and the public methods of the classes, by name."""
    found: dict[str, object] = {}
    for name in cxrfeat.__all__:
        thing = getattr(cxrfeat, name)
        if isinstance(thing, ModuleType):
            names = getattr(thing, "__all__", None) or _own(thing)
            found |= {f"cxrfeat.{name}.{inner}": getattr(thing, inner) for inner in names}
        else:
            found[f"cxrfeat.{name}"] = thing
    found = {name: thing for name, thing in found.items() if inspect.isclass(thing) or inspect.isfunction(thing)}
    for name, thing in list(found.items()):
        if inspect.isclass(thing):
            found |= {
                f"{name}.{part}": value
                for part, value in vars(thing).items()
                if part[0] != "_" and (callable(value) or isinstance(value, classmethod | property))
            }
    return found


def _own(module: ModuleType) -> list[str]:
    return [
        name
        for name, thing in vars(module).items()
        if name[0] != "_" and getattr(thing, "__module__", "") == module.__name__
    ]


def wanting(name: str) -> list[str]:
    """What numpydoc finds wrong in a docstring; a class may list its parameters as attributes, as dataclasses do."""
    errors = [f"{code}: {text}" for code, text in validate(name)["errors"] if code in CHECKS]
    thing = Validator._load_obj(name)
    if not inspect.isclass(thing):
        return errors
    documented = NumpyDocString(inspect.getdoc(thing) or "")
    names = {
        part.strip()
        for section in ("Attributes", "Parameters")
        for row in documented[section]
        for part in row.name.split(",")
    }
    # An exception or a protocol has the parameters of its base.
    plain = "__init__" not in vars(thing) or getattr(thing, "_is_protocol", False)
    parameters = [] if plain and not is_dataclass(thing) else inspect.signature(thing).parameters
    missing = [name for name in parameters if name not in names]
    return [e for e in errors if not e.startswith(("PR01", "PR02"))] + [f"PR01: {p} is not documented" for p in missing]


@pytest.mark.parametrize("name", things())
def test_it_is_documented(name):
    assert wanting(name) == []
