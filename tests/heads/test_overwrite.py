"""A run is replaced whole or not at all, whenever the process that replaces it is killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import cxrfeat as cxr
from cxrfeat._heads import fit_head, load_head
from cxrfeat._heads.features import Features
from cxrfeat._project import aside_of, run_path
from cxrfeat._run import Run, draft_of, publish
from cxrfeat.errors import HeadError, OutputError

FOREVER = """
import sys
from cxrfeat import fit_head, read_study
study, embeddings, out = sys.argv[1:]
study = read_study(study)
print("ready", flush=True)
for number in range(10**6):
    fit_head(study, embeddings, out=out, overwrite=True, settings={"C": [0.1, 1.0][number % 2]})
"""


def whole(out, embeddings):
    """The run opens, every file is that of its hash, and its predictions are its head's."""
    run = Run.open(out)
    head = load_head(run)
    with Features([embeddings]) as features:
        table = run.predictions()
        np.testing.assert_allclose(
            head.probabilities(features.matrix(table.index.to_numpy(dtype=str))), table, rtol=1e-7
        )
    return run


def test_a_killed_overwrite_leaves_a_whole_run(study, embeddings, tmp_path):
    study.save(tmp_path / "small.csv")
    out, rng = tmp_path / "run", random.Random(0)
    fit_head(study, embeddings, out=out)
    for _ in range(2):
        words = [sys.executable, "-c", FOREVER, str(tmp_path / "small.csv"), str(embeddings), str(out)]
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            process.stdout.readline()
            for _ in range(4):  # each stop is a look at another moment, the last one is the end
                time.sleep(rng.uniform(0.05, 0.4))
                process.send_signal(signal.SIGSTOP)
                if (out / "head.json").exists():
                    whole(out, embeddings)
                process.send_signal(signal.SIGCONT)
            process.kill()
        whole(out, embeddings)
    fit_head(study, embeddings, out=out, overwrite=True)
    assert [p.name for p in tmp_path.iterdir() if not p.name.startswith("small")] == ["run"]


@pytest.mark.parametrize("moment", ["before", "between", "after"])
def test_a_death_while_a_run_is_put_in_place(moment, study, embeddings, tmp_path, monkeypatch):
    out = tmp_path / "run"
    old = fit_head(study, embeddings, out=out, settings={"C": 0.1})
    new = fit_head(study, embeddings, out=tmp_path / "new", settings={"C": 1.0})
    draft = new.path.rename(draft_of(out))
    rename, calls = os.rename, []

    def dying(self, target):
        if len(calls) == ("before", "between", "after").index(moment):
            raise KeyboardInterrupt
        calls.append(target)
        rename(self, target)
        return target

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.rename", dying)
        patch.setattr("cxrfeat._run.sync_folder", lambda folder: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            publish(draft, out)
    assert whole(out, embeddings).notes["C"] == (1.0 if moment == "after" else old.notes["C"])


def test_two_processes_do_not_fit_the_same_run(study, embeddings, tmp_path):
    from filelock import FileLock

    with FileLock(f"{draft_of(tmp_path / 'run')}.lock"), pytest.raises(HeadError, match="another process"):
        fit_head(study, embeddings, out=tmp_path / "run")


def test_a_failed_fit_leaves_nothing_and_the_old_run(study, embeddings, tmp_path, monkeypatch):
    before = fit_head(study, embeddings, out=tmp_path / "run")
    monkeypatch.setattr("cxrfeat._heads.fit.versions", lambda names: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fit_head(study, embeddings, out=tmp_path / "run", overwrite=True)
    assert Run.open(tmp_path / "run") == before
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_a_run_that_was_moved_aside_when_the_process_died_is_listed_and_taken_as_the_newest(
    study, embeddings, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    fit_head(study, embeddings, out="runs/older")
    fit_head(study, embeddings, out="runs/newer").path.rename(aside_of(Path("runs/newer")))
    assert run_path() == Path("runs/newer")
    Path("runs/newer").rename(aside_of(Path("runs/newer")))
    assert set(cxr.runs.ls()["run"]) == {"older", "newer"}


def test_a_folder_that_is_no_run_is_never_replaced(study, embeddings, tmp_path):
    mine = tmp_path / "thesis"
    mine.mkdir()
    fit_head(study, embeddings, out=mine)  # an empty folder has nothing to lose
    (mine / "head.json").unlink()
    (mine / "chapter-1.md").write_text("x")
    for overwrite in (False, True):
        with pytest.raises(OutputError, match="is no run"):
            fit_head(study, embeddings, out=mine, overwrite=overwrite)
    assert (mine / "chapter-1.md").read_text() == "x"
