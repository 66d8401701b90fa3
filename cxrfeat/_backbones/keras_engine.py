"""The Keras engine: for GPUs, one copy of the network on each, on whichever backend Keras has.

Float32 means float32: TensorFloat-32, which Nvidia cards would use unasked, is switched off, since it moves embeddings
in the third decimal. A recipe of precision `float16` or `bfloat16` asks for speed instead. Grey values cross the bus,
uint8 where the recipe's filter gives them; the network makes three channels of them.
"""

from __future__ import annotations

import queue
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from cxrfeat._backbones import backends, registry
from cxrfeat._backbones.engine import Floats, Images
from cxrfeat._precision import PRECISIONS
from cxrfeat.errors import EngineError

GPU_BATCH, CPU_BATCH = 64, 16
"""Images a call; on a GPU, at 224 pixels."""
LANES = 2
"""Threads a GPU: while one batch is computed, the next one is transferred and waits in the card's queue."""


@dataclass
class KerasEngine:
    """One compiled network per device; see `engine.Engine`."""

    name: str
    batch: int
    streams: int
    networks: queue.SimpleQueue[tuple[str, backends.Compiled]]

    def run(self, images: Images) -> tuple[Floats, ...]:
        """See `engine.Engine.run`. Every call of the network has the same shape, so that it is compiled once.

        Where a card's memory does not hold a batch, the batch is halved, and stays so.
        """
        parts: list[list[Floats]] = []
        start = 0
        device, network = self.networks.get()
        try:
            while start < len(images):
                batch = self.batch
                try:
                    with backends.keras().device(device):
                        parts.append(_run(network, images[start : start + batch], batch))
                except Exception as error:
                    if not backends.out_of_memory(error):
                        raise
                    if batch == 1:
                        raise EngineError(
                            f"the memory of {device} does not hold one image of {images.shape[1]} pixels. Take a "
                            "smaller `size`, or `engine=openvino`."
                        ) from error
                    self.batch = min(self.batch, batch // 2)  # for all streams from now on
                    continue
                start += batch
        finally:
            self.networks.put((device, network))
        return tuple(np.concatenate(output) for output in zip(*parts, strict=True))


def _run(network: backends.Compiled, images: Images, batch: int) -> list[Floats]:
    rows = len(images)
    if rows < batch:
        images = np.concatenate([images, np.zeros((batch - rows, *images.shape[1:]), images.dtype)])
    return [values[:rows] for values in network(images[..., None])]


def gpus() -> int:
    """How many GPUs Keras's backend sees."""
    devices = backends.backend().devices()
    return len(devices) if backends.on_gpu(devices) else 0


def batch_of(size: int, on_gpu: bool) -> int:
    """Images a call: what keeps a GPU busy and fits its memory is about the same number of pixels at every size."""
    if not on_gpu:
        return CPU_BATCH
    return 1 << max(0, int(np.log2(GPU_BATCH * (registry.DEFAULT_SIZE / size) ** 2)))


def open_engine(
    build: Callable[[], Any],
    outputs: tuple[str, ...],
    size: int,
    precision: str = "float32",
    devices: list[str] | None = None,
) -> KerasEngine:
    """Place a copy of the network that `build` makes on every device: every GPU, or the CPU where there is none.

    Each is compiled, and the size of a batch found, before the first image is read.
    """
    keras, backend = backends.keras(), backends.backend()
    devices = devices or backend.devices()
    on_gpu = backends.on_gpu(devices)
    backend.exact(precision == "float32")
    before = keras.mixed_precision.dtype_policy()
    networks: queue.SimpleQueue[tuple[str, backends.Compiled]] = queue.SimpleQueue()
    try:
        if precision != "float32":
            keras.mixed_precision.set_dtype_policy(PRECISIONS[precision].dtype)
        placed = []
        for device in devices:
            with keras.device(device):
                network = build()
                kind = network.input.dtype
                wanted = keras.Model(network.inputs[0], network.outputs[: len(outputs)])
                placed.append((device, backend.compile(wanted)))
    finally:
        keras.mixed_precision.set_dtype_policy(before)
    lanes = LANES if on_gpu else 1
    for pair in placed * lanes:
        networks.put(pair)
    kinds = "GPU" if on_gpu else "CPU"
    where = kinds if len(devices) == 1 else f"{len(devices)} x {kinds}"
    name = f"Keras on {backends.version()}, {where}, {precision}"
    engine = KerasEngine(name, batch_of(size, on_gpu), len(devices) * lanes, networks)
    for _ in devices:
        engine.run(np.zeros((engine.batch, size, size), kind))
    return engine
