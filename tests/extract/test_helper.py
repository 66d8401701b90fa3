"""Images that are prepared in other processes: the same file, whatever happens to these."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from cxrfeat._extract import pipeline
from cxrfeat._images import decode, helper, prepare
from cxrfeat._recipe import Recipe
from cxrfeat._store import EmbeddingFile
from cxrfeat.errors import ImageError

RECIPE = Recipe("net", "random:0", "", "relu", "torch", 32, augmentation="mild", passes=2)
STARTS = """
import sys
from cxrfeat._extract import extract, pipeline
from cxrfeat._images import decode
decode.FEW_CORES = pipeline.MANY = 0
extract(sys.argv[1], out=sys.argv[2], weights="random:0", size=32, passes=3)
"""


@pytest.fixture
def films(make_study):
    return [path.read_bytes() for path in make_study(3).paths()]


@pytest.fixture
def started():
    one = helper.Helper()
    yield one
    one.close()


def running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def gone(pid, seconds=20):
    """Whether a process ends within some time."""
    until = time.monotonic() + seconds
    while running(pid) and time.monotonic() < until:
        time.sleep(0.02)
    return not running(pid)


def test_prepared_in_processes_the_file_is_the_same(make_study, run, tmp_path, monkeypatch):
    study = make_study(12)
    study.paths()[3].write_bytes(b"no picture")
    threads = run(study, out=tmp_path / "threads.h5", passes=1)
    monkeypatch.setattr(decode, "FEW_CORES", 0)
    monkeypatch.setattr(pipeline, "MANY", 0)
    processes = run(study, out=tmp_path / "processes.h5", passes=1)
    assert processes.failed == threads.failed and len(threads.failed) == 1
    with EmbeddingFile.open(threads.path) as a, EmbeddingFile.open(processes.path) as b:
        np.testing.assert_array_equal(a.read(a.image_ids), b.read(a.image_ids))
        np.testing.assert_array_equal(a.image_sha256(a.image_ids), b.image_sha256(a.image_ids))


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is POSIX")
def test_a_killed_process_is_replaced_and_after_three_done_without(films, started, monkeypatch):
    expected = prepare.squares(films[0], RECIPE, "a").pixels
    for _ in range(3):
        np.testing.assert_array_equal(started(films[0], RECIPE, "a").pixels, expected)
        os.kill(started._process.pid, signal.SIGKILL)
    np.testing.assert_array_equal(started(films[0], RECIPE, "a").pixels, expected)
    assert started._process is None
    monkeypatch.setattr(sys, "executable", None)
    np.testing.assert_array_equal(helper.Helper()(films[0], RECIPE, "a").pixels, expected)


def test_an_image_that_cannot_be_used_is_told_as_in_a_thread(films, started):
    for source in (films[0][:200], b"", b"no picture"):
        with pytest.raises(ImageError) as here:
            prepare.squares(source, RECIPE, "a")
        with pytest.raises(ImageError) as there:
            started(source, RECIPE, "a")
        assert str(there.value) == str(here.value)
    assert started(films[1], RECIPE, "a", 3).pixels.size == 0
    grey = np.full((64, 64), 9, np.uint8)
    np.testing.assert_array_equal(started(grey, RECIPE, "a").pixels, prepare.squares(grey, RECIPE, "a").pixels)


def test_a_process_ends_with_the_one_that_started_it(films, tmp_path):
    (tmp_path / "film").write_bytes(films[0])
    code = "import os, sys; from pathlib import Path; from cxrfeat._images.helper import Helper; "
    code += "from cxrfeat._recipe import Recipe; one = Helper(); "
    code += "one(Path(sys.argv[1]).read_bytes(), Recipe('net', 'random:0', '', 'relu', 'torch', 32), 'a'); "
    code += "print(one._process.pid, flush=True); os._exit(9)"
    said = subprocess.run([sys.executable, "-c", code, tmp_path / "film"], stdout=subprocess.PIPE, check=False)
    assert gone(int(said.stdout))


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX")
def test_ctrl_c_ends_every_process_and_keeps_what_is_done(make_study, tmp_path):
    study = make_study(400, size=32)
    study.save(tmp_path / "study.csv")
    out = tmp_path / "out.h5"
    command = [sys.executable, "-c", STARTS, tmp_path / "study.csv", out]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True)
    until = time.monotonic() + 120
    parts = out.with_name("out.h5.parts")
    while not list(parts.glob("*.npz")) and process.poll() is None and time.monotonic() < until:
        time.sleep(0.005)
    children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    said = process.communicate(timeout=60)[1].decode()
    assert said.count("Traceback") == said.count("KeyboardInterrupt") == 1, said
    assert children.stdout.split() and all(gone(int(pid)) for pid in children.stdout.split())
    assert list(parts.glob("*.npz")) and not out.exists()
