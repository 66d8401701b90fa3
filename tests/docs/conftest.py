"""What the tests of the documentation share."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def offline(tmp_path_factory, own_cache) -> dict[str, str]:
    """The environment of a machine without a network and without weights; nobody listens at its proxy."""
    return {
        "KERAS_HOME": str(tmp_path_factory.mktemp("no-weights")),
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "CXRFEAT_CACHE": str(own_cache),
    }


@pytest.fixture(scope="session")
def sample_project(tmp_path_factory, offline) -> Path:
    """A project folder with the sample's embeddings (random weights, pass 0) and a logistic head on them."""
    folder = tmp_path_factory.mktemp("project")
    for words in ("extract sample --passes 0", "fit-head --study sample"):
        command = [sys.executable, "-m", "cxrfeat_cli.main", *words.split()]
        done = subprocess.run(
            command, cwd=folder, env=os.environ | offline, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    return folder
