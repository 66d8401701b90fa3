"""Checkpoints of every container give their tensors; hostile, damaged and mistaken files run nothing: a sentence."""

import gzip
import io
import os
import pickle
import random
import struct
import subprocess
import tarfile
import zipfile
from collections import OrderedDict
from pathlib import Path

import h5py
import numpy as np
import pytest
import safetensors.numpy

from cxrfeat._backbones.checkpoints import unpickle
from cxrfeat._backbones.checkpoints.meanings import Inert
from cxrfeat._backbones.checkpoints.reader import read
from cxrfeat.errors import NotFoundError, WeightsError

REAL = Path(__file__).parents[2] / "data" / "pytorch-2.15"
SMALL = {
    "conv.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2),
    "norm.running_var": np.array([0.5, 2.0], np.float32),
    "norm.num_batches_tracked": np.array(3),
}


def values(checkpoint):
    return {name: tensor.read() for name, tensor in checkpoint.tensors.items()}


def same(found, expected):
    assert sorted(found) == sorted(expected)
    for name, array in expected.items():
        assert found[name].dtype == np.float32
        np.testing.assert_array_equal(found[name], array.astype(np.float32))


@pytest.mark.parametrize("name", ["state.pt", "state-legacy.pt", "module.pt", "training-legacy.pth.tar"])
def test_what_pytorch_wrote_is_read_to_the_bit(name):
    truth = dict(np.load(REAL / "truth.npz"))
    found = {name.removeprefix("module."): v for name, v in values(read(REAL / name)).items()}
    same(found, truth)


def test_bfloat16_is_the_upper_half_of_float32():
    truth = dict(np.load(REAL / "truth.npz"))
    for name, found in values(read(REAL / "bfloat16.pt")).items():
        np.testing.assert_allclose(found, truth[name], rtol=2**-8)


@pytest.mark.parametrize("legacy", [False, True])
def test_our_own_writer_of_test_files_is_read_alike(tmp_path, checkpoints, legacy):
    same(values(read(checkpoints.save_state(tmp_path / "a.pt", SMALL, legacy))), SMALL)
    nested = {f"features.block1.{name}": array for name, array in SMALL.items()}
    found = read(checkpoints.save_module(tmp_path / "b.pt", nested, legacy=legacy))
    same(values(found), nested)


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model"])
def test_weights_are_found_beside_an_optimiser(tmp_path, checkpoints, key):
    def wrap(state):
        extra = {"optimizer": {"state": {0: {"exp_avg": checkpoints.Pickled(np.ones(4, np.float32))}}}, "epoch": 3}
        return {"epoch": 3, **extra, key: state}

    same(values(read(checkpoints.save_state(tmp_path / "a.pth.tar", SMALL, True, wrap))), SMALL)


def test_tensors_may_be_views_of_one_storage(tmp_path, checkpoints):
    with checkpoints.stand_ins():
        turned = checkpoints.Pickled(np.arange(6, dtype=np.float32).reshape(2, 3), (3, 2), (1, 3))
        checkpoints.write(tmp_path / "a.pt", {"w": turned})
    np.testing.assert_array_equal(values(read(tmp_path / "a.pt"))["w"], [[0, 3], [1, 4], [2, 5]])


