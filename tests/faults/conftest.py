"""The pieces of the fault harness, and the rule that its long forms run only when asked for (`pytest -m soak`)."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import h5py
import pytest

HERE = Path(__file__).parent


def load(name: str):
    """Import a file of this folder: it is no package, since test folders are not."""
    spec = importlib.util.spec_from_file_location(f"faults_{name}", HERE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def worker():
    return load("worker")


@pytest.fixture(scope="session")
def faulty():
    return load("faulty")


@pytest.fixture(scope="session")
def everything():
    """Every dataset of a file as bytes, read by h5py alone, and its content hash."""

    def read(path: Path) -> dict[str, bytes]:
        with h5py.File(path, "r") as file:
            return {name: file[name][...].tobytes() for name in file} | {"content": bytes(file.attrs["content_sha256"])}

    return read


@pytest.fixture(scope="session")
def references(worker, everything, tmp_path_factory):
    """What uninterrupted extractions of the worker's studies hold, by name: extracted at once, and after `small`."""
    folder = tmp_path_factory.mktemp("reference")
    found = {}
    for name, study in worker.STUDIES.items():
        worker.extract(folder / f"{name}.h5", study)
        found[name] = everything(folder / f"{name}.h5")
    return found


@pytest.fixture
def told(record_property):
    """Count what was tried, for the summary at the end of the run (tests/conftest.py prints it)."""
    return lambda text: record_property("told", text)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "soak" in (config.option.markexpr or ""):
        return
    long = [item for item in items if item.get_closest_marker("soak")]
    if long:
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]
