"""The TensorFlow engine: for GPUs, one copy of the network on each, compiled by XLA there.

Float32 means float32: TensorFloat-32, which Nvidia cards would use unasked, is switched off, since it moves embeddings
in the third decimal. A recipe of precision `float16` or `bfloat16` asks for speed instead.
"""

from __future__ import annotations

import queue
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from cxrfeat._backbones import registry
from cxrfeat._backbones.engine import Floats, Images
from cxrfeat.errors import EngineError

GPU_BATCH, CPU_BATCH = 64, 16
"""Images a call; on a GPU, at 224 pixels."""


@dataclass
class TensorFlowEngine:
    """One compiled function per device; see `engine.Engine`."""

    name: str
    batch: int
    streams: int
    outputs: tuple[str, ...]
    networks: queue.SimpleQueue[Any]

    def run(self, images: Images) -> tuple[Floats, ...]:
        """See `engine.Engine.run`. Every call of the network has the same shape, so that it is compiled once.

        Where a card's memory does not hold a batch, the batch is halved, and stays so.
        """
        import tensorflow as tf

        parts: list[tuple[Floats, ...]] = []
        start = 0
        device, network = self.networks.get()
        try:
            while start < len(images):
                batch = self.batch
                try:
                    with tf.device(device):
                        parts.append(_run(network, images[start : start + batch], batch))
                except tf.errors.ResourceExhaustedError as error:
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
        return tuple(np.concatenate([part[i] for part in parts]) for i in range(len(self.outputs)))


def _run(network: Any, images: Images, batch: int) -> tuple[Floats, ...]:
    import tensorflow as tf

    rows = len(images)
    if rows < batch:
        images = np.concatenate([images, np.zeros((batch - rows, *images.shape[1:]), images.dtype)])
    return tuple(values.numpy()[:rows] for values in network(tf.constant(images[..., None])))


def gpus() -> list[Any]:
    """The GPUs that TensorFlow sees."""
    import tensorflow as tf

    return list(tf.config.list_physical_devices("GPU"))


def batch_of(size: int) -> int:
    """Images a call: what keeps a GPU busy and fits its memory is about the same number of pixels at every size."""
    if not gpus():
        return CPU_BATCH
    return 1 << max(0, int(np.log2(GPU_BATCH * (registry.DEFAULT_SIZE / size) ** 2)))


def open_engine(
    build: Callable[[], Any],
    outputs: tuple[str, ...],
    size: int,
    precision: str = "float32",
    devices: list[str] | None = None,
) -> TensorFlowEngine:
    """Place a copy of the network that `build` makes on every device: every GPU, or the CPU where there is none."""
    import keras
    import tensorflow as tf

    found = gpus()
    for card in found:
        try:
            tf.config.experimental.set_memory_growth(card, True)
        except RuntimeError:  # already initialised by the caller, whose choice stands
            break
    tf.config.experimental.enable_tensor_float_32_execution(precision != "float32")
    devices = devices or [device.name for device in tf.config.list_logical_devices("GPU" if found else "CPU")]
    on_gpu = "GPU" in devices[0].upper()
    before = keras.mixed_precision.dtype_policy()
    networks: queue.SimpleQueue[Any] = queue.SimpleQueue()
    try:
        if precision != "float32":
            keras.mixed_precision.set_dtype_policy(f"mixed_{precision}")
        for device in devices:
            with tf.device(device):
                networks.put((device, _function(build(), outputs, compiled=on_gpu)))
    finally:
        keras.mixed_precision.set_dtype_policy(before)
    kind = f"{len(devices)} x GPU, XLA" if on_gpu else "CPU" if len(devices) == 1 else f"{len(devices)} x CPU"
    name = f"TensorFlow {tf.__version__}, {kind}, {precision}"
    return TensorFlowEngine(name, batch_of(size), len(devices), outputs, networks)


def _function(network: Any, outputs: tuple[str, ...], compiled: bool) -> Any:
    import tensorflow as tf

    order = [("embedding", "map").index(name) for name in outputs]

    @tf.function(jit_compile=compiled)
    def run(image: Any) -> tuple[Any, ...]:
        found = network(image, training=False)
        return tuple(tf.cast(found[i], tf.float32) for i in order)

    return run