def test_safetensors_and_keras_files_are_read(tmp_path):
    safetensors.numpy.save_file({name: v for name, v in SMALL.items()}, tmp_path / "a.safetensors")
    same(values(read(tmp_path / "a.safetensors")), SMALL)
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["model_weights/conv1/conv/conv1/conv/kernel:0"] = SMALL["conv.weight"]
        file["optimizer_weights/Adam/iterations:0"] = np.array(5)
    same(values(read(tmp_path / "b.h5")), {"model_weights/conv1/conv/conv1/conv/kernel": SMALL["conv.weight"]})
    with h5py.File(tmp_path / "c.weights.h5", "w") as file:
        layer = file.create_group("layers/batch_normalization_3/vars")
        layer.attrs["name"] = "conv1_bn"
        layer["3"] = SMALL["norm.running_var"]
    expected = {"conv1_bn/moving_variance": SMALL["norm.running_var"]}
    same(values(read(tmp_path / "c.weights.h5")), expected)
    with zipfile.ZipFile(tmp_path / "d.keras", "w") as archive:
        archive.write(tmp_path / "c.weights.h5", "model.weights.h5")
        archive.writestr("config.json", "{}")
    same(values(read(tmp_path / "d.keras")), expected)
    with h5py.File(tmp_path / "c.weights.h5", "a") as file:
        del file["layers/batch_normalization_3/vars"].attrs["name"]
    with pytest.raises(WeightsError, match="no names of layers"):
        read(tmp_path / "c.weights.h5")


# What a file must not be able to do.


