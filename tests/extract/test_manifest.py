"""The manifest says what `os.stat` says, and tells a changed, moved or foreign file from an unchanged one."""

import os
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from cxrfeat import _manifest as manifest
from cxrfeat._manifest import MISSING, Manifest
from cxrfeat._store import names


def look(root, paths):
    ids = np.array([str(i) for i in range(len(paths))])
    return manifest.look(SimpleNamespace(ids=ids, root=root, table=pd.DataFrame({"path": paths}, dtype=object)))


def test_sizes_and_times_are_those_of_the_files_wherever_they_are(tmp_path):
    paths, expected = [], []
    for i in range(30):
        place = f"folder{i % 7}/deep/{i}.png" if i % 3 else f"{i}.png"
        file = tmp_path / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(bytes(i))
        os.utime(file, ns=(i, 1_700_000_000_000_000_000 + i))
        paths.append(str(file) if i % 2 else place)  # absolute, and relative to the study
        expected.append((i, 1_700_000_000_000_000_000 + i))
    paths += ["nowhere.png", "folder1/nowhere.png", "no/folder/x.png", "/nowhere/x.png", "nul\0.png"]
    paths += ["folder1/../0.png", "n\udcff.png"]  # the last: a name that is not UTF-8
    expected += [(MISSING, MISSING)] * 5 + [expected[0]] + [(MISSING, MISSING)]
    found = look(tmp_path, paths)
    np.testing.assert_array_equal(found.stamps[:, :2], expected)
    assert found.missing.sum() == 6


def test_another_file_of_the_same_size_and_time_is_not_unchanged_but_a_moved_one_is(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        for name in ("1.png", "2.png"):
            (tmp_path / folder / name).write_bytes(folder.encode() * 50)
            os.utime(tmp_path / folder / name, ns=(1, 10**18))
    a, b = (look(tmp_path / folder, ["1.png", "2.png"]) for folder in ("a", "b"))
    assert a.same_as(a).all()
    assert not b.same_as(a).any()
    (tmp_path / "a").rename(tmp_path / "moved")
    assert look(tmp_path / "moved", ["1.png", "2.png"]).same_as(a).all()


def test_mode_and_decoders_count_for_failures_alone(tmp_path):
    (tmp_path / "x.dcm").write_bytes(b"x")
    before = look(tmp_path, ["x.dcm"])
    (tmp_path / "x.dcm").chmod(0o400)
    after = look(tmp_path, ["x.dcm"])
    assert after.same_as(before).all() and not after.same_as(before, failed=True).any()
    other = Manifest(before.image_ids, before.stamps, "pydicom 99")
    assert before.same_as(other).all() and not before.same_as(other, failed=True).any()


def test_a_manifest_of_the_first_version_is_read(tmp_path):
    (tmp_path / "x.png").write_bytes(b"x")
    now, path = look(tmp_path, ["x.png"]), tmp_path / "e.h5"
    with names.manifest(path).open("wb") as file:
        np.savez(file, image_ids=now.image_ids, stamps=now.stamps[:, :2])
    assert now.same_as(manifest.read(path)).all()
    manifest.write(path, now)
    again = manifest.read(path)
    np.testing.assert_array_equal(again.stamps, now.stamps)
    assert again.decoders == now.decoders != ""


@pytest.mark.parametrize("seed", range(40))
def test_a_damaged_manifest_counts_as_none(tmp_path, seed):
    path, rng = tmp_path / "e.h5", np.random.default_rng(seed)
    manifest.write(path, Manifest(np.array(["a", "b"]), np.arange(10).reshape(2, 5)))
    data = bytearray(names.manifest(path).read_bytes())
    for at in rng.integers(0, len(data), 1 + seed):
        data[at] = rng.integers(0, 256)
    names.manifest(path).write_bytes(bytes(data[: rng.integers(1, len(data) + 1)] if seed % 2 else data))
    found = manifest.read(path)
    assert found.stamps.shape == (len(found.image_ids), 5)
