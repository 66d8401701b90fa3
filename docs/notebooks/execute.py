"""Run the notebook and keep its outputs: `python docs/notebooks/execute.py`, after its cells have changed.

Outputs are what a machine without ImageNet weights gives, so that they say so; what differs from run to run (execution
times, Python's version) is not kept.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parent / "first-look.ipynb"


def execute(path: Path, folder: Path) -> nbformat.NotebookNode:
    """Run every cell in a folder, with random weights; an error in a cell is raised."""
    # Nobody listens there, so the download of weights fails at once, on a machine with a network too.
    os.environ |= {"KERAS_HOME": str(folder / "no-weights"), "HTTPS_PROXY": "http://127.0.0.1:9"}
    book = nbformat.read(path, as_version=4)
    client = NotebookClient(book, timeout=300, resources={"metadata": {"path": str(folder)}}, record_timing=False)
    return client.execute()


def main() -> None:
    """Execute in a temporary folder, and write the notebook with its outputs."""
    with tempfile.TemporaryDirectory() as folder:
        book = execute(NOTEBOOK, Path(folder))
    book.metadata["language_info"] = {"name": "python"}
    nbformat.write(book, NOTEBOOK)


if __name__ == "__main__":
    main()
