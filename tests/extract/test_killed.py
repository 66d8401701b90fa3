"""A real extraction process, killed midway and started again, ends in the file of an uninterrupted one, bit for bit."""

import os
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest


def begin(study, folder, out, *options):
    """Start `cxrfeat extract`, and wait until some of it is embedded."""
    study.save(folder / "study.csv")
    command = [sys.executable, "-m", "cxrfeat_cli.main", "extract", str(folder / "study.csv"), "-o", str(out)]
    command += ["--weights", "random:0", "--size", "32", *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    deadline = time.monotonic() + 120
    parts = out.with_name(out.name + ".parts")
    while not list(parts.glob("*.npz")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    return command, process


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is POSIX")
def test_killed_and_resumed_equals_uninterrupted(make_study, run, tmp_path):
    study = make_study(700, size=32)
    whole = run(study, out=tmp_path / "whole.h5").path
    out = tmp_path / "killed.h5"
    command, process = begin(study, tmp_path, out)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not out.exists(), "it finished before it could be killed"
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "kept" in done.stderr
    with h5py.File(whole) as a, h5py.File(out) as b:
        names = []
        a.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        assert "embeddings" in names
        for name in names:
            np.testing.assert_array_equal(a[name][()], b[name][()], err_msg=name)
        assert a.attrs["recipe"] == b.attrs["recipe"]


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX")
def test_ctrl_c_over_and_over_changes_nothing(make_study, tmp_path):
    """A second one left a worker in the engine at the interpreter's end: SIGABRT instead of 130."""
    out = tmp_path / "stopped.h5"
    _, process = begin(make_study(600, size=32), tmp_path, out, "--passes", "3")
    for _ in range(60):  # before, while and after it says that it stopped
        process.send_signal(signal.SIGINT)
        time.sleep(0.005)
    said = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 130, said
    assert said.splitlines()[-1].startswith("stopped. What was embedded is kept")
    assert not out.exists()
