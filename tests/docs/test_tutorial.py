"""The tutorial is true: its commands are run in its order, in an empty folder, and print what the page says they do.

Every ```bash block is run by a shell, as a newcomer pastes it. Of the ```text blocks, each line must be in what the
commands above it printed (or, for a block within a note, any of them); after `<!-- numbers vary -->` decimals may
differ, since they hang on the last bit of a processor. Weights are random, as on a machine without a network. What the
network computes stands here for what DenseNet121 would: see `commands.py`.
"""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cxrfeat import make_recipe

PAGE = Path(__file__).parents[2] / "docs" / "tutorial.md"
BLOCK = re.compile(r"(<!-- numbers vary -->\n)?^( *)```(bash|text)\n(.*?)^ *```$", re.M | re.S)
COMMANDS = Path(__file__).with_name("commands.py")


def blocks() -> list[tuple[str, str, bool]]:
    """Every block: its language, its text, and whether its decimals vary."""
    return [(kind, text, bool(vary)) for vary, _, kind, text in BLOCK.findall(PAGE.read_text())]


def folded(text: str, vary: bool = False) -> str:
    """White space and rules of tables made one blank, since terminals differ in width; decimals made #."""
    text = re.sub(r"[\s─]+", " ", text)
    return re.sub(r"-?\d+\.\d+", "#", text) if vary else text


@pytest.fixture(scope="module")
def followed(tmp_path_factory, offline):
    """The folder in which the tutorial was followed, and for each ```bash block its text and what it printed."""
    make_recipe("densenet121", weights="random:0")  # keeps the hash of the weights, which name the files
    folder, tools = tmp_path_factory.mktemp("tutorial"), tmp_path_factory.mktemp("bin")
    env = os.environ | offline | {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}
    printed = []
    with cxrfeat_in(tools, env):
        for kind, text, _ in blocks():
            if kind == "bash":
                done = subprocess.run(
                    [shutil.which("bash") or "sh", "-e", "-c", text],
                    cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
                )  # fmt: skip
                assert done.returncode == 0, f"{text}\n{done.stdout}"
                printed.append((text, done.stdout))
    return folder, printed


@contextmanager
def cxrfeat_in(tools: Path, env: dict[str, str]) -> Iterator[None]:
    """Put a command `cxrfeat` into a folder, whose calls are processes forked from one with all imports."""
    with tempfile.TemporaryDirectory() as name:  # not under `tools`: a socket's path is at most 107 bytes
        place, client = Path(name) / "socket", tools / "cxrfeat"
        server = subprocess.Popen([sys.executable, COMMANDS, place], env=env)
        try:
            while not place.exists() and server.poll() is None:
                time.sleep(0.05)
            client.write_text(runpy.run_path(str(COMMANDS))["CLIENT"].format(python=sys.executable, place=str(place)))
            client.chmod(0o755)
            yield
        finally:
            server.kill()
            server.wait()


def test_every_command_prints_what_the_page_says(followed):
    _, printed = followed
    shown, everything = -1, "".join(output for _, output in printed)
    for kind, text, vary in blocks():
        if kind == "bash":
            shown += 1
            continue
        output = everything if text.startswith("    ") else printed[shown][1]
        for line in filter(None, (folded(line, vary).strip() for line in text.splitlines())):
            assert line in folded(output, vary), f"after {printed[shown][0]}the page shows {line!r}, and not\n{output}"


def test_the_commands_make_all_that_the_page_promises(followed):
    folder, printed = followed
    commands = "".join(text for text, _ in printed)
    words = (
        "study build",
        "extract",
        "fit-head --weighted",
        "evaluate",
        "roc",
        "compare",
        "gradcam",
        "predict",
        "report",
    )
    assert [word for word in words if f"cxrfeat {word}" not in commands] == []
    run = folder / "runs" / "xrays-densenet121-logistic-weighted"
    assert (folder / "report.html").stat().st_size > 100_000
    assert len(list((run / "figures" / "gradcam").glob("*.png"))) == 2
    for path in (folder / "frequencies.png", run / "figures" / "roc.png", run / "metrics.csv", run / "README.md"):
        assert path.stat().st_size > 500, path


def test_the_study_of_the_tutorial_keeps_patients_apart(followed):
    import pandas as pd

    table = pd.read_csv(followed[0] / "studies" / "xrays.csv", dtype=str)
    assert len(table[["patient_id", "split"]].drop_duplicates()) == table["patient_id"].nunique()


def test_nothing_leaves_the_machine_but_the_request_for_weights(followed, offline):
    """Every command of the tutorial; libraries that report their use are kept from it."""
    calls = Path(offline["CALLS"]).read_text().splitlines()
    assert any(call.startswith("['extract']") for call in calls), "the recorder records"
    assert [call for call in calls if not (call.startswith("['extract']") and "127.0.0.1" in call)] == []
    written = {path.relative_to(offline["HOME"]).as_posix() for path in Path(offline["HOME"]).rglob("*")}
    assert {name for name in written if not name.startswith(".c")} == set(), "nothing but .cache and .config in $HOME"
