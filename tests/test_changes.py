"""Release notes: no fragment is lost or put under a wrong heading, and what stood in the changelog stays."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

BEFORE = """# Changelog

What is newer stands in fragments.

## [Unreleased]

### Added

- A thing that
  is there.

### Fixed

- One fault.

## [0.1.0] - 2026-01-02

### Added

- Everything.
"""


@pytest.fixture(scope="module")
def gather():
    spec = importlib.util.spec_from_file_location("gather", ROOT / "changes" / "gather.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.gather


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "CHANGELOG.md").write_text(BEFORE)
    changes = tmp_path / "changes"
    changes.mkdir()
    (changes / "README.md").write_text("How to write a fragment.\n")
    (changes / "speed.added.md").write_text("- `extract` is\n  faster.\n")
    (changes / "a.b.removed.md").write_text("No more of it.\n")
    return changes


def test_fragments_come_below_what_was_there_under_their_own_headings(gather, folder):
    gather(folder, folder.parent / "CHANGELOG.md")
    expected = BEFORE.replace("  is there.\n", "  is there.\n- `extract` is faster.\n")
    expected = expected.replace("- One fault.\n", "- One fault.\n\n### Removed\n\n- No more of it.\n")
    assert (folder.parent / "CHANGELOG.md").read_text() == expected
    assert [path.name for path in folder.iterdir()] == ["README.md"]


def test_a_release_leaves_an_empty_section_above_it(gather, folder):
    gather(folder, folder.parent / "CHANGELOG.md", "0.2.0", "2026-05-06")
    text = (folder.parent / "CHANGELOG.md").read_text()
    assert "## [Unreleased]\n\n## [0.2.0] - 2026-05-06\n\n### Added\n\n- A thing" in text
    gather(folder, folder.parent / "CHANGELOG.md")
    assert (folder.parent / "CHANGELOG.md").read_text() == text, "with nothing to gather nothing changes"


@pytest.mark.parametrize(
    ("name", "text", "version", "why"),
    [
        ("x.new.md", "Said.", "", "KIND one of"),
        ("x.added.md", " \n", "", "says nothing"),
        ("x.added.md", "Said.", "two", "no version"),
        ("x.added.md", "Said.", "0.1.0", "already"),
    ],
)
def test_a_mistake_changes_nothing(gather, folder, name, text, version, why):
    (folder / name).write_text(text)
    with pytest.raises(ValueError, match=why):
        gather(folder, folder.parent / "CHANGELOG.md", version, "2026-05-06")
    assert (folder.parent / "CHANGELOG.md").read_text() == BEFORE
    assert len(list(folder.iterdir())) == 4


def test_the_project_s_own_fragments_can_be_gathered(gather, tmp_path):
    changes = tmp_path / "changes"
    changes.mkdir()
    for path in (ROOT / "changes").glob("*.md"):
        (changes / path.name).write_text(path.read_text())
    (tmp_path / "CHANGELOG.md").write_text((ROOT / "CHANGELOG.md").read_text())
    gather(changes, tmp_path / "CHANGELOG.md")
    assert [path.name for path in changes.iterdir()] == ["README.md"]
    for line in (ROOT / "CHANGELOG.md").read_text().splitlines():
        assert line in (tmp_path / "CHANGELOG.md").read_text()
