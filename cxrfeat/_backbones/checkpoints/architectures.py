"""The layers with weights of the networks that checkpoints are of, in Keras's names and shapes.

They are listed here and not asked of the Keras graph, since building that takes ten seconds. A test compares the two.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Layer:
    """One layer: its name in Keras and in torchvision, and its kernel's shape, or the width of a normalisation."""

    name: str
    torch: str
    shape: tuple[int, ...]

    @property
    def normalises(self) -> bool:
        """Whether it is a batch normalisation and not a convolution."""
        return len(self.shape) == 1


def densenet121(channels: int = 3, blocks: tuple[int, ...] = (6, 12, 24, 16)) -> Iterator[Layer]:
    """Huang et al., "Densely Connected Convolutional Networks", 2017: blocks of 6, 12, 24 and 16, growth 32."""
    yield Layer("conv1_conv", "features.conv0", (7, 7, channels, 64))
    yield Layer("conv1_bn", "features.norm0", (64,))
    width = 64
    for block, layers in enumerate(blocks, 1):
        for number in range(1, layers + 1):
            name, torch = f"conv{block + 1}_block{number}", f"features.denseblock{block}.denselayer{number}"
            yield Layer(f"{name}_0_bn", f"{torch}.norm1", (width,))
            yield Layer(f"{name}_1_conv", f"{torch}.conv1", (1, 1, width, 128))
            yield Layer(f"{name}_1_bn", f"{torch}.norm2", (128,))
            yield Layer(f"{name}_2_conv", f"{torch}.conv2", (3, 3, 128, 32))
            width += 32
        if block < len(blocks):
            yield Layer(f"pool{block + 1}_bn", f"features.transition{block}.norm", (width,))
            yield Layer(f"pool{block + 1}_conv", f"features.transition{block}.conv", (1, 1, width, width // 2))
            width //= 2
    yield Layer("bn", "features.norm5", (width,))


def resnet50(channels: int = 3, stages: tuple[int, ...] = (3, 4, 6, 3)) -> Iterator[Layer]:
    """He et al., "Deep Residual Learning for Image Recognition", 2016: blocks of 3, 4, 6 and 3 bottlenecks."""
    yield Layer("conv1_conv", "conv1", (7, 7, channels, 64))
    yield Layer("conv1_bn", "bn1", (64,))
    width = 64
    for stage, blocks in enumerate(stages, 1):
        inner = 32 * 2**stage
        for number in range(blocks):
            name, torch = f"conv{stage + 1}_block{number + 1}", f"layer{stage}.{number}"
            for part, shape in enumerate(((1, 1, width, inner), (3, 3, inner, inner), (1, 1, inner, 4 * inner)), 1):
                if part == 3 and number == 0:  # where Keras lists the shortcut
                    yield Layer(f"{name}_0_conv", f"{torch}.downsample.0", (1, 1, width, 4 * inner))
                yield Layer(f"{name}_{part}_conv", f"{torch}.conv{part}", shape)
                if part == 3 and number == 0:
                    yield Layer(f"{name}_0_bn", f"{torch}.downsample.1", (4 * inner,))
                yield Layer(f"{name}_{part}_bn", f"{torch}.bn{part}", shape[-1:])
            width = 4 * inner
