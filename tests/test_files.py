"""Protects: no output replaces an input or a file of another kind, and a folder that cannot be synced stops nothing."""

from __future__ import annotations

import errno
import io
import os
import stat

import pandas as pd
import pytest

from cxrfeat import _files as files
from cxrfeat.errors import OutputError


def test_an_output_never_replaces_an_input(tmp_path):
    source = tmp_path / "a.csv"
    source.write_text("x")
    (tmp_path / "link.csv").symlink_to(source)
    for out in (source, tmp_path / "." / "a.csv", tmp_path / "link.csv"):
        with pytest.raises(OutputError, match="is an input"):
            files.check_output(out, suffixes=[".csv"], inputs=[source], overwrite=True)


def test_an_output_replaces_its_own_kind_alone(tmp_path):
    out = tmp_path / "a.csv"
    assert files.check_output(out) == out
    out.write_text("image_id,pass\n")
    files.check_output(out, suffixes=[".csv"], begins=b"image_id,pass")
    files.check_output(out, begins=(b"other", b"image_id,pass"))
    for kind in ({}, {"suffixes": [".html"]}, {"begins": b"image_id,path"}):
        with pytest.raises(OutputError, match="another kind"):
            files.check_output(out, **kind)
        files.check_output(out, **kind, overwrite=True)
    out.write_text("")
    files.check_output(out, begins=b"x")  # an empty file holds nothing to lose


@pytest.mark.parametrize("special", ["folder", "fifo"])
def test_what_is_no_file_is_not_replaced(tmp_path, special):
    path = tmp_path / "a.csv"
    path.mkdir() if special == "folder" else os.mkfifo(path)
    with pytest.raises(OutputError, match="not a file that can be replaced"):
        files.check_output(path, suffixes=[".csv"], overwrite=True)


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS])
def test_a_folder_that_cannot_be_synced_stops_nothing(tmp_path, monkeypatch, code):
    """SMB and FUSE refuse fsync of a folder."""
    real = os.fsync

    def fsync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(code, os.strerror(code))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    files.write_atomically(tmp_path / "a.txt", "x")
    assert (tmp_path / "a.txt").read_text() == "x"


def test_a_failing_disk_is_still_an_error(tmp_path, monkeypatch):
    def fsync(descriptor):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="Input/output"):
        files.sync_folder(tmp_path)


def test_what_killed_processes_left_is_swept(tmp_path):
    old, new, other = tmp_path / ".a.12.part.csv", tmp_path / ".b.34.part.csv", tmp_path / ".my.part.csv"
    for path in (old, new, other):
        path.write_text("x")
    os.utime(old, (0, 0))
    os.utime(other, (0, 0))
    files.write_atomically(tmp_path / "a.csv", "y")
    assert sorted(p.name for p in tmp_path.iterdir()) == [".b.34.part.csv", ".my.part.csv", "a.csv"]


def test_no_cell_of_a_csv_for_people_is_a_formula():
    texts = ["=HYPERLINK(1)", "+x", "-x", "@x", "\tx", "'mine", "plain", "-3.5", "+1e9"]
    table = pd.DataFrame({"image_id": texts, "=x": -1.5, "n": -3})
    read = pd.read_csv(io.StringIO(files.csv_text(table)), dtype=str)
    assert read["image_id"].tolist() == [f"'{text}" for text in texts[:5]] + texts[5:]
    assert read.columns.tolist() == ["image_id", "'=x", "n"] and read.iloc[0, 1:].tolist() == ["-1.5", "-3"]
    assert [files.restored(text) for text in read["image_id"]] == texts
    assert table.columns[1] == "=x" and table["image_id"].tolist() == texts, "the table itself stays"


def test_a_caller_may_know_its_own_files(tmp_path):
    out = tmp_path / "a.csv"
    out.write_text("x\n")
    files.check_output(out, own=True)
    with pytest.raises(OutputError, match=r"Name another output\.$"):
        files.check_output(out, begins=b"x", own=False, overwrite=None)
