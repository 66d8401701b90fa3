"""Release notes: towncrier, as pyproject.toml sets it up, puts every fragment under the heading of its kind."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FRAGMENTS = [path for path in (ROOT / "changes").glob("*.md") if path.name != "README.md"]


def towncrier(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "towncrier", "build", "--dir", str(folder), *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The project's configuration and changelog, with a fragment of each kind."""
    (tmp_path / "changes").mkdir()
    for name in ("pyproject.toml", "CHANGELOG.md", "changes/README.md", "changes/template.md.j2"):
        shutil.copy(ROOT / name, tmp_path / name)
    for kind in ("added", "changed", "fixed", "removed"):
        (tmp_path / "changes" / f"a-name.{kind}.md").write_text(f"It is\n{kind}.\n")
    return tmp_path


def test_a_release_moves_a_fragment_of_each_kind_into_the_changelog(folder):
    before = (folder / "CHANGELOG.md").read_text()
    done = towncrier(folder, "--yes", "--version", "0.2.0", "--date", "2026-05-06")
    assert done.returncode == 0, done.stderr
    points = [f"### {kind.capitalize()}\n\n- It is\n  {kind}." for kind in ("added", "changed", "fixed", "removed")]
    section = "## [0.2.0] - 2026-05-06\n\n" + "\n\n".join(points)
    assert (folder / "CHANGELOG.md").read_text().rstrip() == f"{before}\n{section}"
    assert {path.name for path in (folder / "changes").iterdir()} <= {"README.md", "template.md.j2"}


def test_a_fragment_of_an_unknown_kind_is_refused(folder):
    (folder / "changes" / "a-name.new.md").write_text("It is new.\n")
    assert towncrier(folder, "--draft", "--version", "0.2.0").returncode != 0


def test_the_project_s_own_fragments_are_all_shown():
    done = towncrier(ROOT, "--draft", "--version", "0.2.0")
    assert done.returncode == 0, done.stderr
    shown = " ".join(done.stdout.split())
    for path in FRAGMENTS:
        assert re.fullmatch(r".+\.(added|changed|fixed|removed)\.md", path.name), path.name
        assert " ".join(path.read_text().split()) in shown, path.name
