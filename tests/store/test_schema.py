"""Protects: a hostile, foreign or newer file is refused with one sentence, in bounded time and memory."""

from __future__ import annotations

import re
import resource
import shutil
import subprocess
import sys

import h5py
import numpy as np
import pytest

from cxrfeat._store import EmbeddingFile
from cxrfeat._store.repair import repair
from cxrfeat._store.verify import verify
from cxrfeat.errors import EmbeddingFileError

TEXT = h5py.string_dtype("utf-8", 5)


@pytest.fixture
def path(make_file):
    return make_file(n=300).path


def refused(path):
    """The sentence with which a file is refused, by the reader and by `verify` alike."""
    with pytest.raises(EmbeddingFileError) as error:
        EmbeddingFile.open(path)
    assert not verify(path).ok
    text = str(error.value)
    assert "Traceback" not in text
    assert text[-1] == "." and len(text) < 600
    return text


def replace(path, name, **create):
    """Put another dataset of this name into the file."""
    with h5py.File(path, "r+") as file:
        del file[name]
        file.create_dataset(name, **create)
    with path.open("ab") as file:  # long enough for what it claims, so that this alone refuses nothing
        file.write(bytes(20_000))


def test_foreign_files(tmp_path):
    path = tmp_path / "x.h5"
    for data in (b"", b"hello", bytes(1000), b"\x89HDF\r\n\x1a\n", b"\x89HDF\r\n\x1a\n" + bytes(500)):
        path.write_bytes(data)
        refused(path)
    with h5py.File(path, "w") as file:
        file["x"] = np.arange(3)
    assert "HDF5, but not an embedding file" in refused(path)
    with h5py.File(path, "w") as file:
        file.attrs["format"] = "CLAM"
    assert "format" in refused(path)


def test_random_bytes(tmp_path):
    rng = np.random.default_rng(0)
    for size in rng.integers(1, 5000, 30).tolist():
        (tmp_path / "x.h5").write_bytes(rng.bytes(size))
        refused(tmp_path / "x.h5")


def test_random_bytes_within_a_sound_file(path):
    rng = np.random.default_rng(0)
    data = path.read_bytes()
    for _ in range(40):
        garbled = bytearray(data)
        at, size = int(rng.integers(len(data) - 200)), int(rng.integers(8, 200))
        garbled[at : at + size] = rng.bytes(size)
        path.write_bytes(garbled)
        assert not verify(path).ok
        try:
            repair(path)
        except EmbeddingFileError:
            continue
        assert verify(path).ok


def test_a_newer_version_is_refused_by_name(path):
    with h5py.File(path, "r+") as file:
        file.attrs.modify("format_version", 3)
    assert "format version 3; this cxrfeat reads versions up to 2. Upgrade" in refused(path)
    with h5py.File(path, "r+") as file:
        file.attrs.modify("format_version", 2)
    assert "/embeddings is float32, not float16" in refused(path)


@pytest.mark.parametrize("shape", [(2, 1 << 40, 8), (1 << 15, 300, 1 << 19), (2, 300, 1 << 29), (2, 300)])
def test_absurd_shapes(path, shape):
    replace(path, "embeddings", shape=shape, dtype="<f4", chunks=(1,) * len(shape), fletcher32=True)
    refused(path)


