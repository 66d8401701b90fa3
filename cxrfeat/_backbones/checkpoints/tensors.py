"""What a checkpoint holds, whatever its container: named tensors whose values are read when they are asked for."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cxrfeat.errors import WeightsError

DTYPES = {
    "F64": "f8", "F32": "f4", "F16": "f2", "BF16": "u2", "I64": "i8", "I32": "i4", "I16": "i2", "I8": "i1",
    "U8": "u1", "U16": "u2", "U32": "u4", "U64": "u8", "BOOL": "u1",
}  # fmt: skip
"""What numpy reads each type of number as, by the names of the safetensors format."""


@dataclass(frozen=True)
class Tensor:
    """One tensor: its shape, how its values are loaded, and which file they are in."""

    shape: tuple[int, ...]
    load: Callable[[], npt.NDArray[Any]]
    what: str

    def read(self) -> npt.NDArray[np.float32]:
        """Its values, float32; a WeightsError if the file does not have them whole."""
        with damaged(self.what):
            return self.load()


@dataclass(frozen=True)
class Checkpoint:
    """What was read of one file: its name, without its folder, and its tensors by the names that it has for them."""

    file: str
    tensors: Mapping[str, Tensor]


@contextmanager
def damaged(what: str) -> Iterator[None]:
    """Make the errors of libraries that read a file a WeightsError, which `what` begins."""
    try:
        yield
    except WeightsError:
        raise
    except (OSError, EOFError, zipfile.BadZipFile, RuntimeError, ValueError, KeyError, IndexError, TypeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise WeightsError(f"{what} is damaged or incomplete: {reason} Get it again.") from error


def values(found: npt.NDArray[Any], kind: str) -> npt.NDArray[np.float32]:
    """Numbers of a type of `DTYPES` as float32; bfloat16 is its upper half."""
    if kind == "BF16":
        found = (np.asarray(found).astype("<u4") << np.uint32(16)).view("<f4")
    return np.asarray(found).astype(np.float32)
