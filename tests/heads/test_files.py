"""Loading a head runs nothing from its folder: pickles, tampered files and foreign types are refused."""

from __future__ import annotations

import io
import json
import os
import pickle
import resource
import shutil
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from cxrfeat._files import sha256
from cxrfeat._heads import fit_head, load_head
from cxrfeat._run import Run
from cxrfeat.errors import HeadError, NotFoundError


class Payload:
    """What a malicious pickle is: unpickling it runs a command."""

    def __init__(self, witness):
        self.witness = str(witness)

    def __reduce__(self):
        return os.system, (f"touch {self.witness}",)


@pytest.fixture
def run(study, embeddings, tmp_path):
    return fit_head(study, embeddings, out=tmp_path / "run")


@pytest.fixture
def witness(tmp_path):
    """A file that appears if any payload was run."""
    path = tmp_path / "payload-was-run"
    yield path
    assert not path.exists()


def bless(folder, name, **changes):
    """Make `head.json` vouch for a file, as an attacker who can write the folder would."""
    run = Run.open(folder)
    replace(run, files={**run.files, name: sha256(folder / name)}, **changes).save()


def test_the_payload_of_these_tests_is_a_live_one(tmp_path):
    pickle.loads(pickle.dumps(Payload(tmp_path / "touched")))
    assert (tmp_path / "touched").exists()


def test_a_moved_run_loads(run, tmp_path):
    before = load_head(run).linear[0]
    moved = shutil.move(run.path, tmp_path / "other machine")
    assert (load_head(moved).linear[0] == before).all()


def test_a_plain_pickle_in_the_place_of_arrays_is_refused(run, witness):
    (run.path / "head.npz").write_bytes(pickle.dumps(Payload(witness)))
    bless(run.path, "head.npz")
    with pytest.raises(HeadError, match="not loaded"):
        load_head(run.path)


def test_a_pickle_inside_the_arrays_is_refused(run, witness):
    np.savez(run.path / "head.npz", coef=np.array([Payload(witness)], dtype=object), intercept=np.zeros(3))
    bless(run.path, "head.npz")
    with pytest.raises(HeadError, match="not loaded"):
        load_head(run.path)


def test_a_pickle_in_the_place_of_skops_is_refused(run, witness):
    (run.path / "head.skops").write_bytes(pickle.dumps(Payload(witness)))
    np.savez(run.path / "scaler.npz", mean=np.zeros(12), scale=np.ones(12), places=np.arange(3))
    bless(run.path, "head.skops", kind="knn")
    with pytest.raises(HeadError, match="not loaded"):
        load_head(run.path)


def test_a_skops_archive_that_names_a_function_is_refused(run, witness):
    import skops.io

    good = skops.io.dumps([np.zeros(2)])
    with zipfile.ZipFile(io.BytesIO(good)) as archive:
        schema = json.loads(archive.read("schema.json"))
    schema["content"] = [
        {"__class__": "system", "__module__": "os", "__loader__": "FunctionNode", "content": "os.system", "__id__": 1}
    ]
    with zipfile.ZipFile(run.path / "head.skops", "w") as archive:
        archive.writestr("schema.json", json.dumps(schema))
    np.savez(run.path / "scaler.npz", mean=np.zeros(12), scale=np.ones(12), places=np.arange(3))
    bless(run.path, "head.skops", kind="knn")
    with pytest.raises(HeadError, match="not loaded"):
        load_head(run.path)


def test_a_file_changed_since_is_refused(run):
    data = bytearray((run.path / "head.npz").read_bytes())
    data[len(data) // 2] ^= 1
    (run.path / "head.npz").write_bytes(data)
    with pytest.raises(HeadError, match="was changed after the run was made"):
        load_head(run.path)


@pytest.mark.parametrize("name", ["../elsewhere.npz", "/etc/hostname"])
def test_a_file_outside_the_run_is_not_looked_at(run, name):
    replace(run, files={name: "0" * 64}).save()
    with pytest.raises(HeadError, match="outside the run"):
        load_head(run.path)


def test_a_lost_file_is_told(run):
    (run.path / "head.npz").unlink()
    with pytest.raises(NotFoundError, match=r"head\.npz is missing"):
        load_head(run.path)


def test_coefficients_of_other_labels_are_refused(run):
    np.savez(run.path / "head.npz", coef=np.zeros((2, 12)), intercept=np.zeros(2))
    bless(run.path, "head.npz")
    with pytest.raises(HeadError, match="3 labels"):
        load_head(run.path)


def test_a_kind_from_the_future_is_told(run):
    bless(run.path, "head.npz", kind="quantum")
    with pytest.raises(HeadError, match="does not know"):
        load_head(run.path)


@pytest.mark.parametrize("calibration", [{"method": "platt"}, {"method": "platt", "split": "val", "labels": [{}]}])
def test_a_damaged_calibration_is_told(run, calibration):
    bless(run.path, "head.npz", calibration=calibration)
    with pytest.raises(HeadError, match="calibration"):
        load_head(run.path)


@pytest.mark.parametrize("kind", ["svm", "knn"])
def test_an_archive_that_inflates_without_end_is_refused_before_it_does(kind, run, tmp_path):
    """Ten thousand times its size: 200 MB of zeros in 200 kB."""
    name = {"svm": "head.npz", "knn": "head.skops"}[kind]
    with zipfile.ZipFile(run.path / name, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("coef.npy", "w") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (25 << 20,)})
        for _ in range(200):
            file.write(bytes(1 << 20))
    np.savez(run.path / "scaler.npz", mean=np.zeros(12), scale=np.ones(12), places=np.arange(3))
    bless(run.path, name, kind=kind)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(HeadError, match="inflates to"):
        load_head(run.path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


def test_an_array_larger_than_its_file_is_refused(run):
    with zipfile.ZipFile(run.path / "head.npz", "w") as archive, archive.open("coef.npy", "w") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (1 << 50,)})
    bless(run.path, "head.npz")
    with pytest.raises(HeadError, match="not loaded"):
        load_head(run.path)
