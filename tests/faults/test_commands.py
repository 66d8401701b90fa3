"""Protects: no command loses what was there, whatever ends it; and nothing damaged or wrong passes in silence.

Every command is killed before each change that it makes to a file, meets a failing disk at each, reads damaged files of
every kind, and gets wrong values in every option.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import click
import cv2
import numpy as np
import pandas as pd
import pytest
from cxrfeat_cli.main import COMMANDS as WORDS
from cxrfeat_cli.main import cli
from pydicom.data import get_testdata_file

import cxrfeat as cxr
from cxrfeat.errors import CxrfeatError

pytestmark = [pytest.mark.soak, pytest.mark.skipif(os.name == "nt", reason="forks")]

NETWORK = "--weights random:0 --size 32"
COMMANDS = {
    "study build": "study build table.csv -o films.csv --seed 1 --resplit --overwrite",
    "extract (new)": f"extract films.csv {NETWORK} -o new.h5",
    "extract (grown)": f"extract longer.csv {NETWORK} -o films.h5",
    "cache merge": "cache merge films.h5 more.h5 -o merged.h5",
    "cache repair": "cache repair damaged.h5",
    "cache export": "cache export films.h5 -o films.npz",
    "cache import": "cache import given.npz --ids given.txt --backbone densenet121 -o imported.h5",
    "cache prune": "cache prune . --yes",
    "fit-head (new)": "fit-head films.csv --embeddings films.h5 --out new-run",
    "fit-head --overwrite": "fit-head films.csv --embeddings films.h5 --out run --set C=0.01 --overwrite",
    "predict (study)": "predict --run run --study longer.csv --embeddings more.h5 --out longer-predictions.csv",
    "predict (images)": "predict --run run films/img000.png films/img001.png --out two.csv",
    "evaluate": "evaluate --run run --bootstrap 20",
    "roc": "roc --run run --bootstrap 20",
    "compare": "compare run other --bootstrap 20 --out forest.png",
    "gradcam": "gradcam --run run films/img008.png films/img009.png",
    "localize": "localize --run run --boxes boxes.csv",
    "report": "report run --bootstrap 20 --images 2 -o page.html",
    "sample": "sample xrays",
}
READERS = {  # a kind of file, and a command that reads it
    "embedding file": ("films.h5", "predict --run run --study films.csv --embeddings films.h5 --out p.csv"),
    "image manifest": ("films.h5.seen", f"extract films.csv {NETWORK} -o films.h5 --json"),
    "study provenance": ("films.provenance.json", "study describe films.csv --json"),
    "head.json": ("run/head.json", "predict --run run films/img000.png --json"),
    "head.npz": ("run/head.npz", "predict --run run films/img000.png --json"),
    "study.csv of a run": ("run/study.csv", "evaluate --run run --bootstrap 0 --no-figures --json"),
    "predictions of a run": ("run/predictions.csv", "evaluate --run run --bootstrap 0 --no-figures --json"),
    "metrics of a run": ("run/metrics.json", "runs ls . --json"),
    "maps": ("run/figures/gradcam/img008.npz", "gradcam --run run films/img008.png --json"),
    "kept network": ("networks/**/*", "predict --run run films/img000.png --json"),
    "PNG": ("films/img000.png", "predict --run run films/img000.png films/img001.png --json"),
    "JPEG": ("films/img000.jpg", "predict --run run films/img000.jpg films/img001.png --json"),
    "DICOM": ("films/img000.dcm", "predict --run run films/img000.dcm films/img001.png --json"),
}
IMAGES = ("PNG", "JPEG", "DICOM")  # nothing vouches for an image's pixels: other numbers are no fault there


class Server:
    """The process that forks commands; see `server.py`."""

    def __init__(self, cache: Path) -> None:
        self.cache = cache
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("server.py"))], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True, env=os.environ | {"CXRFEAT_CACHE": str(cache), "CUDA_VISIBLE_DEVICES": ""},
        )  # fmt: skip
        assert self.process.stdout.readline() == "ready\n"

    def __call__(self, words: str | list[str], folder: Path, cache: Path | None = None, **fault) -> dict:
        argv = shlex.split(words) if isinstance(words, str) else words
        self.process.stdin.write(
            json.dumps({"argv": argv, "folder": str(folder), "fault": fault, "cache": str(cache or self.cache)}) + "\n"
        )
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


def ends_well(done: dict) -> str:
    """Nothing if a command ended by itself, or in a sentence; else what is wrong."""
    said = done["stderr"] + done["stdout"]
    verified = done["code"] == 1 and "rows are sound" in done["stdout"]  # `cache verify` of a damaged file
    if "Traceback" in said or "This is a bug" in said or not (verified or done["code"] in (0, 2)):
        return f"exit {done['code']}: {said[-300:]}"
    return (
        ""
        if verified or done["code"] == 0 or re.search("error: |Error: |warning: ", done["stderr"])
        else "exit 2 without a sentence"
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("cache"))
    yield server
    server.process.stdin.close()
    server.process.wait()


@pytest.fixture(scope="module")
def project(server, tmp_path_factory) -> Path:
    """A folder with one of everything that commands read and write."""
    folder = tmp_path_factory.mktemp("soak") / "project"
    rng = np.random.default_rng(0)
    ids = [f"img{i:03d}" for i in range(36)]
    for i, name in enumerate(ids):
        coarse = np.random.default_rng(i).integers(0, 256, (8, 8), dtype=np.uint8)
        (folder / "films").mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / "films" / f"{name}.png"), cv2.resize(coarse, (96, 96), interpolation=cv2.INTER_CUBIC))
    table = pd.DataFrame({"image_id": [f"{name}.png" for name in ids], "path": [f"films/{name}.png" for name in ids],
                          "patient_id": [f"p{i // 2}" for i in range(36)],
                          "split": [("train", "train", "train", "val", "test")[i // 2 % 5] for i in range(36)],
                          "Effusion": rng.integers(0, 2, 36), "Mass": rng.integers(0, 2, 36)})  # fmt: skip
    for name, rows in (("table", 36), ("films", 30), ("longer", 36)):
        table[:rows].to_csv(folder / f"{name}.csv", index=False)
    boxes = pd.DataFrame({"image_id": table["image_id"], "label": "Mass", "x": 9, "y": 9, "width": 40, "height": 40,
                          "frame_width": 96, "frame_height": 96})  # fmt: skip
    boxes.to_csv(folder / "boxes.csv", index=False)
    image = cv2.imread(str(folder / "films" / "img000.png"), cv2.IMREAD_GRAYSCALE)
    cv2.imwrite(str(folder / "films" / "img000.jpg"), image)
    shutil.copy(get_testdata_file("CT_small.dcm"), folder / "films" / "img000.dcm")
    np.savez(folder / "given.npz", embeddings=rng.normal(size=(9, 1024)).astype(np.float32))
    (folder / "given.txt").write_text("\n".join(f"given{i}" for i in range(9)))
    for words in (
        "study build table.csv -o films.csv --overwrite --resplit",
        f"extract films.csv {NETWORK} -o films.h5",
        f"extract longer.csv {NETWORK} -o more.h5",
        "fit-head films.csv --embeddings films.h5 --out run",
        "fit-head films.csv --embeddings films.h5 --out other --set C=10",
        "gradcam --run run films/img008.png",
        "evaluate --run run --bootstrap 20",
    ):
        done = server(words, folder)
        assert done["code"] == 0, done
    data = bytearray((folder / "more.h5").read_bytes())
    data[8:100] = bytes(92)  # HDF5's own beginning: the rows are found by the recovery index
    (folder / "damaged.h5").write_bytes(data)
    return folder


@pytest.fixture
def fresh(project, tmp_path):
    """A new copy of the project each time it is called, always at the same place."""

    def copy() -> Path:
        shutil.rmtree(tmp_path / "project", ignore_errors=True)
        return shutil.copytree(project, tmp_path / "project")

    return copy


def state(folder: Path) -> dict[str, str]:
    """What a user has, by name: every finished file, and every run as a whole; a run that is not whole is `damaged`."""
    found = {}
    cxr.runs.ls(folder)  # as any reader, it moves an old run back where a process died between two renames
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_dir() or re.search(r"(^|/)\.|\.parts/|\.lock|\.seen$|\.csv\.gz$", name):
            continue
        run = path.parent if (path.parent / "head.json").exists() else None
        files = json.loads((run / "head.json").read_text())["files"] if run else {}
        if run and path.name in files:
            name = f"{run.name}/"
            if name not in found:
                whole = set(cxr.runs.verify(run)["state"]) <= {"ok", "no hash"}
                found[name] = files["predictions.csv"] if whole else "damaged"
        elif path.suffix == ".h5":
            found[name] = content(path)
        elif path.name != "head.json":
            found[name] = hashlib.sha256(re.sub(rb"20\d\d-\d\d-\d\d[T ]?[\d:.+Z]*", b"", path.read_bytes())).hexdigest()
    return found


def content(path: Path) -> str:
    try:
        with cxr.EmbeddingFile.open(path) as file:
            return f"{file.content_sha256} {cxr.cache.verify(path).ok}"
    except CxrfeatError:
        return f"unreadable {hashlib.sha256(path.read_bytes()).hexdigest()}"


def both(server, fresh, words: str) -> tuple[dict[str, str], dict[str, str], int]:
    """What there is before and after an undisturbed command, and how many changes it makes to files."""
    folder = fresh()
    before = state(folder)
    done = server(words, folder)
    assert done["code"] == 0, done
    after = state(folder)
    done = server(words, fresh())
    unsteady = {name for name, value in state(folder).items() if after.get(name) != value}
    return before, {name: value for name, value in after.items() if name not in unsteady}, done["calls"]


def instants(calls: int) -> list[int]:
    """Before which changes of a file something happens: all, or as many as `CXRFEAT_FAULTS` says, evenly spaced."""
    most = min(calls, int(os.environ.get("CXRFEAT_FAULTS", "1000")))
    return sorted({1 + round(k * (calls - 1) / max(most - 1, 1)) for k in range(most)})


def lost(before: dict[str, str], after: dict[str, str], now: dict[str, str]) -> list[str]:
    """Names whose content is neither the old nor the new one."""
    return [name for name in sorted({*before, *after}) if now.get(name) not in (before.get(name), after.get(name))]


def test_every_command_that_writes_is_in_this_list():
    """The others only read (`doctor`, `runs`), or make what other commands here make."""
    others = {"runs", "doctor", "demo", "reproduce", "weights"}
    assert {words.split()[0] for words in COMMANDS.values()} | others == set(WORDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_killed_before_each_change_of_a_file(name, server, fresh, told):
    before, after, calls = both(server, fresh, COMMANDS[name])
    for at in instants(calls):
        folder = fresh()
        done = server(COMMANDS[name], folder, at=at, kill=True)
        assert done["code"] == -9, (at, done)
        assert lost(before, after, state(folder)) == [], at
        done = server(COMMANDS[name], folder)
        assert ends_well(done) == "", at
        again = state(folder)
        assert [n for n in after if again.get(n) != after[n]] == [], (at, done)
    kills = len(instants(calls))
    told(f"{name}: {kills} kills, before {calls} changes of a file; lost or mixed 0; each finished by the next call")


@pytest.mark.parametrize("name", COMMANDS)
def test_the_disk_fails_at_each_change_of_a_file(name, server, fresh, told):
    before, after, calls = both(server, fresh, COMMANDS[name])
    count = 0
    faults = [{"errno": code, "sticky": code == errno.ENOSPC, "at": at}
              for code in (errno.ENOSPC, errno.EIO, errno.EACCES) for at in instants(calls)]  # fmt: skip
    for fault in [*faults, *({"bytes": size} for size in (2000, 20_000))]:
        folder = fresh()
        done = server(COMMANDS[name], folder, **fault)
        assert ends_well(done) == "", (fault, done)
        now = state(folder)
        assert lost(before, after, now) == [], (fault, done)
        assert done["code"] or [n for n in after if now.get(n) != after[n]] == [], (fault, done)
        count += 1
    at = f"at {len(instants(calls))} of {calls} changes of a file"
    told(f"{name}: {count} disk faults (ENOSPC, EIO, EACCES {at}; small files): 0 lost, silent, tracebacks")


def damages(data: bytes, n: int) -> Iterator[tuple[str, bytes]]:
    """Ways a file is damaged: a bit, zeros, noise, cut, longer, empty, another file in its place."""
    rng = np.random.default_rng(0)
    yield from (("empty", b""), ("text", b"not this file\n"), ("longer", data + b"\0" * 100), ("deep", b"[" * 100_000))
    for i in range(n):
        at = int(rng.integers(len(data)))
        broken = bytearray(data)
        kind = ("bit", "zeros", "noise", "cut")[i % 4]
        if kind == "bit":
            broken[at] ^= 1 << int(rng.integers(8))
        elif kind == "cut":
            del broken[at:]
        else:
            end = min(len(data), at + (64 if kind == "zeros" else 4096))
            broken[at:end] = bytes(end - at) if kind == "zeros" else rng.bytes(end - at)
        yield kind, bytes(broken)


@pytest.mark.parametrize("kind", READERS)
def test_damage_is_found_or_harmless(kind, server, fresh, told):
    pattern, words = READERS[kind]
    network = kind == "kept network"  # made again with TensorFlow, so that fewer are damaged

    def copy() -> Path:
        folder = fresh()
        if network:
            shutil.copytree(server.cache, folder / "networks")
        return folder

    def lines(done: dict) -> list[str]:
        return done["stderr"].splitlines()

    def shown(done: dict) -> str:
        return re.sub(r'"resumed": \w+', "", done["stdout"])  # what is damaged is made again

    folder = copy()
    cache = folder / "networks" if network else server.cache
    reference = server(words, folder, cache)
    assert reference["code"] == 0, reference
    ends, folder = Counter(), copy()
    files = [p.relative_to(folder) for p in sorted(folder.glob(pattern)) if p.is_file() and p.suffix != ".lock"]
    assert files
    for path in files:
        original = (copy() / path).read_bytes()
        for how, data in damages(original, 4 if network else int(os.environ.get("CXRFEAT_DAMAGES", "60"))):
            folder = copy()
            (folder / path).write_bytes(data)
            done = server(words, folder, cache)
            assert ends_well(done) == "", (path, how, done)
            warned = any(line.startswith("warning: ") for line in set(lines(done)) - set(lines(reference)))
            same = done["code"] == 0 and shown(done) == shown(reference)
            assert done["code"] == 2 or same or warned or data == original or kind in IMAGES, (path, how, done)
            end = "refused in a sentence" if done["code"] else "told in a warning" if warned else "another picture"
            ends["the same result" if same else end] += 1
    told(f"{kind}: {sum(ends.values())} damaged copies: " + ", ".join(f"{n} {end}" for end, n in sorted(ends.items())))


HOSTILE = ("", "nan", "inf", "-1", "0", "1e999", "²", "a" * 5000, "../../etc/passwd", "/dev/null", "C=inf", "=1",
           "a,b", "\udcff", "99999999999999999999")  # fmt: skip


def options(command: click.Command, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Parameter]]:
    """Every parameter of every command, with the words that reach it."""
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from options(command.get_command(context, name), (*words, name))
    else:
        yield from ((words, parameter) for parameter in command.params if parameter.name != "help")


def test_wrong_values_in_every_option_end_in_a_sentence(server, fresh, told):
    usual = {words.split(" -")[0]: words for words in COMMANDS.values()}
    count, wrong = Counter(), []
    folder = fresh()
    before = hashes(folder)
    for words, parameter in options(cli):
        if words[0] in ("demo", "reproduce") or getattr(parameter, "is_flag", False):
            continue
        base = next((w for k, w in usual.items() if k.startswith(" ".join(words))), " ".join(words))
        for value in HOSTILE:
            given = [f"{parameter.opts[-1]}={value}"] if isinstance(parameter, click.Option) else ["--", value]
            done = server([*shlex.split(base), *given], folder)
            count[done["code"]] += 1
            after = hashes(folder)
            harm = [name for name in before if after.get(name) != before[name]] if done["code"] else []
            if problem := ends_well(done) or harm:
                wrong.append((*words, *given, problem))
                print(wrong[-1], flush=True)
            if after != before:
                folder = fresh()
    assert wrong == []
    told(f"{sum(count.values())} wrong calls: {count[2]} refused in a sentence, {count[0]} accepted; traceback, loss 0")


def hashes(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != ".seen")
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
