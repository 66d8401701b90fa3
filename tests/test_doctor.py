"""The doctor tells what is wrong on a machine that has it wrong, gives the fix, and stays quick."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import metadata

import pytest
from click.testing import CliRunner
from cxrfeat_cli.main import cli

from cxrfeat import _doctor as doctor
from cxrfeat._backbones.registry import BACKBONES


@pytest.fixture
def healthy(tmp_path, monkeypatch):
    """A machine with a cache folder of its own and no weights."""
    monkeypatch.setenv("CXRFEAT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def found(**options) -> dict[str, doctor.Check]:
    return {check.name: check for check in doctor.doctor(**options)}


def test_a_healthy_machine_fails_in_nothing_and_is_told_how_to_get_weights(healthy):
    checks = found()
    assert not [c for c in checks.values() if c.state == "fail"]
    assert checks["weights densenet121"].state == "warn"
    assert "cxrfeat weights fetch densenet121" in checks["weights densenet121"].fix
    assert "openvino" in checks["engine"].found
    assert f"numpy {metadata.version('numpy')}" in checks["packages"].found


def test_a_cache_folder_that_cannot_be_written(healthy, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("CXRFEAT_CACHE", str(tmp_path / "file" / "cache"))
    check = found()["cache folder"]
    assert check.state == "fail"
    assert "CXRFEAT_CACHE" in check.fix


def test_damaged_weights(healthy, tmp_path):
    file = tmp_path / "keras" / "models" / BACKBONES["resnet50"].weights_file
    file.parent.mkdir(parents=True)
    file.write_bytes(b"cut off")
    check = found()["weights resnet50"]
    assert (check.state, "weights remove resnet50" in check.fix) == ("fail", True)


def test_packages_that_are_missing_or_of_the_wrong_version(healthy, monkeypatch):
    monkeypatch.setattr(
        metadata, "requires", lambda _: ["numpy>=99", "no-such-thing>=1", "click>=1", 'x; extra == "y"']
    )
    checks = found()
    assert checks["numpy"].state == checks["no-such-thing"].state == "fail"
    assert checks["numpy"].fix == "pip install 'numpy>=99'"
    assert checks["packages"].found.startswith("1 as required")
    assert "x" not in checks


def test_decoders_that_are_missing_are_named(healthy, monkeypatch):
    there = {"pydicom": "3.0", "pylibjpeg": "2.0", "pyjpegls": "1.5", "pyarrow": "1"}
    monkeypatch.setattr(doctor.machine, "versions", lambda names: {n: there[n] for n in names if n in there})
    checks = found()
    assert checks["extra dicom"].found == "pydicom 3.0, reads DICOM files; no python-gdcm, pylibjpeg-openjpeg"
    assert checks["extra dicom"].fix.endswith("pip install 'cxrfeat[dicom]'") and checks["extra parquet"].fix == ""


@pytest.mark.parametrize(("free", "state"), [(5e9, "ok"), (1e9, "warn"), (1e8, "fail")])
def test_free_disk(healthy, monkeypatch, free, state):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda place: type("Usage", (), {"free": free}))
    assert found()["disk here"].state == state


def test_a_locale_that_is_not_utf8(healthy, monkeypatch):
    monkeypatch.setattr(doctor.locale, "getpreferredencoding", lambda _: "ANSI_X3.4-1968")
    assert (found()["locale"].state, found()["locale"].fix) == ("warn", "set PYTHONUTF8=1")


def test_the_command_exits_with_1_only_when_something_fails(healthy, tmp_path, monkeypatch):
    result = CliRunner().invoke(cli, ["doctor", "--json"])
    assert (result.exit_code, json.loads(result.stdout)["ok"]) == (0, True)
    (tmp_path / "file").touch()
    monkeypatch.setenv("CXRFEAT_CACHE", str(tmp_path / "file"))
    result = CliRunner().invoke(cli, ["doctor"])
    assert result.exit_code == 1
    assert "FAIL" in result.stdout
    assert "cache folder: make it writable" in result.stdout


def test_without_deep_nothing_heavy_is_imported(tmp_path):
    code = (
        "import sys; from cxrfeat import doctor; doctor();"
        "print([m for m in ('tensorflow', 'keras', 'onnx', 'sklearn', 'matplotlib') if m in sys.modules])"
    )
    env = os.environ | {"CXRFEAT_CACHE": str(tmp_path), "KERAS_HOME": str(tmp_path)}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert run.stdout.strip() == "[]"
