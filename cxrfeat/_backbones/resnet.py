"""ResNet50 as PyTorch builds it, known as version 1.5.

Keras's ResNet50 strides in the first 1 x 1 convolution of a stage, and its convolutions have biases. torchvision
strides in the 3 x 3 one, has no biases, and an epsilon of 1e-5, so neither's weights fit the other's graph. Layers are
called as Keras calls them. Padding is in layers of its own: symmetric, as PyTorch's is at every input size.
"""

from __future__ import annotations

from typing import Any


def resnet50_v15(input_tensor: Any, include_top: bool = False, weights: None = None) -> Any:
    """Build the network without its classifier; the arguments are those of `keras.applications`."""
    import keras
    from keras import layers

    def convolution(x: Any, name: str, width: int, side: int, stride: int = 1) -> Any:
        if side > 1:
            x = layers.ZeroPadding2D(side // 2, name=f"{name}_pad")(x)
        x = layers.Conv2D(width, side, strides=stride, use_bias=False, name=f"{name}_conv")(x)
        return layers.BatchNormalization(epsilon=1e-5, name=f"{name}_bn")(x)

    def activated(x: Any, name: str) -> Any:
        return layers.Activation("relu", name=name)(x)

    x = activated(convolution(input_tensor, "conv1", 64, 7, 2), "conv1_relu")
    x = layers.ZeroPadding2D(1, name="pool1_pad")(x)  # zeros are below nothing after the activation
    x = layers.MaxPooling2D(3, strides=2, name="pool1_pool")(x)
    for stage, blocks in enumerate((3, 4, 6, 3), 2):
        width = 16 * 2**stage
        for block in range(1, blocks + 1):
            name, stride = f"conv{stage}_block{block}", 2 if stage > 2 and block == 1 else 1
            shortcut = convolution(x, f"{name}_0", 4 * width, 1, stride) if block == 1 else x
            y = activated(convolution(x, f"{name}_1", width, 1), f"{name}_1_relu")
            y = activated(convolution(y, f"{name}_2", width, 3, stride), f"{name}_2_relu")
            y = convolution(y, f"{name}_3", 4 * width, 1)
            x = activated(layers.Add(name=f"{name}_add")([shortcut, y]), f"{name}_out")
    return keras.Model(keras.utils.get_source_inputs(input_tensor), x, name="resnet50-v1.5")
