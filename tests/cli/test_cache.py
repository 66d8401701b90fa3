"""Protects: what `cxrfeat cache` prints, its exit codes, and that bad input gets one sentence."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from click.testing import CliRunner
from cxrfeat_cli.main import cli

from cxrfeat._recipe import Recipe
from cxrfeat._store import EmbeddingFile, Writer

RECIPE = Recipe("densenet121", "random:0", "0" * 64, "relu", "torch", 224)


def run(*arguments, code=0):
    result = CliRunner().invoke(cli, ["cache", *map(str, arguments)])
    assert result.exit_code == code, (result.output, result.exception)
    return result


def make(path, ids, seed=0, recipe=RECIPE):
    rng = np.random.default_rng(seed)
    with Writer.open(path, recipe, 4, {"engine": "none"}) as writer:
        hashes = rng.integers(1, 256, (len(ids), 32), dtype=np.uint8)
        writer.append(ids, hashes, rng.standard_normal((1, len(ids), 4), dtype=np.float32))
        writer.fail("dark", "dark.png", "not an image")
        writer.publish(ids)
    return path


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cache").mkdir()
    return tmp_path / "cache"


@pytest.fixture
def file(folder):
    return make(folder / "a.h5", [f"{i}.png" for i in range(300)])


def test_ls_and_info(file):
    (row,) = json.loads(run("ls", "--json").stdout)
    assert (row["file"], row["images"], row["dim"], row["failures"]) == ("a.h5", 300, 4, 1)
    assert "a.h5" in run("ls").stdout
    file.with_name("b.h5").write_bytes(b"no")
    assert "no HDF5 at all" in run("ls").stdout.replace("\n", " ")
    found = json.loads(run("info", file, "--json").stdout)
    assert found["recipe"]["backbone"] == "densenet121"
    assert found["failures"] == [{"image_id": "dark", "path": "dark.png", "reason": "not an image"}]
    assert "random:0" in run("info", file).stdout


def test_verify_and_repair(file):
    assert json.loads(run("verify", file, "--json").stdout)["ok"] is True
    assert "300 of 300 rows are sound" in run("verify").stdout  # the newest
    with EmbeddingFile.open(file) as opened:
        needle = opened.read(["3.png"]).tobytes()
    data = bytearray(file.read_bytes())
    data[data.find(needle)] ^= 1
    file.write_bytes(data)
    damaged = run("verify", file, code=1)
    assert "44 of 300 rows are sound" in damaged.stdout
    assert "rows 0 to 255" in damaged.stdout
    repaired = json.loads(run("repair", file, "--json").stdout)
    assert (repaired["kept"], repaired["lost"], repaired["lost_ids"][:2]) == (44, 256, ["0.png", "1.png"])
    assert "nothing to repair" in run("repair", file).stdout
    run("verify", file)


def test_verify_with_images(folder, make_study):
    study = make_study(6)
    images = study.root
    with Writer.open(folder / "tiny.h5", RECIPE, 4, {}) as writer:
        import hashlib

        hashes = [np.frombuffer(hashlib.sha256(p.read_bytes()).digest(), np.uint8) for p in study.paths()]
        writer.append(study.ids, np.stack(hashes), np.ones((1, 6, 4), np.float32))
        writer.publish(study.ids)
    run("verify", folder / "tiny.h5", "--images", images)
    (images / "img001.png").write_bytes((images / "img002.png").read_bytes())
    (images / "img004.png").unlink()
    result = run("verify", folder / "tiny.h5", "--images", images, "--json", code=1)
    findings = {tuple(f["image_ids"]): f["text"] for f in json.loads(result.stdout)["findings"]}
    assert "changed" in findings[("img001",)]
    assert "missing" in findings[("img004",)]


def test_merge(folder, file):
    other = make(folder / "b.h5", ["x.png", "5.png"], seed=1)
    clash = run("merge", file, other, "-o", folder / "c.h5", code=2)
    assert "1 images have different hashes in several files: 5.png" in clash.stderr
    assert not (folder / "c.h5").exists()
    found = json.loads(run("merge", file, other, "-o", folder / "c.h5", "--prefer", "last", "--json").stdout)
    assert (found["rows"], found["from_each"], found["clashes"]) == (301, [299, 2], ["5.png"])
    assert "exists already" in run("merge", file, other, "-o", folder / "c.h5", code=2).stderr


def test_export_and_import(folder, file):
    run("export", file, "--to", "npz")
    run("import", folder / "a.npz", "-o", folder / "back.h5")
    with EmbeddingFile.open(file) as ours, EmbeddingFile.open(folder / "back.h5") as back:
        assert (ours.read() == back.read(ours.image_ids)).all()
        assert ours.recipe == back.recipe
    run("export", file, "-o", folder / "a.csv")
    with (folder / "a.csv").open() as text:
        assert len(list(csv.reader(text))) == 301
    np.save(folder / "theirs.npy", np.ones((2, 8)))
    (folder / "ids.txt").write_text("one\ntwo\n")
    arguments = ("import", folder / "theirs.npy", "--ids", folder / "ids.txt", "-o", folder / "t.h5")
    assert "give the --backbone, --weights" in run(*arguments, code=2).stderr
    run(*arguments, "--backbone", "theirs")
    assert json.loads(run("info", folder / "t.h5", "--json").stdout)["images"] == 2


def test_an_import_that_was_killed_is_done_again(folder, monkeypatch):
    np.save(folder / "theirs.npy", np.ones((2, 8)))
    (folder / "ids.txt").write_text("one\ntwo\n")
    arguments = ("import", folder / "theirs.npy", "--ids", folder / "ids.txt", "-o", folder / "t.h5", "--backbone", "b")
    with monkeypatch.context() as patched:
        patched.setattr(Writer, "publish", lambda *_: (_ for _ in ()).throw(OSError(5, "Input/output error")))
        run(*arguments, code=2)
    assert list((folder / "t.h5.parts").glob("*.npz")), "its rows are in the journal"
    run(*arguments)
    assert json.loads(run("info", folder / "t.h5", "--json").stdout)["images"] == 2


def test_prune_lists_then_moves_aside_then_deletes(folder, file, make_study):
    study = make_study(4)
    study.save(folder.parent / "studies" / "tiny.csv")
    make(folder / "needed.h5", list(study.ids))
    found = json.loads(run("prune", "--json").stdout)
    assert [row["path"] for row in found["unneeded"]] == ["cache/a.h5"]
    assert file.exists()
    assert "--yes moves" in run("prune").stderr
    listed = run("prune").stdout
    assert "random:0" in listed  # the recipe
    content = file.read_bytes()
    run("prune", "--yes")
    assert sorted(p.name for p in folder.iterdir()) == [".pruned", "needed.h5"]
    assert (folder / ".pruned" / "a.h5").read_bytes() == content
    assert "nothing in cache is unneeded" in run("prune").stdout
    run("prune", "--delete")
    assert sorted(p.name for p in folder.iterdir()) == ["needed.h5"]


@pytest.mark.parametrize(
    "command", ["ls", "info", "verify", "repair", "merge", "collect", "compare", "export", "import", "prune"]
)
def test_every_command_has_an_example(command):
    assert "Example:" in run(command, "--help").stdout


def test_bad_input_gets_a_sentence(folder):
    assert "No embedding file found at none.h5" in run("verify", "none.h5", code=2).stderr
    assert "No embedding file found at" in run("info", code=2).stderr
    (folder / "x.h5").write_text("hello")
    assert "no HDF5 at all" in run("info", folder / "x.h5", code=2).stderr
    assert "cannot" not in run("verify", folder / "x.h5", code=1).stderr


def test_merge_makes_the_folder(folder, file):
    other = make(folder / "b.h5", ["x.png"], seed=1)
    run("merge", file, other, "-o", folder / "new" / "deep" / "c.h5")
    assert json.loads(run("info", folder / "new" / "deep" / "c.h5", "--json").stdout)["images"] == 301


def test_a_collection_is_made_and_compared(folder, file):
    other = make(folder / "b.h5", ["x.png"], seed=1)
    assert "301 rows in 2 files, 2 added" in run("collect", file, other, "-o", folder / "both").stdout
    assert json.loads(run("verify", folder / "both", "--json").stdout)["ok"]
    assert "difference over sd, median feature" in run("compare", file, folder / "both").stdout
    found = json.loads(run("compare", file, folder / "both", "--json").stdout)
    assert (found["images"], found["left_out"], found["distances"]["neighbours"]) == (300, 1, 1.0)


def test_an_export_onto_the_embedding_file_is_refused(folder, file):
    before = file.read_bytes()
    assert "is an input" in run("export", file, "--to", "csv", "-o", file, code=2).stderr
    (folder / "study.csv").write_text("image_id,path\n")
    assert "--overwrite" in run("export", file, "-o", folder / "study.csv", code=2).stderr
    run("export", file, "-o", folder / "study.csv", "--overwrite")
    assert file.read_bytes() == before


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_table_breaks_no_path_and_loses_no_word(folder, file, monkeypatch, width):
    """On a narrow terminal columns are left out; what is shown is whole."""
    monkeypatch.setattr("cxrfeat_cli.output._width", lambda: width)
    name = "chestxray14-frontal-densenet121-9f8e7d6c.h5"
    file.rename(folder / name)
    (folder / "bad.h5").write_text("hello")
    for command in ("ls", "prune"):
        shown = run(command)
        assert name in shown.stdout
        assert all(len(line) <= width for line in shown.stdout.splitlines() if "bad.h5" not in line)
        if "recipe" in shown.stdout:
            for word in RECIPE.describe().split():
                assert word in shown.stdout
    assert "no HDF5 at all" in run("ls").stdout
