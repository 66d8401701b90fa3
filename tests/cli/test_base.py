"""However a command ends, it is a sentence and an exit code: a bug, a disk, Ctrl-C, a closed or full stdout."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from cxrfeat_cli.base import Command, Program, UserError

from cxrfeat.errors import StudyError

POSIX = pytest.mark.skipif(os.name == "nt", reason="POSIX")


def ended_by(error: BaseException, **attributes):
    """Result of a program whose command raises."""

    @click.group(cls=Program)
    def program():
        pass

    @program.command(cls=Command, **attributes)
    @click.option("--max-failures")
    def work(max_failures):
        raise error

    return CliRunner().invoke(program, ["work"])


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (StudyError("no rows; `max_failures=3` allows it."), 2, r"error: no rows; --max-failures 3 allows it\."),
        (UserError("bad"), 2, "error: bad"),
        (OSError(errno.ENOSPC, "No space left on device", "/data/e.h5"), 2, r"No space left on device \(/data/e\.h5\)"),
        (OSError(errno.EROFS, "Read-only file system"), 2, "Read-only file system"),
        (OSError(errno.EIO, "Input/output error"), 2, "Input/output error"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), 2, "Disk quota exceeded"),
        (shutil.Error([("a", "/data/a", "[Errno 27] File too large")]), 2, r"File too large \(/data/a\)"),
        (MemoryError(), 2, "not enough memory"),
        (KeyboardInterrupt(), 130, r"stopped\."),
        (click.UsageError("wrong"), 2, "wrong"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_it_is_a_sentence_and_an_exit_code(error, code, sentence):
    done = ended_by(error)
    assert done.exit_code == code
    assert re.search(sentence, done.stderr)
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_ctrl_c_says_what_is_left():
    done = ended_by(KeyboardInterrupt(), interrupted="The same command resumes.")
    assert (done.exit_code, done.stderr.strip()) == (130, "stopped. The same command resumes.")


@pytest.fixture(autouse=True)
def ctrl_c_as_before():
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


def test_the_traceback_of_a_bug_is_in_the_file_that_the_sentence_names(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    done = ended_by(ZeroDivisionError("by nought"))
    assert done.exit_code == 2
    assert "unexpected ZeroDivisionError" in done.stderr and "Traceback" not in done.stderr
    (file,) = tmp_path.iterdir()
    assert str(file) in done.stderr
    assert "ZeroDivisionError: by nought" in file.read_text()


def start(*words, **options):
    """A real process of the command."""
    return subprocess.Popen(
        [sys.executable, "-c", "from cxrfeat_cli import main; main()", *words],
        stderr=subprocess.PIPE, stdout=options.pop("stdout", subprocess.PIPE), **options,
    )  # fmt: skip


@POSIX
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("words", [["study", "describe", "sample"], ["study", "describe", "sample", "--json"]])
def test_a_full_stdout_is_a_sentence_and_exit_2(words):
    with open("/dev/full", "w") as full:  # noqa: PTH123
        process = start(*words, stdout=full)
        said = process.communicate()[1].decode()
    assert process.returncode == 2, said
    assert "No space left on device" in said
    assert "Traceback" not in said and "Exception ignored" not in said


@POSIX
def test_a_closed_stdout_is_no_traceback():
    code = "import os; os.close(1); from cxrfeat_cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "study", "describe", "sample"], stderr=subprocess.PIPE, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


STOP_AT = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job has inherited that it is ignored
class Stop:
    def find_spec(self, name, path=None, target=None):
        if name == "{module}":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Stop())
from cxrfeat_cli import main
main()
"""


@POSIX
@pytest.mark.parametrize("module", ["click", "cxrfeat_cli.extract", "numpy", "openvino"])
def test_ctrl_c_during_any_import_is_130_and_a_sentence(module, tmp_path):
    words = ["extract", "sample", "--weights", "random:0", "--size", "32"]
    command = [sys.executable, "-c", STOP_AT.format(module=module), *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 130, done.stderr
    assert "stopped." in done.stderr and "Traceback" not in done.stderr


@POSIX
def test_without_a_home_that_can_be_written_what_is_kept_goes_elsewhere(tmp_path):
    code = "from cxrfeat import _machine; print(_machine.cache_folder())"
    env = {k: v for k, v in os.environ.items() if k not in ("CXRFEAT_CACHE", "XDG_CACHE_HOME")}
    env |= {"HOME": "/dev/null", "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    folder = Path(done.stdout.strip())
    assert folder.parent == tmp_path and folder.stat().st_mode & 0o777 == 0o700
    assert "CXRFEAT_CACHE" in done.stderr