def test_a_shape_that_fits_its_neighbours_but_not_the_file(path, make_file):
    """All datasets agree on 2**33 images, none of which is stored."""
    n = 1 << 33
    replace(path, "image_id", shape=(n,), dtype=h5py.string_dtype("utf-8", 11), chunks=(4096,), fletcher32=True)
    replace(path, "image_sha256", shape=(n, 32), dtype="u1", chunks=(4096, 32), fletcher32=True)
    replace(path, "block_sha256", shape=(3, n // 256, 32), dtype="u1", chunks=(1, 4096, 32), fletcher32=True)
    replace(path, "embeddings", shape=(2, n, 8), dtype="<f4", chunks=(1, 256, 8), fletcher32=True)
    assert re.search(r"would be [\d,]+ bytes, and the file has", refused(path))


def test_rows_that_are_not_stored(path):
    replace(path, "embeddings", shape=(2, 300, 8), dtype="<f4", chunks=(1, 256, 8), fletcher32=True)
    assert "not wholly stored" in refused(path)


def test_filters_that_unpack_are_refused(path):
    data = np.zeros((2, 300, 8), "<f4")
    replace(path, "embeddings", data=data, chunks=(1, 256, 8), compression="gzip")
    assert "Fletcher-32 filter and no other" in refused(path)
    replace(path, "embeddings", data=data, chunks=(1, 256, 8), fletcher32=True, compression="gzip")
    assert "Fletcher-32 filter and no other" in refused(path)


def test_wrong_types(path):
    replace(path, "embeddings", data=np.zeros((2, 300, 8)), chunks=(1, 256, 8), fletcher32=True)
    assert "float64" in refused(path)
    replace(path, "embeddings", data=["a", "b"], dtype=h5py.string_dtype())
    refused(path)
    with h5py.File(path, "r+") as file:
        del file["embeddings"]
        file.create_group("embeddings")
    assert "not a dataset" in refused(path)
    with h5py.File(path, "r+") as file:
        del file["embeddings"]
    assert "no /embeddings" in refused(path)


@pytest.mark.parametrize("name", ["embeddings", "image_id", "image_sha256", "block_sha256", "failures"])
def test_nothing_is_followed_out_of_the_file(path, tmp_path, name):
    other = tmp_path / "other.h5"
    shutil.copy(path, other)
    for link in (h5py.ExternalLink(str(other), name), h5py.SoftLink(f"/also/{name}")):
        with h5py.File(path, "r+") as file:
            del file[name]
            file[name] = link
        assert "never followed" in refused(path)


def test_virtual_datasets_and_external_storage(path, tmp_path):
    with h5py.File(path, "r+") as file:
        layout = h5py.VirtualLayout((2, 300, 8), "<f4")
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "embeddings", (2, 300, 8))
        del file["embeddings"]
        file.create_virtual_dataset("embeddings", layout)
    assert "never followed" in refused(path)
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(2 * 300 * 8 * 4))
    replace(path, "embeddings", shape=(2, 300, 8), dtype="<f4", external=[(str(secret), 0, 2 * 300 * 8 * 4)])
    assert "never followed" in refused(path)


def test_texts_are_bounded_before_they_are_read(path):
    with h5py.File(path, "r+", libver="latest") as file:
        file.attrs["recipe"] = "x" * 10  # variable length: its size is known only after reading
    assert "not one fixed-length text" in refused(path)
    with h5py.File(path, "r+", libver="latest") as file:
        huge = np.array(b"{" + b" " * 100_000_000, dtype=h5py.string_dtype("utf-8", 100_000_001))
        file.attrs.create("recipe", huge)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "100,000,001 bytes; at most 1,048,576" in refused(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KB


def test_a_recipe_that_is_none(path):
    import hashlib

    for text in ("null", "{", '{"backbone": "x"}', "[" * 100_000):
        with h5py.File(path, "r+", libver="latest") as file:
            data = text.encode()
            file.attrs.create("recipe", np.array(data, dtype=h5py.string_dtype("utf-8", len(data))))
            digest = hashlib.sha256(data).hexdigest().encode()
            file.attrs.create("recipe_sha256", np.array(digest, dtype=h5py.string_dtype("utf-8", 64)))
        refused(path)


def test_doubled_ids(path):
    with h5py.File(path, "r+") as file:
        file["image_id"][3] = file["image_id"][4]
    refused(path)


def test_hostile_files_in_bounded_memory(path):
    """The worst of the above in a process that may not take more than a little beyond what the imports need."""
    replace(path, "embeddings", shape=(2, 1 << 33, 8), dtype="<f4", chunks=(1, 1 << 26, 8), fletcher32=True)
    code = f"""
import resource
from cxrfeat._store import EmbeddingFile
import h5py, numpy
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20),) * 2)
try:
    EmbeddingFile.open({str(path)!r})
except OSError as error:
    print(type(error).__name__)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "EmbeddingFileError\n", done.stderr
