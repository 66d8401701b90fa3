"""Protects: a damaged image manifest (size and time of the images) costs a second look at the images, never more."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest

from cxrfeat import _manifest as manifest
from cxrfeat._store import names


@pytest.fixture
def kept(tmp_path, make_study):
    """An embedding file's name, and the manifest beside it."""
    study = make_study(20)
    path = tmp_path / "a.h5"
    manifest.write(path, manifest.look(study))
    assert names.manifest(path).name == "a.h5.seen"
    return path


def consistent(found):
    return found.image_ids.dtype.kind == "U" and found.stamps.shape == (len(found.image_ids), 5)


def archive(**arrays):
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


def hostile():
    """Archives that are whole and say something else."""
    ids, stamps = np.array(["a", "b"]), np.zeros((2, 5), np.int64)
    yield archive()
    yield archive(image_ids=ids)
    yield archive(stamps=stamps)
    yield archive(image_ids=ids, stamps=stamps[:1])
    yield archive(image_ids=ids, stamps=stamps[:, :3])
    yield archive(image_ids=ids, stamps=np.array("text"))
    yield archive(image_ids=np.arange(2), stamps=stamps)
    yield archive(image_ids=np.array(ids.tolist(), object), stamps=stamps)  # needs unpickling
    yield archive(image_ids=ids, stamps=stamps.astype(str))
    yield archive(image_ids=ids.reshape(1, 2), stamps=stamps)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as written:
        written.writestr("image_ids.npy", b"\x93NUMPY")
        written.writestr("stamps.npy", b"")
    yield out.getvalue()


def test_every_damage_is_taken_as_no_manifest(kept, told):
    beside = names.manifest(kept)
    data, rng = beside.read_bytes(), np.random.default_rng(0)
    cuts = [data[: len(data) * share // 20] for share in range(20)]
    flips = []
    for at in rng.integers(0, len(data), 200).tolist():
        flipped = bytearray(data)
        flipped[at] ^= 1 << int(rng.integers(8))
        flips.append(bytes(flipped))
    noise = [rng.bytes(int(size)) for size in rng.integers(0, 3000, 20)]
    damaged = [*cuts, *flips, *noise, *hostile(), b"PK\x03\x04", b"\x93NUMPY\x01\x00" + b"(" * 500]
    for content in damaged:
        beside.write_bytes(content)
        assert consistent(manifest.read(kept))
    beside.unlink()
    beside.mkdir()
    assert len(manifest.read(kept).image_ids) == 0
    told(f"{len(damaged)} damaged image manifests: 0 tracebacks")
