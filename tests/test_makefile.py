"""The front door: every target is listed, the environment is made once, and a Python that cannot run is passed over."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")

# In place of an interpreter: it says yes to `-c`, and `-m venv` makes an environment whose python only notes
# down what it was asked. The real thing needs a package index, and is what continuous integration runs.
FAKE_PYTHON = """#!/bin/sh
case "$1 $2" in
  "--version ") echo "Python 3.12.0" ;;
  "-c "*) exit 0 ;;
  "-m venv") for venv in "$@"; do :; done; mkdir -p "$venv/bin"
    printf '#!/bin/sh\\necho "$@" >> "{log}"\\n' > "$venv/bin/python"; chmod +x "$venv/bin/python" ;;
esac
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the Makefile beside an empty pyproject, and interpreters that work and do not."""
    shutil.copy(ROOT / "Makefile", tmp_path / "Makefile")
    (tmp_path / "pyproject.toml").touch()
    good = FAKE_PYTHON.replace("{log}", str(tmp_path / "log"))
    for name, text in {"good": good, "shim": "#!/bin/sh\nexit 127\n"}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    return tmp_path


def make(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    # Without what a `make test` above this one hands down to makes below it.
    env = {k: v for k, v in os.environ.items() if k not in {"MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES"}}
    return subprocess.run(["make", *words], cwd=folder, capture_output=True, text=True, check=False, env=env)


def test_help_lists_every_target():
    text = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", text, re.M)
    assert phony
    listed = re.findall(r"^  make (\S+) +\S", make(ROOT, "help").stdout, re.M)
    assert sorted(listed) == sorted(phony[1].split())


def test_what_runs_by_default_is_the_help():
    assert make(ROOT).stdout == make(ROOT, "help").stdout


def test_the_environment_is_made_once(project):
    assert make(project, "venv", f"PYTHON={project}/good").returncode == 0
    asked = (project / "log").read_text()
    assert "-m pip install" in asked
    assert "--editable ." in asked
    assert "--group" not in asked, "a user needs no linters"
    assert make(project, "venv", f"PYTHON={project}/good").returncode == 0
    assert (project / "log").read_text() == asked, "nothing is installed a second time"


def test_work_on_the_code_installs_its_tools_once_and_a_feature_is_installed_by_name(project):
    assert make(project, "tools", "EXTRAS=dicom,parquet", f"PYTHON={project}/good").returncode == 0
    asked = (project / "log").read_text()
    assert "--editable .[dicom,parquet]\n" in asked
    assert asked.count("--group dev") == 1
    assert make(project, "tools", f"PYTHON={project}/good").returncode == 0
    assert (project / "log").read_text() == asked


def test_a_new_pyproject_installs_again_into_the_same_environment(project):
    make(project, "venv", f"PYTHON={project}/good")
    (project / ".venv" / "kept").touch()
    stamp = project / ".venv" / ".installed"
    later = stamp.stat().st_mtime + 10
    os.utime(project / "pyproject.toml", (later, later))
    make(project, "venv", f"PYTHON={project}/good")
    assert (project / "log").read_text().count("--editable") == 2
    assert (project / ".venv" / "kept").exists()


def test_an_interpreter_that_is_there_and_does_not_run_is_passed_over(project):
    result = make(project, "venv", f"PYTHON={project}/shim {project}/good")
    assert result.returncode == 0, result.stderr
    assert f"with Python 3.12.0 ({project}/good)" in result.stdout


def test_no_interpreter_is_a_sentence(project):
    result = make(project, "test", f"PYTHON={project}/shim")
    assert result.returncode != 0
    assert "cxrfeat needs CPython 3.11, 3.12 or 3.13" in result.stderr
    assert "make test PYTHON=/path/to/python" in result.stderr
    assert not (project / ".venv").exists()


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["features", "BACKBONE=resnet50", "PASSES=0", "WEIGHTS=random:0"],
         "extract sample --backbone resnet50 --passes 0 --weights random:0"),
        (["head", "WEIGHTED=1"], "fit-head --study sample --head logistic --weighted"),
        (["head", "WEIGHTED=0", "HEAD=keras"], "fit-head --study sample --head keras"),
        (["demo"], "demo"),
    ],
)  # fmt: skip
def test_targets_run_the_command_they_are_named_after(words, command):
    printed = make(ROOT, "-n", "-o", ".venv/.installed", *words).stdout
    assert f".venv/bin/cxrfeat {command}" in " ".join(printed.split())


def test_ci_runs_the_readme_s_commands():
    lines = [line for line in (ROOT / ".ci" / "run").read_text().splitlines() if line.startswith("make")]
    assert lines == ["make lint", "make test", "make docs", "make demo", "make wheel"]
