"""Runs commands in forked processes: a thousand of them cost no import, and each may be killed or meet a failing disk.

Reads one job a line on stdin: `argv`, `folder` (the working directory), and `fault`: {"at": k, "kill": true} ends the
process before the k-th change of a file under `root`, {"at": k, "errno": n, "sticky": bool} fails it, {"bytes": n}
limits the size of every file. Answers one line: `code` (negative: killed by that signal), `stdout`, `stderr`, `calls`.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import signal
import sys
import tempfile
from pathlib import Path

MODULES = ("cli.main", "_demo", "_pages", "_predict", "_explain", "_extract.extraction", "_heads.fit", "cache", "runs",
           "_evaluate.evaluation", "_datasets.reading", "_reproduce.experiment", "_report.panels")  # fmt: skip
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate")
DEADLINE = 120


def arm(fault: dict, root: str, counter: Path) -> None:
    """Count each change of a file under `root`, and do what the fault says at its turn."""
    seen = 0

    def hook(event: str, args: tuple) -> None:
        nonlocal seen
        if event == "open":
            path, mode, flags = args
            changes = bool(flags & WRITES) if mode is None else any(letter in mode for letter in "wax+")
        else:
            path, changes = (args[0] if args else None), event in CHANGES
        if not changes or not isinstance(path, str | bytes | os.PathLike):
            return
        if not os.path.abspath(os.fsdecode(path)).startswith(root):  # noqa: PTH100
            return
        seen += 1
        os.pwrite(count, b"%8d" % seen, 0)
        if fault.get("kill") and seen == fault["at"]:
            os.kill(os.getpid(), signal.SIGKILL)
        if "errno" in fault and (seen == fault["at"] or (fault["sticky"] and seen > fault["at"])):
            raise OSError(fault["errno"], os.strerror(fault["errno"]), path)

    count = os.open(counter, os.O_RDWR | os.O_CREAT)
    sys.addaudithook(hook)


def child(job: dict, folder: Path) -> None:
    from cxrfeat_cli.main import main

    os.chdir(job["folder"])
    os.environ["CXRFEAT_CACHE"] = job["cache"]
    os.setsid()
    signal.alarm(DEADLINE)
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, resource.RLIM_INFINITY))
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT), number)
    sys.stdin = open(os.devnull)  # noqa: PTH123, SIM115
    sys.argv = ["cxrfeat", *job["argv"]]
    fault = job.get("fault") or {}
    if "bytes" in fault:
        resource.setrlimit(resource.RLIMIT_FSIZE, (fault["bytes"], resource.RLIM_INFINITY))
    arm(fault, job["folder"], folder / "calls")
    code = 0
    try:
        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 99
    try:
        sys.stdout.flush(), sys.stderr.flush()
    finally:
        os._exit(code)


def run(job: dict) -> dict:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        process = os.fork()
        if not process:
            child(job, folder)
        status = os.waitpid(process, 0)[1]
        said = {
            n: (folder / n).read_text(errors="replace") if (folder / n).exists() else "" for n in ("stdout", "stderr")
        }
        calls = (folder / "calls").read_bytes() if (folder / "calls").exists() else b""
        return {"code": os.waitstatus_to_exitcode(status), **said, "calls": int(calls or 0)}


if __name__ == "__main__":
    for module in MODULES:
        importlib.import_module(f"cxrfeat_cli.{module[4:]}" if module.startswith("cli.") else f"cxrfeat.{module}")
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), flush=True)
