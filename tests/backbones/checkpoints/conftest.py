import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def checkpoints():
    """The functions that write files as PyTorch does."""
    spec = importlib.util.spec_from_file_location("pytorch_files", Path(__file__).parents[1] / "pytorch_files.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
