"""The front door: what `import cxrfeat` gives is what is documented, and costs nothing until it is used."""

from __future__ import annotations

import ast
import importlib
import json
import pkgutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import cxrfeat

STUB = Path(cxrfeat.__file__).with_suffix(".pyi")


def declared() -> set[str]:
    """Names of the stub, which the reference page shows."""
    tree = ast.parse(STUB.read_text())
    names = {alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    return names | {"__version__"}


def modules() -> set[str]:
    """The public modules: `from . import cache as cache`."""
    nodes = [node for node in ast.parse(STUB.read_text()).body if isinstance(node, ast.ImportFrom)]
    return {alias.name for node in nodes if node.module is None for alias in node.names}


def python(code: str) -> object:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_dir_and_all_are_exactly_the_declared_names():
    assert set(cxrfeat.__all__) == {*dir(cxrfeat), "__version__"} == declared()


def test_importing_it_imports_nothing_heavy():
    found = python("import sys, json, cxrfeat; dir(cxrfeat); print(json.dumps(sorted(sys.modules)))")
    assert not {"numpy", "pandas", "h5py", "click", "rich"} & {name.partition(".")[0] for name in found}
    assert {name for name in found if name.startswith("cxrfeat")} == {"cxrfeat"}


def test_every_name_is_what_it_says_even_after_every_module_was_imported():
    """No package or module takes a function's place, whatever was imported in whatever order."""
    for module in pkgutil.walk_packages(cxrfeat.__path__, "cxrfeat."):
        importlib.import_module(module.name)
    assert {name for name in cxrfeat.__all__ if isinstance(getattr(cxrfeat, name), ModuleType)} == modules()


def test_no_module_beside_the_public_ones_is_without_an_underscore():
    folder = Path(cxrfeat.__file__).parent
    names = {path.stem for path in folder.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert {name for name in names if not name.startswith("_")} <= modules()
