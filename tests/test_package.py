"""What is installed is what is here: every package is listed, and the sample's files go with it."""

from __future__ import annotations

import tomllib
from pathlib import Path

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


def test_no_module_is_longer_than_can_be_read_in_one_go():
    long = {p.name: n for p in [*ROOT.glob("cxrfeat/**/*.py"), *ROOT.glob("cli/*.py")]
            if (n := len(p.read_text().splitlines())) > 350}  # fmt: skip
    assert long == {}
