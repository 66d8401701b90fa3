"""The site builds without a warning, asks no other host for anything, and shows every public name of the packages."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("backbones", "evaluate", "extract", "heads", "report.figures", "reproduce", "store")


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The site, built as `make docs` does it."""
    folder = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    env = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stderr, done.stderr
    return folder


class Fetched(HTMLParser):
    """What a browser fetches by itself when it shows a page: scripts, styles, pictures, frames."""

    def __init__(self) -> None:
        super().__init__()
        self.places: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        if tag in ("script", "img", "iframe", "source", "embed"):
            self.places.append(found.get("src") or "")
        elif tag == "link" and found.get("rel") not in ("canonical", "prev", "next"):
            self.places.append(found.get("href") or "")
        if found.get("data-md-component") == "source":  # this link's script asks GitHub for the number of stars
            self.places.append(found.get("href") or "")


def test_no_page_fetches_anything_from_another_host(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        reader = Fetched()
        reader.feed(page.read_text())
        assert [place for place in reader.places if re.match(r"(https?:)?//", place)] == [], page.name
    for style in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import )[\"']?(https?:)?//", style.read_text()), style.name


def test_every_public_name_is_in_the_reference(site):
    anchors = set(re.findall(r'id="(cxrfeat[\w.]+)"', "".join(p.read_text() for p in site.glob("reference/*.html"))))
    for package in PACKAGES:
        room = f"cxrfeat.{package}"
        names = importlib.import_module(room).__all__
        assert [name for name in names if f"{room}.{name}" not in anchors] == [], room


def test_the_notebook_is_a_page_with_its_picture_and_can_be_fetched(site):
    text = (site / "notebooks" / "first-look.html").read_text()
    assert "RANDOM weights" in text
    picture = re.search(r'src="(first-look-\d+\.png)"', text)
    assert picture and (site / "notebooks" / picture[1]).read_bytes().startswith(b"\x89PNG")
    assert (site / "notebooks" / "first-look.ipynb").is_file()
    assert not list(site.rglob("*.py"))
