"""The site builds without a warning, asks no other host for anything, and shows every public name and no other."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

import cxrfeat

ROOT = Path(__file__).parents[2]


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
    assert len(pages) > 20
    for page in pages:
        reader = Fetched()
        reader.feed(page.read_text())
        assert [place for place in reader.places if re.match(r"(https?:)?//", place)] == [], page.name
    for style in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import )[\"']?(https?:)?//", style.read_text()), style.name


def test_the_api_page_shows_exactly_the_public_names(site):
    shown = re.findall(r"^::: cxrfeat\.(\w+)$", (ROOT / "docs" / "api.md").read_text(), re.M)
    assert sorted(shown) == sorted(set(cxrfeat.__all__) - {"__version__"})
    anchors = set(re.findall(r'id="cxrfeat\.(\w+)', (site / "api.html").read_text()))
    assert anchors == set(shown)


def test_the_notebook_is_a_page_with_its_picture_and_can_be_fetched(site):
    text = (site / "notebooks" / "first-look.html").read_text()
    assert "RANDOM weights" in text
    picture = re.search(r'src="(first-look-\d+\.png)"', text)
    assert picture and (site / "notebooks" / picture[1]).read_bytes().startswith(b"\x89PNG")
    assert (site / "notebooks" / "first-look.ipynb").is_file()
    assert not list(site.rglob("*.py"))
