"""Stamps are those of `os.stat`, however a study names its files; what is not there is missing and no error."""

import os

import numpy as np

from cxrfeat._extract import seen


def test_stamps_are_those_of_the_files_wherever_they_lie(tmp_path):
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
    found = seen.look(np.array([str(i) for i in range(len(paths))]), tmp_path, paths)
    np.testing.assert_array_equal(found.stamps, expected)
    assert found.missing.sum() == 5
