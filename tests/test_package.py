"""What is installed is what is here, and what it needs: packages, the sample's files, declared dependencies."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import cxrfeat

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_every_package_is_listed_and_every_listed_one_is_there():
    folders = {p.parent.relative_to(ROOT) for p in (ROOT / "cxrfeat").rglob("__init__.py")}
    found = {".".join(folder.parts) for folder in folders} | {"cxrfeat_cli"}
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == found


def test_every_file_that_is_no_module_is_package_data():
    base = ROOT / "cxrfeat"
    data = {p for pattern in PROJECT["tool"]["setuptools"]["package-data"]["cxrfeat"] for p in base.glob(pattern)}
    files = {p for p in base.rglob("*") if p.is_file() and p.suffix not in {".py", ".pyc"}}
    assert files - data == set()


def test_one_version_everywhere():
    citation = (ROOT / "CITATION.cff").read_text()
    assert PROJECT["project"]["version"] == cxrfeat.__version__
    assert f"version: {cxrfeat.__version__}\n" in citation


def test_what_is_imported_is_declared_and_what_is_declared_is_imported():
    declared = {canonicalize_name(Requirement(text).name) for text in PROJECT["project"]["dependencies"]}
    extras = {
        canonicalize_name(Requirement(text).name)
        for texts in PROJECT["project"]["optional-dependencies"].values()
        for text in texts
    }
    distributions = packages_distributions()
    imported = {
        canonicalize_name(name)
        for module in imported_modules() - {*sys.stdlib_module_names, "cxrfeat", "cxrfeat_cli"}
        for name in distributions.get(module, [module])  # PyTorch is not installed for the tests
    }
    assert imported - declared - extras == set(), "imported and not declared"
    assert declared - imported == set(), "declared and not imported"


def imported_modules() -> set[str]:
    """First part of every module that the sources import, inside functions too."""
    found: set[str] = set()
    for path in [*ROOT.glob("cxrfeat/**/*.py"), *ROOT.glob("cli/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
    return found


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """The source distribution, and the wheel built out of it, of a copy of what is tracked."""
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        pytest.skip("no checkout to compare with")
    folder = tmp_path_factory.mktemp("built")
    for name in tracked():
        target = folder / "source" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target)
    words = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder / "dist"), str(folder / "source")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "dist"


def tracked() -> list[str]:
    """Every file of the checkout that git knows, as it is now."""
    words = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [name for name in names if (ROOT / name).is_file()]


def test_the_source_distribution_is_the_checkout(built):
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        names = {m.name.partition("/")[2] for m in archive.getmembers() if m.isfile()}
    made = {name for name in names if name in {"PKG-INFO", "setup.cfg"} or ".egg-info/" in name}
    assert names - made == set(tracked())


def test_the_wheel_holds_the_packages_their_data_and_nothing_else(built):
    with zipfile.ZipFile(next(built.glob("*.whl"))) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        metadata = archive.read(next(n for n in archive.namelist() if n.endswith("/METADATA"))).decode()
    expected = {name for name in tracked() if name.startswith("cxrfeat/")}
    expected |= {f"cxrfeat_{name}" for name in tracked() if name.startswith("cli/")}
    assert names == expected
    for name in ("cxrfeat/py.typed", "cxrfeat/_report/templates/report.html.j2", "cxrfeat/_sample/sample.csv"):
        assert name in names
    assert "From a folder of chest X-rays" in metadata and str(Path.home()) not in metadata
