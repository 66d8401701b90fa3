"""A pack takes everything to a machine without internet; what a pack says of itself is not believed."""

import hashlib
import json
import stat
import zipfile

import numpy as np
import onnx
import pytest

import cxrfeat as cxr
from cxrfeat._backbones import imported, library, packing, registry, weights
from cxrfeat.errors import CxrfeatError, OutputError, WeightsError

CONTENT = b"official weights"


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Move to a machine of that name: folders of its own for Keras, imported weights and exported networks."""

    def move(name):
        folder = tmp_path / name
        monkeypatch.setenv("KERAS_HOME", str(folder / "keras"))
        monkeypatch.setenv("CXRFEAT_WEIGHTS", str(folder / "weights"))
        monkeypatch.setenv("CXRFEAT_CACHE", str(folder / "cache"))
        return folder

    return move


@pytest.fixture
def packed(machine, tiny_onnx, tmp_path):
    """An imported network that was used once, an official file and a pin, packed on one machine."""
    folder = machine("a")
    onnx.save(tiny_onnx.vit(), tmp_path / "vit.onnx")
    cxr.import_weights(tmp_path / "vit.onnx", "tiny", layer="last_hidden_state", tokens="mean")
    films = np.random.default_rng(0).integers(0, 256, (2, 32, 32), dtype=np.uint8)
    before = cxr.embed(films, backbone="tiny")
    keras = folder / "keras" / "models" / registry.get("mobilenet").weights_file
    keras.parent.mkdir(parents=True)
    keras.write_bytes(CONTENT)
    weights.pin(keras.name, keras)
    out = tmp_path / "weights.zip"
    packing.pack(out)
    return out, films, before


def test_another_machine_gets_the_same_embeddings_and_hashes(packed, machine, monkeypatch):
    path, films, before = packed
    folder = machine("b")
    placed = packing.unpack(path)
    assert all(one.is_file() and folder in one.parents for one in placed)
    monkeypatch.setattr(imported, "write", None)  # the export came along: nothing is made again
    np.testing.assert_array_equal(cxr.embed(films, backbone="tiny"), before)
    assert not any("compiled" in one.name for one in placed)
    name = registry.get("mobilenet").weights_file
    assert (folder / "keras" / "models" / name).read_bytes() == CONTENT
    assert weights.pinned(name) == f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
    assert packing.unpack(path) == placed  # nothing new


def test_only_what_is_named_is_packed(packed, machine, tmp_path):
    machine("a")
    names = packing.pack(tmp_path / "some.zip", ["mobilenet"])
    assert names == [f"imagenet/{registry.get('mobilenet').weights_file}"]
    with pytest.raises(WeightsError, match="no weights 'xception' here; here are mobilenet, tiny"):
        packing.pack(tmp_path / "none.zip", ["xception"])
    with pytest.raises(OutputError, match="another kind"):
        (tmp_path / "notes.zip").write_text("mine")
        packing.pack(tmp_path / "notes.zip")


def test_other_files_are_not_replaced(packed, machine):
    path, _, _ = packed
    machine("b")
    (placed, *_) = packing.unpack(path, overwrite=False)
    placed.write_bytes(b"another")
    with pytest.raises(OutputError, match="another file"):
        packing.unpack(path)
    packing.unpack(path, overwrite=True)
    assert placed.read_bytes() != b"another"


def rewritten(path, out, change):
    """Write an archive again with `change(manifest, entries)`; entries are (info, bytes) in a list."""
    with zipfile.ZipFile(path) as archive:
        entries = [(info, archive.read(info)) for info in archive.infolist()]
    manifest = json.loads(entries[0][1])
    entries = entries[1:]
    change(manifest, entries)
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(packing.MANIFEST, json.dumps(manifest))
        for info, content in entries:
            archive.writestr(info, content, info.compress_type)
    return out


def _add(name, content=b"x", mode=0, compress=zipfile.ZIP_STORED):
    def change(manifest, entries):
        info = zipfile.ZipInfo(name)
        info.external_attr, info.compress_type = mode << 16, compress
        entries.append((info, content))
        manifest["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}

    return change


def _drop(manifest, entries):
    entries.pop()


def _wrong_hash(manifest, entries):
    next(iter(manifest["files"].values()))["sha256"] = "0" * 64


def _no_hash(manifest, entries):
    next(iter(manifest["files"].values())).pop("sha256")


@pytest.mark.parametrize(
    "change",
    [
        _add("../outside"),
        _add("/etc/cron.d/x"),
        _add("weights/../../x/card.json"),
        _add("weights/tiny/../card.json"),
        _add("weights\\tiny\\x"),
        _add("weights/tiny/sub/x"),
        _add("elsewhere/x"),
        _add("weights/tiny/.hidden"),
        _add("weights/tiny/link", b"/etc/passwd", stat.S_IFLNK | 0o777),
        _add("weights/tiny/pipe", b"", stat.S_IFIFO | 0o666),
        _add("weights/tiny/bomb", b"\0" * 100_000, compress=zipfile.ZIP_DEFLATED),
        _add("WEIGHTS/tiny/x"),
        _drop,
        _wrong_hash,
        _no_hash,
    ],
)
def test_hostile_archives_write_nothing_outside_and_end_in_a_sentence(packed, machine, tmp_path, change):
    bad = rewritten(packed[0], tmp_path / "bad.zip", change)
    machine("b")
    before = {path for path in tmp_path.rglob("*") if "b" not in path.relative_to(tmp_path).parts}
    with pytest.raises(WeightsError):
        packing.unpack(bad)
    assert {path for path in tmp_path.rglob("*") if "b" not in path.relative_to(tmp_path).parts} == before
    assert not [path for path in (tmp_path / "b").rglob("*") if path.is_file() and path.name == library.CARD]


def test_damaged_archives_end_in_a_sentence(packed, machine, tmp_path):
    content, random = packed[0].read_bytes(), np.random.default_rng(0)
    machine("b")
    bad = tmp_path / "bad.zip"
    for k in range(60):
        changed = bytearray(content)
        if k % 2:
            changed = changed[: random.integers(len(content))]
        else:
            changed[random.integers(len(content))] ^= 255
        bad.write_bytes(changed)
        try:
            packing.unpack(bad, overwrite=True)
        except CxrfeatError:
            continue
    for text in (b"", b"<html>", b"PK"):
        bad.write_bytes(text)
        with pytest.raises(WeightsError, match="not an archive"):
            packing.unpack(bad)
