"""What is public is documented in full, by numpydoc's own validation, with an example that gives what it shows.

An example runs in a project folder that holds what `extract` and `fit_head` make of the embedded sample, so that both
have nothing left to do, on a machine without a network.
"""

from __future__ import annotations

import doctest
import inspect
import shutil
from dataclasses import is_dataclass
from types import ModuleType

import pytest
from numpydoc.docscrape import NumpyDocString
from numpydoc.validate import Validator, validate

import cxrfeat

# Of numpydoc's checks, those on content: a docstring (GL08); each parameter there (PR01) and described (PR07), and
# none that is not in the signature (PR02). What is returned may be in the summary, where one line says it all.
CHECKS = {"GL08", "PR01", "PR02", "PR07"}


def public() -> dict[str, object]:
    """Every public function and class by its full name, those of public modules too."""
    found: dict[str, object] = {}
    for name in cxrfeat.__all__:
        thing = getattr(cxrfeat, name)
        if isinstance(thing, ModuleType):
            own = [key for key, value in vars(thing).items() if getattr(value, "__module__", "") == thing.__name__]
            names = getattr(thing, "__all__", None) or [key for key in own if key[0] != "_"]
            found |= {f"cxrfeat.{name}.{inner}": getattr(thing, inner) for inner in names}
        else:
            found[f"cxrfeat.{name}"] = thing
    return {name: thing for name, thing in found.items() if inspect.isclass(thing) or inspect.isfunction(thing)}


THINGS = public()
METHODS = [
    f"{name}.{part}"
    for name, thing in THINGS.items()
    if inspect.isclass(thing)
    for part, value in vars(thing).items()
    if part[0] != "_" and (callable(value) or isinstance(value, classmethod | property))
]
FINDER = doctest.DocTestFinder(exclude_empty=True)
EXAMPLES = {
    test.name: test
    for name, thing in [*THINGS.items(), ("cxrfeat.errors", cxrfeat.errors)]
    for test in FINDER.find(thing, name, module=False, globs={})
    if test.examples
}


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


@pytest.mark.parametrize("name", [*THINGS, *METHODS])
def test_it_is_documented(name):
    assert wanting(name) == []


@pytest.fixture
def project(sample_project, offline, tmp_path_factory, monkeypatch):
    """Work in a copy of the project, beside it, since the paths of images in its runs are relative."""
    folder = tmp_path_factory.mktemp("copy")
    shutil.copytree(sample_project, folder, dirs_exist_ok=True)
    monkeypatch.chdir(folder)
    for name, value in offline.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_gives_what_it_shows(name, project):
    printed: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    failed, _ = runner.run(EXAMPLES[name], out=printed.append)
    assert failed == 0, "".join(printed)


def test_every_public_object_has_an_example():
    """The errors share one, of their module."""
    wanted = {name for name in THINGS if not name.startswith("cxrfeat.errors.")} | {"cxrfeat.errors"}
    assert wanted <= {*EXAMPLES}
