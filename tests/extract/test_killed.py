"""A real extraction process, killed midway and started again, ends in the file of an uninterrupted one, bit for bit."""

import os
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is POSIX")
def test_killed_and_resumed_equals_uninterrupted(make_study, run, tmp_path):
    study = make_study(700, size=32)
    study.save(tmp_path / "study.csv")
    whole = run(study, out=tmp_path / "whole.h5").path
    out = tmp_path / "killed.h5"
    command = [sys.executable, "-m", "cxrfeat_cli.main", "extract", str(tmp_path / "study.csv"), "-o", str(out)]
    command += ["--weights", "random:0", "--size", "32"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    deadline = time.monotonic() + 120
    parts = out.with_name(out.name + ".parts")
    while not list(parts.glob("*.npz")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
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
