"""What the tests of the documentation share."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import pytest

RECORDER = """
import os, sys

def record(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname"):
        with open(os.environ["CALLS"], "a") as file:
            file.write(f"{sys.argv[1:2]}: {event} {[a for a in arguments if isinstance(a, (str, tuple))]}\\n")

sys.addaudithook(record)
"""


@pytest.fixture(scope="session")
def offline(tmp_path_factory, own_cache) -> dict[str, str]:
    """The environment of a machine without a network or weights, in which every network call is written to $CALLS.

    Nobody listens at its proxy. Its $HOME is empty.
    """
    folder = tmp_path_factory.mktemp("offline")
    (folder / "hooks").mkdir()
    (folder / "home").mkdir()
    (folder / "calls").touch()
    (folder / "hooks" / "sitecustomize.py").write_text(RECORDER)
    return {
        "HOME": str(folder / "home"),
        "KERAS_HOME": str(folder / "no-weights"),
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "CXRFEAT_CACHE": str(own_cache),
        "PYTHONPATH": str(folder / "hooks"),
        "CALLS": str(folder / "calls"),
    }


@pytest.fixture(scope="session")
def sample_project(tmp_path_factory, demo_run) -> Path:
    """A project folder with the sample's embeddings (random weights, pass 0) and a logistic head on them."""
    from cxrfeat import fit_head

    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(demo_run.folder / "out" / "cache", folder / "cache")
    with contextlib.chdir(folder):
        fit_head("sample")
    return folder
