"""An engine for processors: MNN, one session a core, on an export that is made once and kept.

The two backbones are convolutions and little else, and MNN computes those of 3 x 3 by Winograd's and those of 1 x 1 by
Strassen's method, both in float32, with fewer multiplications than a matrix product has: what counts where a processor
has no wide ones. `benchmarks/network.py` compares the engines alone; the tests hold the values to the Keras graph's.
"""

from __future__ import annotations

import ctypes
import functools
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from cxrfeat._backbones import seated
from cxrfeat._backbones.engine import Floats
from cxrfeat._backbones.export import ensure_export, ensure_kept
from cxrfeat._backbones.weights import Weights
from cxrfeat._recipe import Recipe
from cxrfeat.errors import EngineError

_SESSION = {"backend": "CPU", "numThread": 1, "precision": "high"}  # high: float32, also where float16 is to be had


def open_engine(recipe: Recipe, weights: Weights, outputs: tuple[str, ...]) -> seated.SeatedEngine:
    """Open the kept export of a recipe's network, making it first if need be; see `choice.open_engine`."""
    model = ensure_model(recipe.backbone, weights, recipe.preprocessing, recipe.size)
    return compile_model(model, seated.seats(), outputs)


def ensure_model(backbone: str, weights: Weights, preprocessing: str, size: int) -> Path:
    """Return the export as an MNN file, converting it if it is missing or damaged or another version's."""
    version = _mnn().version()
    export = ensure_export(backbone, weights, preprocessing, size)
    made = ensure_kept(export / f"mnn-{version}", lambda folder: _convert(export / "model.onnx", folder, version))
    return made / "model.mnn"


def compile_model(model: Path, seats: int, outputs: tuple[str, ...]) -> seated.SeatedEngine:
    """Open an MNN file in as many sessions as there are seats."""
    mnn = _mnn()
    with _quiet():
        requests = [_Session(mnn, model, outputs) for _ in range(seats)]
    return seated.SeatedEngine.of(f"MNN {mnn.version()}, CPU, float32", requests)


class _Session:
    """One session, on one core; MNN lets go of the interpreter's lock while it runs."""

    def __init__(self, mnn: Any, model: Path, outputs: tuple[str, ...]) -> None:
        self.mnn = mnn
        self.network = mnn.Interpreter(str(model))
        self.session = self.network.createSession(dict(_SESSION))
        self.image = self.network.getSessionInput(self.session, "image")
        self.outputs = [self.network.getSessionOutput(self.session, name) for name in outputs]

    def infer(self, images: Floats) -> list[Floats]:
        """See `seated.Request`."""
        self.image.copyFrom(self._tensor(images))
        self.network.runSession(self.session)
        found = []
        for output in self.outputs:
            host = self._tensor(np.zeros(output.getShape(), np.float32))
            output.copyToHostTensor(host)
            found.append(np.array(host.getNumpyData()).reshape(output.getShape()))  # a copy: the memory is host's
        return found

    def _tensor(self, values: Floats) -> Any:
        mnn = self.mnn
        return mnn.Tensor(values.shape, mnn.Halide_Type_Float, values, mnn.Tensor_DimensionType_Caffe)


_CONVERTER = "import sys, _tools; _tools.mnnconvert(['mnnconvert', *sys.argv[1:]])"
"""What MNN's own command `mnnconvert` calls; the command itself would also report its use to its maker."""


def _convert(model: Path, folder: Path, version: str) -> dict[str, Any]:
    # In a process of its own: the converter brings its own protobuf, which TensorFlow's does not survive.
    made = folder / "model.mnn"
    arguments = ["-f", "ONNX", "--modelFile", str(model.resolve()), "--MNNModel", made.name, "--bizCode", "cxrfeat"]
    command = [sys.executable, "-c", _CONVERTER, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    for left in folder.glob(".__*"):  # a file of its own that it works on, in the folder it is called in
        left.unlink()
    if done.returncode or not made.is_file():
        last = (done.stderr or done.stdout).strip().splitlines()[-1:] or [f"it ended with {done.returncode}"]
        raise EngineError(f"MNN {version} cannot convert {model}: {last[0]} Use --engine openvino.")
    return {"mnn": version}


@functools.cache
def _mnn() -> Any:
    try:
        with _quiet():
            import MNN
    except ImportError as error:
        raise EngineError("MNN is not installed: pip install mnn, or use --engine openvino.") from error
    return MNN


_descriptor = threading.RLock()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep MNN's remarks, which it prints to standard output by way of C, out of what a command prints there."""
    with _descriptor, tempfile.TemporaryFile() as nowhere:
        sys.stdout.flush()
        kept = os.dup(1)
        os.dup2(nowhere.fileno(), 1)
        try:
            yield
        finally:
            if os.name == "posix":
                ctypes.CDLL(None).fflush(None)  # else what C still holds would come out afterwards
            os.dup2(kept, 1)
            os.close(kept)
