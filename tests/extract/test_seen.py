"""Stamps are those of `os.stat`, however a study names its files; what is not there is missing and no error."""

import os
from pathlib import Path

import numpy as np

from cxrfeat.extract import seen


def open_files():
    listed = Path("/proc/self/fd")
    return len(list(listed.iterdir())) if listed.is_dir() else 0


def test_stamps_are_those_of_the_files_wherever_they_lie(tmp_path, monkeypatch):
    monkeypatch.setattr(seen._Folders, "LIMIT", 3)  # so that folders are closed and opened again
    paths, expected = [], []
    for i in range(30):
        place = f"folder{i % 7}/deep/{i}.png" if i % 3 else f"{i}.png"
        file = tmp_path / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(bytes(i))
        os.utime(file, ns=(i, 1_700_000_000_000_000_000 + i))
        paths.append(str(file) if i % 2 else place)  # absolute, and relative to the study
        expected.append((i, 1_700_000_000_000_000_000 + i))
    paths += [
        "nowhere.png",
        "folder1/nowhere.png",
        "no/folder/x.png",
        "/nowhere/x.png",
        "nul\0.png",
        "folder1/../0.png",
    ]
    expected += [(seen.MISSING, seen.MISSING)] * 5 + [expected[0]]
    before = open_files()
    found = seen.look(np.array([str(i) for i in range(len(paths))]), tmp_path, paths)
    np.testing.assert_array_equal(found.stamps, expected)
    assert found.missing.sum() == 5
    assert open_files() == before  # every folder was closed


def test_where_no_folder_can_be_held_open_the_answer_is_the_same(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(b"1234")
    ids, paths = np.array(["a", "b"]), ["a.png", "b.png"]
    held = seen.look(ids, tmp_path, paths)
    monkeypatch.setattr(os, "supports_dir_fd", set())
    np.testing.assert_array_equal(seen.look(ids, tmp_path, paths).stamps, held.stamps)
