"""The backbones: what each is called, how wide its embedding is, where its maps come from, what input it wants."""

from __future__ import annotations

from dataclasses import dataclass

from cxrfeat.errors import CxrfeatError


@dataclass(frozen=True)
class Backbone:
    """A network of keras.applications, without its classifier.

    Attributes
    ----------
    name : str
        Ours.
    builder : str
        The function's name in keras.applications.
    dim : int
        Width of the embedding: channels of the last feature map.
    cam_layer : str
        The layer whose global average is the embedding, and whose map class activation maps are made of.
    stride : int
        Input pixels per map cell, so that the map of an input of 224 is 224 / stride wide, rounded up.
    preprocessing : str
        Its own mode in keras.applications.
    weights_url, weights_md5 : str
        Keras's official ImageNet weights without the classifier, and the hash Keras checks them by.
    """

    name: str
    builder: str
    dim: int
    cam_layer: str
    stride: int
    preprocessing: str
    weights_url: str
    weights_md5: str

    @property
    def weights_file(self) -> str:
        """The official weights' file name, in Keras's own download folder."""
        return self.weights_url.rpartition("/")[2]


_KERAS = "https://storage.googleapis.com/tensorflow/keras-applications"

BACKBONES: dict[str, Backbone] = {
    backbone.name: backbone
    for backbone in (
        Backbone(
            "densenet121",
            "DenseNet121",
            1024,
            "relu",
            32,
            "torch",
            f"{_KERAS}/densenet/densenet121_weights_tf_dim_ordering_tf_kernels_notop.h5",
            "30ee3e1110167f948a6b9946edeeb738",
        ),
        Backbone(
            "resnet50",
            "ResNet50",
            2048,
            "conv5_block3_out",
            32,
            "caffe",
            f"{_KERAS}/resnet/resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
            "4d473c1dd8becc155b73f8504c6f6626",
        ),
    )
}
"""Every backbone there is, by name."""
DEFAULT_SIZE = 224
MIN_SIZE = 32


def get(name: str) -> Backbone:
    """Return the backbone of that name.

    Raises
    ------
    CxrfeatError
        If there is none.
    """
    if name not in BACKBONES:
        raise CxrfeatError(f"no backbone {name!r}; there are {', '.join(BACKBONES)}.")
    return BACKBONES[name]
