"""The notebook runs from its first cell to its last, and what it keeps is what it gives."""

from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path

import nbformat
import pytest

FOLDER = Path(__file__).parents[2] / "docs"
NOTEBOOK = FOLDER / "notebooks" / "first-look.ipynb"


def load(path: Path):
    spec = importlib.util.spec_from_file_location(f"docs_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def executed(tmp_path_factory, demo_run):
    """Run in a folder that has the sample's embeddings, which the demo has made with the same recipe."""
    folder = tmp_path_factory.mktemp("notebook")
    shutil.copytree(demo_run.folder / "out" / "cache", folder / "cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_HOME", "")  # both are set by `execute`, and are put back after it
        patch.setenv("HTTPS_PROXY", "")
        return load(FOLDER / "notebooks" / "execute.py").execute(NOTEBOOK, folder)


def shown(book: nbformat.NotebookNode) -> list[list[str]]:
    """What each cell prints and returns, without decimals: their last bits depend on the processor."""
    return [
        [
            re.sub(r"-?\d+\.\d*(e-?\d+)?|\s+|at 0x\w+", " ", text)
            for output in cell.get("outputs", [])
            if (text := output.get("text") or output.get("data", {}).get("text/plain", ""))
        ]
        for cell in book.cells
    ]


def test_every_cell_runs_and_gives_what_the_notebook_shows(executed):
    kept = nbformat.read(NOTEBOOK, as_version=4)
    assert all(cell.execution_count for cell in executed.cells if cell.cell_type == "code")
    for cell, new, old in zip(kept.cells, shown(executed), shown(kept), strict=True):
        assert new == old, f"{cell.source}\ngives something else; run docs/notebooks/execute.py"


def test_the_map_that_is_drawn_is_exact(executed):
    assert any("mean equals logit: True" in text for texts in shown(executed) for text in texts)


def test_the_notebook_is_light_and_says_that_its_weights_were_random():
    text = NOTEBOOK.read_text()
    assert len(text) < 350_000
    assert "RANDOM weights" in text
    assert not re.search(r"/(?:home|root|tmp|Users|work)/\w", text)


def test_a_notebook_becomes_a_page_with_its_outputs():
    hooks = load(FOLDER / "hooks.py")
    cell, output = nbformat.v4.new_code_cell, nbformat.v4.new_output
    book = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_markdown_cell("# Title"),
            cell("print(1)", outputs=[output("stream", text="\x1b[1m1\x1b[0m\n")]),
            cell(
                "t",
                outputs=[output("execute_result", data={"text/html": "<table>\n\n<tr/></table>", "text/plain": "t"})],
            ),
            cell("plot()", outputs=[output("display_data", data={"image/png": "UE5H", "text/plain": "<Figure>"})]),
        ]
    )
    text, pictures = hooks.page_of(book, "book")
    assert text.startswith("# Title\n\n[This page as a notebook](book.ipynb)")
    assert "```python\nprint(1)\n```\n\n```text\n1\n```" in text
    assert '<div class="output" markdown="0">\n<table>\n<tr/></table>\n</div>' in text
    assert "![What the code above draws](book-0.png)" in text
    assert pictures == {"book-0.png": b"PNG"}
