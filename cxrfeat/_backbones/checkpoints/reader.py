"""Opening a checkpoint: which container it is, by its first bytes and never by its name."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from cxrfeat._backbones.checkpoints import keras_file, torch_file
from cxrfeat._backbones.checkpoints.tensors import DTYPES, Checkpoint, Tensor, damaged, values
from cxrfeat.errors import NotFoundError, WeightsError

_MISTAKEN: tuple[tuple[Callable[[bytes], bool], str], ...] = (
    (lambda head: not head, "it is empty"),
    (lambda head: head.startswith(b"PK"), "it is an incomplete zip archive"),
    (
        lambda head: head.startswith(b"version https://git-lfs"),
        "it is a Git LFS pointer and not the file itself: run `git lfs pull` where it comes from",
    ),
    (
        lambda head: head.lstrip()[:200].lower().startswith((b"<!doctype", b"<html", b"<head", b"<?xml")),
        "it is a web page: the download was answered by a page and not by the file",
    ),
    (lambda head: head.startswith(b"\x1f\x8b"), "it is compressed: decompress it first"),
    (lambda head: head[257:262] == b"ustar", "it is a tar archive: unpack it and import the file in it"),
    (lambda head: all(byte >= 32 or byte in b"\t\n\r\f" for byte in head), "it is text"),
)
"""What is often found under the name of a checkpoint: how it begins, and what to say of it."""


def read(path: str | Path) -> Checkpoint:
    """Read a checkpoint of any supported container, without running anything of it.

    A file that is not one, is damaged, or would call something, is a WeightsError.
    """
    path = Path(path)
    if not path.is_file():
        raise NotFoundError(f"there is no file {path}.")
    with path.open("rb") as file:
        head = file.read(512)
    what = str(path)
    with damaged(what):
        if zipfile.is_zipfile(path) and head.startswith(b"PK"):
            with zipfile.ZipFile(path) as archive:
                keras = "model.weights.h5" in archive.namelist()
            if keras:
                return Checkpoint(path.name, keras_file.read_archive(path, what))
            return Checkpoint(path.name, torch_file.read_zip(path, what))
        if head.startswith(b"\x89HDF\r\n"):
            return Checkpoint(path.name, keras_file.read_hdf5(path, what))
        if head[8:9] == b"{":
            return Checkpoint(path.name, _safetensors(path, what))
        if head.startswith(b"\x80") and head[1:2] in b"\x00\x01\x02\x03\x04\x05":
            return Checkpoint(path.name, torch_file.read_stream(path, what))
    reason = next((reason for begins, reason in _MISTAKEN if begins(head)), "its first bytes are of no known kind")
    raise WeightsError(
        f"{what} is no checkpoint: {reason}. A file of PyTorch's (.pt, .pth, .pth.tar), safetensors or Keras's (.h5, "
        ".weights.h5, .keras) was expected."
    )


def _safetensors(path: Path, what: str) -> dict[str, Tensor]:
    import safetensors

    found = {}
    try:
        entries = safetensors.deserialize(path.read_bytes())
    except safetensors.SafetensorError as error:
        raise WeightsError(f"{what} is damaged or incomplete: {error}. Get it again.") from error
    for name, entry in entries:
        if (kind := entry["dtype"]) not in DTYPES:
            raise WeightsError(f"{what} has numbers of a kind that is not read: {kind}.")
        flat = np.frombuffer(entry["data"], np.dtype(DTYPES[kind]).newbyteorder("<"))
        shape = tuple(entry["shape"])
        found[name] = Tensor(shape, partial(values, flat.reshape(shape), kind), what)
    return found
