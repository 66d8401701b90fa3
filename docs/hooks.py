"""Hooks of mkdocs: each notebook becomes a page that shows its outputs.

This takes a few lines; pages by nbconvert and mkdocs-jupyter have their own style and load scripts from other hosts. A
notebook's page is `NAME.md` in the site, beside the notebook for download. Pages link to `NAME.ipynb`, which exists on
GitHub; in the site these links lead to the page.
"""

from __future__ import annotations

import base64
import re
from pathlib import PurePosixPath

import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

BLANK = re.compile(r"^[ \t]*\n|<style.*?</style>\s*", re.M | re.S)  # a blank line would end the HTML block
ANSI = re.compile(r"\x1b\[[\d;]*m")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page, and the pictures it shows, for each notebook."""
    for file in [file for file in files if file.src_uri.endswith(".ipynb")]:
        place = PurePosixPath(file.src_uri)
        text, pictures = page_of(nbformat.reads(file.content_string, as_version=4), place.stem)
        files.append(File.generated(config, str(place.with_suffix(".md")), content=text))
        for name, data in pictures.items():
            files.append(File.generated(config, str(place.with_name(name)), content=data))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links to a notebook at its page, except on that page."""
    if page.file.generated_by:
        return markdown
    return re.sub(r"\]\(([\w./-]+)\.ipynb\)", r"](\1.md)", markdown)


def page_of(book: nbformat.NotebookNode, name: str) -> tuple[str, dict[str, bytes]]:
    """A notebook as Markdown, and the pictures it shows by file name."""
    parts: list[str] = []
    pictures: dict[str, bytes] = {}
    for cell in book.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
        elif cell.cell_type == "code":
            parts.append(f"```python\n{cell.source}\n```")
            for output in cell.outputs:
                data = output.get("data", {})
                if picture := data.get("image/png"):
                    file = f"{name}-{len(pictures)}.png"
                    pictures[file] = base64.b64decode(picture)
                    parts.append(f"![What the code above draws]({file})")
                elif html := data.get("text/html"):
                    parts.append(f'<div class="output" markdown="0">\n{BLANK.sub("", html).strip()}\n</div>')
                elif text := output.get("text") or data.get("text/plain"):
                    parts.append(f"```text\n{ANSI.sub('', text).rstrip()}\n```")
    parts.insert(1, f"[This page as a notebook]({name}.ipynb){{ download }}")
    return "\n\n".join(parts) + "\n", pictures
