"""The pages lead somewhere, and name every command."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
from cxrfeat_cli.main import COMMANDS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def build():
    spec = importlib.util.spec_from_file_location("docs_build", ROOT / "docs" / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_links_of_the_front_pages_lead_somewhere(build):
    """`make docs` checks every page; these are the ones a newcomer meets."""
    front = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/architecture.md", "cxrfeat/_sample/README.md"]
    assert build.broken_links([ROOT / page for page in front]) == []


def test_a_broken_link_is_found(build, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "ROOT", tmp_path)
    (tmp_path / "a.md").write_text("# One\n[b](b.md) [c](c.md) [one](#one) [two](#two) [web](https://x.org)\n")
    (tmp_path / "b.md").touch()
    assert build.broken_links([tmp_path / "a.md"]) == ["a.md: c.md", "a.md: #two"]


def test_headings_are_the_anchors_github_makes(build, tmp_path):
    (tmp_path / "page.md").write_text("# One, two `three`\n## A/B (c)\n")
    assert build.headings(tmp_path / "page.md") == {"one-two-three", "ab-c"}


def test_every_command_is_in_the_readme():
    readme = (ROOT / "README.md").read_text()
    for command in COMMANDS:
        assert f"`{command}" in readme


def test_nothing_in_the_repository_names_a_place_on_a_developer_s_machine():
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("changes/*.md")]:
        assert not re.search(r"/(?:home|root|tmp|Users|work)/\w", path.read_text()), path.name


def test_the_page_of_datasets_is_written_from_their_declarations(build):
    assert (ROOT / "docs" / "datasets.md").read_text() == build.datasets_page(), "run `make docs`"
