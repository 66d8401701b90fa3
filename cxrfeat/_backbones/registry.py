"""The backbones: one entry says everything about a network that the rest of cxrfeat needs to know."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from cxrfeat._registry import Registry

DEFAULT_SIZE = 224
ENGINES = ("auto", "openvino", "tensorflow")


@dataclass(frozen=True)
class Backbone:
    """A frozen network: how it is built, which layer gives its embedding, what input and which weights it takes.

    An entry is all that a new backbone needs. Extraction, heads, maps and sanity checks follow from it. A package adds
    one under the entry point group `cxrfeat.backbones`; the entry point's name is the backbone's.

    Parameters
    ----------
    name : str
        What users type.
    builder : callable or str
        Called as `builder(input_tensor=..., include_top=False, weights=None, **arguments)`, it returns a Keras model
        without its classifier, as the functions of `keras.applications` do. As a string `module:function`, it is
        imported when the network is built.
    dim : int
        Width of the embedding: channels of `layer`.
    layer : str
        The layer whose global average is the embedding, and whose output (n, rows, columns, dim) maps are made of;
        `output` is the network's last.
    preprocessing : str
        How grey values become the three input channels: `torch`, `caffe` or `unit`; `raw` leaves 0 to 255 to networks
        that scale their input themselves.
    arguments : mapping, optional
        More arguments of `builder`.
    size, min_size : int
        Default and smallest side of the input, pixels.
    stride : int
        Input pixels per cell of the map.
    first_centre : float, optional
        Centre of the first cell's receptive field, in input pixels. By default it is derived from the strides and
        paddings of the network's layers.
    weights_url, weights_hash : str, optional
        Official ImageNet weights without the classifier, and their hash as `md5:...` or `sha256:...`. Without them the
        backbone takes random weights and files of the user's.

    Examples
    --------
    >>> import cxrfeat as cxr
    >>> vgg = cxr.Backbone("vgg16", "keras.applications:VGG16", dim=512, layer="block5_pool", preprocessing="caffe")
    >>> vgg.size, vgg.stride
    (224, 32)
    """

    name: str
    builder: Callable[..., Any] | str
    dim: int
    layer: str = "output"
    preprocessing: str = "torch"
    arguments: Mapping[str, Any] = field(default_factory=dict)
    size: int = DEFAULT_SIZE
    min_size: int = 32
    stride: int = 32
    first_centre: float | None = None
    weights_url: str = ""
    weights_hash: str = ""

    def takes(self, preprocessing: str) -> bool:
        """Whether the network runs with a preprocessing: one that scales its input itself takes only `raw`.

        Parameters
        ----------
        preprocessing : str
            Name of a normalisation.
        """
        return (preprocessing == "raw") == (self.preprocessing == "raw")

    @property
    def weights_file(self) -> str:
        """The official weights' file name, in Keras's own download folder."""
        return self.weights_url.rpartition("/")[2]

    @property
    def sha256(self) -> str:
        """Hash of what decides the network: what is kept for an entry is not used for another of the same name."""
        builder = self.builder if isinstance(self.builder, str) else f"{self.builder.__module__}:{self.builder!r}"
        kept = {**asdict(self), "builder": builder.partition(" at 0x")[0], "weights_url": "", "weights_hash": ""}
        return hashlib.sha256(repr(sorted(kept.items())).encode()).hexdigest()


_KERAS = "https://storage.googleapis.com/tensorflow/keras-applications"

DENSENET121 = Backbone(
    "densenet121",
    "keras.applications:DenseNet121",
    dim=1024,
    layer="relu",
    first_centre=14.0,
    weights_url=f"{_KERAS}/densenet/densenet121_weights_tf_dim_ordering_tf_kernels_notop.h5",
    weights_hash="md5:30ee3e1110167f948a6b9946edeeb738",
)
RESNET50 = Backbone(
    "resnet50",
    "keras.applications:ResNet50",
    dim=2048,
    layer="conv5_block3_out",
    preprocessing="caffe",
    first_centre=0.0,
    weights_url=f"{_KERAS}/resnet/resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
    weights_hash="md5:4d473c1dd8becc155b73f8504c6f6626",
)
EFFICIENTNETV2B0 = Backbone(
    "efficientnetv2b0",
    "keras.applications:EfficientNetV2B0",
    dim=1280,
    preprocessing="raw",
    weights_url=f"{_KERAS}/efficientnet_v2/efficientnetv2-b0_notop.h5",
    weights_hash="md5:893217f2bb855e2983157299931e43ff",
)
CONVNEXTTINY = Backbone(
    "convnexttiny",
    "keras.applications:ConvNeXtTiny",
    dim=768,
    preprocessing="raw",
    weights_url=f"{_KERAS}/convnext/convnext_tiny_notop.h5",
    weights_hash="sha256:d547c096cabd03329d7be5562c5e14798aa39ed24b474157cef5e85ab9e49ef1",
)

BACKBONES: Registry[Backbone] = Registry(
    "backbone",
    "cxrfeat.backbones",
    {name: f"{__name__}:{name.upper()}" for name in ("densenet121", "resnet50", "efficientnetv2b0", "convnexttiny")},
)
"""Every backbone, by name; those of other installed packages too."""


def get(name: str) -> Backbone:
    """Return the backbone of that name.

    Raises
    ------
    CxrfeatError
        If there is none.
    """
    return BACKBONES[name]
