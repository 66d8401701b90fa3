"""`cxrfeat weights`: what is known and here, published checkpoints from a mirror, ONNX networks, packs, removal."""

import json
import shutil

import onnx
import pytest
from click.testing import CliRunner
from cxrfeat_cli.main import cli

import cxrfeat as cxr
from cxrfeat._backbones import download, library, registry
from cxrfeat._backbones.checkpoints import architectures, convert
from cxrfeat._backbones.checkpoints.layouts import LAYOUTS
from cxrfeat._backbones.weights import pinned

RELEASE = LAYOUTS["xrv-nih"].url.rpartition("/")[2]


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    for name, folder in {"CXRFEAT_WEIGHTS": "weights", "KERAS_HOME": "keras", "CXRFEAT_CACHE": "cache"}.items():
        monkeypatch.setenv(name, str(tmp_path / folder))
    monkeypatch.chdir(tmp_path)
    small = convert.Architecture(lambda channels: architectures.densenet121(channels, (1,)), 1.001e-5)
    monkeypatch.setitem(convert.ARCHITECTURES, "densenet121", small)


@pytest.fixture
def mirror(tmp_path, checkpoints, monkeypatch):
    """A folder with a release of TorchXRayVision, of one dense layer."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    checkpoints.save_module(folder / RELEASE, checkpoints.state_dict("densenet121", 1, 18))
    monkeypatch.setenv(download.MIRROR, str(folder))
    return folder


def run(*words, code=0):
    done = CliRunner().invoke(cli, ["weights", *map(str, words)])
    assert done.exit_code == code, done.output
    return done


def rows(*words, code=0):
    return {row["weights"]: row for row in json.loads(run(*words, "--json", code=code).stdout)}


def test_the_list_says_what_is_known_of_each():
    found = rows("ls")
    assert {"densenet121", "efficientnetb7", "xrv-nih", "xrv-all", "xrv-resnet50-all", "torchvision-resnet50"} <= set(
        found
    )
    assert {row["state"] for row in found.values()} == {"missing", "none"}
    assert found["xrv-nih"] | {"hash": ""} == found["xrv-nih"]  # nobody has published one
    assert found["xrv-nih"]["trained_on"] == "NIH ChestX-ray14" and "Apache" in found["xrv-nih"]["licence"]
    assert found["torchvision-densenet121"]["hash"] == "sha256:a639ec97"
    assert not any(row["usable"] for row in found.values())
    assert "Cohen" in found["xrv-all"]["reference"]


def test_a_published_checkpoint_is_fetched_pinned_and_ready(mirror):
    done = run("fetch", "xrv-nih")
    assert done.stdout.strip() == str(library.folder() / "xrv-nih") == run("where", "xrv-nih").stdout.strip()
    assert "nobody has published a hash" in done.stderr and pinned(RELEASE).startswith("sha256:")
    row = rows("ls", "--here")["xrv-nih"]
    assert (row["state"], row["usable"], row["backbone"]) == ("ok", True, "densenet121") and row["bytes"] > 1000
    card = library.load("xrv-nih")
    assert card.pretraining == {"ChestX-ray14": "some"} and card.labels[0] == "Atelectasis"
    shutil.rmtree(mirror)
    run("fetch", "xrv-nih")  # it is here
    assert "nothing was removed" in run("remove", "xrv-nih").stderr
    assert run("remove", "xrv-nih", "--yes").stdout.strip() == str(card.path)
    assert "has no file" in run("fetch", "xrv-nih", code=2).stderr


def test_a_file_that_changed_since_it_was_pinned_is_refused(mirror):
    run("fetch", "xrv-nih")
    run("remove", "xrv-nih", "--yes")
    content = bytearray((mirror / RELEASE).read_bytes())
    content[-1] ^= 1
    (mirror / RELEASE).write_bytes(content)
    done = run("fetch", "xrv-nih", code=2)
    assert "not the official one" in done.stderr and "weights import" in done.stderr and not library.find("xrv-nih")


def test_a_hash_of_which_only_the_beginning_is_published_is_checked(tmp_path, monkeypatch):
    name = LAYOUTS["torchvision-densenet121"].url.rpartition("/")[2]
    (tmp_path / name).write_bytes(b"something else")
    monkeypatch.setenv(download.MIRROR, str(tmp_path))
    assert "sha256:a639ec97" in run("fetch", "torchvision-densenet121", code=2).stderr


def test_unknown_names_are_a_sentence():
    for words in (("fetch", "chexnot"), ("where", "chexnot"), ("remove", "chexnot", "--yes"), ("verify", "chexnot")):
        assert "no weights 'chexnot'" in run(*words, code=2).stderr
    assert "are not here" in run("remove", "densenet121", "--yes", code=2).stderr


def test_verify_finds_what_was_changed(mirror):
    run("fetch", "xrv-nih")
    assert rows("verify")["xrv-nih"]["state"] == "ok"
    path = library.file_of(library.load("xrv-nih"))
    path.write_bytes(path.read_bytes()[:-1])
    assert rows("verify", "xrv-nih", code=1)["xrv-nih"]["state"] == "damaged"
    assert rows("verify", "densenet121", code=1)["densenet121"]["state"] == "missing"


def test_an_onnx_network_is_imported_listed_packed_and_removed(tiny_onnx, tmp_path):
    onnx.save(tiny_onnx.vit(), tmp_path / "vit.onnx")
    refused = run("import", "vit.onnx", "--as", "tiny", code=2).stderr
    assert "last_hidden_state (1, 19, 16)" in refused and "--layer" in refused
    (tmp_path / "list.txt").write_text("00000001_000.png\n")
    words = ("--layer", "last_hidden_state", "--tokens", "mean", "--preprocessing", "eva-x")
    about = ("--seen", "list.txt", "--seen", "ChestX-ray14=train", "--trained-on", "films of ours", "--licence", "MIT")
    run("import", "vit.onnx", "--as", "tiny", *words, *about)
    card = library.load("tiny")
    assert card.pretraining == {"ChestX-ray14": "train", "images": 1} and card.source == "vit.onnx"
    row = rows("ls", "--here")["tiny"]
    assert (row["trained_on"], row["licence"], row["state"]) == ("films of ours", "MIT", "ok")
    assert "|tiny]" in CliRunner().invoke(cli, ["extract", "--help"]).stdout
    run("pack", "tiny", "-o", "weights.zip")
    run("remove", "tiny", "--yes")
    assert "tiny" not in registry.BACKBONES
    run("unpack", "weights.zip")
    assert library.load("tiny") == card and cxr.make_recipe("tiny").preprocessing == "eva-x"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--layer", "pooler_output", "--tokens", "mean"), "no matrix of tokens"),
        (("--layer", "pooler_output", "--size", "48"), "takes 32 pixels, and --size is 48"),
        (("--layer", "pooler_output", "--preprocessing", "xrv"), "takes 3 channels, and --preprocessing gives 1"),
        (("--layer", "pooler_output", "--with-head"), "are for checkpoints"),
        (("--layer", "pooler_output", "--seen", "nowhere"), "neither a file nor DATASET"),
    ],
)
def test_what_does_not_fit_an_onnx_network_is_a_sentence(tiny_onnx, tmp_path, words, said):
    onnx.save(tiny_onnx.vit(), tmp_path / "vit.onnx")
    assert said in run("import", "vit.onnx", "--as", "tiny", *words, code=2).stderr
    assert not library.find("tiny")