class Calls:
    """Pickled, it is a call."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def hub_load(*arguments):  # stands for torch.hub.load
    raise AssertionError("it was called")


hub_load.__module__, hub_load.__qualname__ = "torch.hub", "load"

ATTACKS = {
    "os.system": lambda marker: Calls(os.system, f"touch {marker}"),
    "subprocess": lambda marker: Calls(subprocess.check_call, ["touch", str(marker)]),
    "eval": lambda marker: Calls(eval, f"open({str(marker)!r}, 'w')"),
    "getattr chain": lambda marker: Calls(getattr, Calls(__import__, "os"), "system"),
    "nested pickle": lambda marker: Calls(pickle.loads, pickle.dumps(Calls(os.system, f"touch {marker}"))),
    "in a list": lambda marker: [1, {"a": (Calls(os.mkdir, str(marker)),)}],
    "as state": lambda marker: OrderedDict(w=Calls(io.open, str(marker), "w")),
}


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_nothing_of_a_file_is_run(tmp_path, attack, legacy, protocol):
    marker = tmp_path / "was-run"
    data = pickle.dumps(ATTACKS[attack](marker), protocol)
    path = tmp_path / "weights.pt"
    if legacy:
        magic = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({}, 2)
        path.write_bytes(magic + data)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", data)
    with pytest.raises(WeightsError, match=r"would call .* when it is opened|opcode|Nothing|damaged"):
        read(path)
    assert not marker.exists()


def assemble(*opcodes: bytes) -> io.BytesIO:
    return io.BytesIO(b"\x80\x02" + b"".join(opcodes) + b".")


@pytest.mark.parametrize(
    ("opcodes", "said"),
    [
        ((b"ctorch.hub\nload\n", b"X\x01\x00\x00\x00a", b"\x85", b"R"), "would call torch.hub.load"),
        ((b"ccollections\nOrderedDict\n", b")R", b"N", b"R"), "damaged"),  # the result of a call is no function
        ((b"(", b"cos\nsystem\n", b"X\x01\x00\x00\x00a", b"o"), "opcode OBJ"),
        ((b"(X\x01\x00\x00\x00a", b"ios\nsystem\n"), "opcode INST"),
        ((b"\x82\x01",), "opcode EXT1"),
        ((b"Pgo\n",), "opcode PERSID"),
        ((b"\x97",), "opcode NEXT_BUFFER"),
        ((b"r\xff\xff\xff\x7f",), "damaged"),  # a memo index that would make a list of 2^31
        ((b"N", b"r\xff\xff\xff\x7f", b"j\xff\xff\xff\x7e"), "damaged"),
        ((b"X\xff\xff\xff\x7fabc",), "damaged"),  # a text that claims two GiB
        ((b"\x8b\xff\xff\xff\x7f",), "damaged"),  # an integer likewise
        ((b"t",), "damaged"),  # no mark
        ((b"0",), "damaged"),  # nothing to pop
        ((b"]", b"]", b"s"), "damaged"),
        ((b"}", b"]", b"N", b"s"), "damaged"),  # a list as a key
        ((b"\x80\x09",), "damaged"),
    ],
)
def test_opcodes_that_no_checkpoint_needs_are_refused(opcodes, said):
    with pytest.raises(WeightsError, match=said):
        unpickle.load(assemble(*opcodes), "a.pt")


def test_an_object_of_another_class_is_inert():
    state = b"}X\x01\x00\x00\x00aK\x07s"
    found = unpickle.load(assemble(b"cos\n_Environ\n)\x81", state, b"b"), "a.pt")
    assert isinstance(found, Inert)
    assert (str(found.kind), found.get("a")) == ("os._Environ", 7)


def test_copies_without_end_are_refused():
    long = b"](" + b"N" * 100_000 + b"eq\x01"
    with pytest.raises(WeightsError, match="copies too much"):
        unpickle.load(assemble(long, b"0", b"c__builtin__\nset\nq\x02", b"h\x02h\x01\x85R" * 100), "a.pt")


@pytest.mark.parametrize("limit", ["MAX_OPCODES", "MAX_BYTES"])
def test_a_pickle_without_end_is_refused(limit, monkeypatch):
    monkeypatch.setattr(unpickle, limit, 1000)
    with pytest.raises(WeightsError, match=r"damaged: .* (has more than|is longer than)"):
        unpickle.load(io.BytesIO(b"\x80\x02" + b"N0" * 1000), "a.pt")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"numel": 10**12}, "bytes and not the"),
        ({"numel": 10**12, "shape": (10**6, 10**6), "stride": (10**6, 1)}, "bytes and not the"),
        ({"shape": (10**9,), "stride": (0,)}, "outside its storage"),
        ({"shape": (4,), "stride": (9,)}, "outside its storage"),
        ({"shape": (-4,), "stride": (1,)}, "where a size must"),
        ({"shape": (2, 2), "stride": (1,)}, "strides"),
    ],
)
def test_a_tensor_cannot_reach_beyond_its_storage_nor_lie_about_its_size(tmp_path, checkpoints, options, said):
    with checkpoints.stand_ins():
        tensor = checkpoints.Pickled(np.zeros(8, np.float32), **{"shape": (8,), "stride": (1,), **options})
        path = checkpoints.write(tmp_path / "a.pt", {"w": tensor})
    with pytest.raises(WeightsError, match=said):
        values(read(path))


def test_sizes_in_an_old_file_are_compared_with_the_file(tmp_path, checkpoints):
    path = checkpoints.save_state(tmp_path / "a.pt", SMALL, legacy=True)
    whole = path.read_bytes()
    for cut in (10, 60, len(whole) - 30, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(WeightsError, match="damaged"):
            values(read(path))
    place = whole.index(struct.pack("<q", 24) + SMALL["conv.weight"].tobytes())
    path.write_bytes(whole[:place] + struct.pack("<q", 10**15) + whole[place + 8 :])
    with pytest.raises(WeightsError, match="elements and not 24"):
        values(read(path))


def test_a_zip_bomb_and_a_damaged_archive_are_refused(tmp_path, checkpoints):
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"N" * 10_000_000)
    with pytest.raises(WeightsError, match="compressed, which PyTorch's files never are"):
        read(tmp_path / "bomb.pt")
    path = checkpoints.save_state(tmp_path / "a.pt", SMALL)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match="incomplete zip archive"):
        read(path)
    place = whole.index(SMALL["conv.weight"].tobytes())
    path.write_bytes(whole[: place + 5] + b"\xff" + whole[place + 6 :])
    with pytest.raises(WeightsError, match="damaged or incomplete: Bad CRC"):
        read(path).tensors["conv.weight"].read()


def test_hdf5_files_hold_plain_numbers_or_are_refused(tmp_path):
    with h5py.File(tmp_path / "bomb.h5", "w") as file:
        file.create_dataset("conv/kernel", (10**6, 1000), "f4", compression="gzip", chunks=(1000, 1000))
    with pytest.raises(WeightsError, match="plain numbers"):
        read(tmp_path / "bomb.h5")
    (tmp_path / "raw").write_bytes(bytes(64))
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file.create_dataset("conv/kernel", (16,), "f4", external=[(str(tmp_path / "raw"), 0, 64)])
    with pytest.raises(WeightsError, match="plain numbers"):
        read(tmp_path / "other.h5")
    with h5py.File(tmp_path / "text.h5", "w") as file:
        file["conv/kernel"] = ["a", "b"]
    with pytest.raises(WeightsError, match="plain numbers"):
        read(tmp_path / "text.h5")


def tar_of(data: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        entry = tarfile.TarInfo("model.pt")
        entry.size = len(data)
        archive.addfile(entry, io.BytesIO(data))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 28\n", "Git LFS pointer"),
        (b"\n<!DOCTYPE html><html><body>Too many requests", "web page"),
        (b"Not found\n", "it is text"),
        (gzip.compress(b"weights", mtime=0), "compressed"),
        (tar_of(b"weights"), "tar archive"),
        (bytes(range(256)) * 4, "no known kind"),
        (pickle.dumps([1, 2]), "PyTorch did not write"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "damaged or incomplete"),
        ((10**12).to_bytes(8, "little") + b"{}", "damaged or incomplete"),
    ],
)
def test_what_is_no_checkpoint_is_called_by_its_name(tmp_path, content, said):
    path = tmp_path / "densenet121.pt"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=said) as caught:
        read(path)
    assert str(caught.value).count("\n") == 0
    assert "densenet121.pt" in str(caught.value)


def test_other_zip_archives_and_missing_files_are_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("notes.txt", "a")
    with pytest.raises(WeightsError, match=r"no data\.pkl"):
        read(tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "b.pt", "w") as archive:
        archive.writestr("b/constants.pkl", b"")
        archive.writestr("b/data.pkl", b"N.")
    with pytest.raises(WeightsError, match="TorchScript"):
        read(tmp_path / "b.pt")
    with pytest.raises(NotFoundError):
        read(tmp_path / "c.pt")


def test_a_pickle_without_weights_says_what_it_holds(tmp_path, checkpoints):
    with checkpoints.stand_ins("models.Net") as classes:
        checkpoints.write(tmp_path / "a.pt", {"epoch": 3, "loss": 0.5})
        checkpoints.write(tmp_path / "b.pt", classes["models.Net"]())
    with pytest.raises(WeightsError, match=r"holds no weights: .* with the keys epoch, loss"):
        read(tmp_path / "a.pt")
    with pytest.raises(WeightsError, match="holds no weights"):
        read(tmp_path / "b.pt")


@pytest.mark.parametrize("name", ["state.pt", "state-legacy.pt", "module.pt", "training-legacy.pth.tar"])
def test_damage_anywhere_is_a_sentence(tmp_path, name):
    """Bytes changed, cut or put in, in the pickle of an archive or in the whole file: read as it is, or refused."""
    whole, path = (REAL / name).read_bytes(), tmp_path / name
    for seed in range(60):
        draw = random.Random(seed)
        if zipfile.is_zipfile(REAL / name) and seed % 3:
            with zipfile.ZipFile(REAL / name) as archive, zipfile.ZipFile(path, "w") as changed:
                for entry in archive.namelist():
                    data = archive.read(entry)
                    changed.writestr(entry, damaged(data, draw) if entry.endswith("data.pkl") else data)
        else:
            path.write_bytes(damaged(whole, draw))
        try:
            values(read(path))
        except WeightsError as error:
            assert "\n" not in str(error)


def damaged(data: bytes, draw: random.Random) -> bytes:
    place = draw.randrange(len(data))
    byte = bytes([draw.randrange(256)])
    return draw.choice([data[:place] + byte + data[place + 1 :], data[:place], data[:place] + byte + data[place:]])
