"""The backbones: one entry says everything about a network that the rest of cxrfeat needs to know."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from cxrfeat._backbones.applications import ENTRIES
from cxrfeat._images.choices import NORMALISATION
from cxrfeat._registry import Registry

DEFAULT_SIZE = 224
ENGINES = ("auto", "openvino", "keras")


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
        How grey values become the input channels: `torch`, `caffe`, `tf` or `unit` (three), `xrv` (one); `raw` leaves 0
        to 255 to networks that scale their input themselves.
    geometry, resize, interpolation : str, int, str
        Defaults of the recipe's fields of these names: how the network's authors bring an image to its input. `resize`
        is for the default `size`; it is scaled with the size asked for.
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
    max_size : int
        Largest side of the input; with `min_size` the same, the network takes this size alone.
    default_weights : str
        What `weights="auto"` takes.
    maps : bool
        Whether the embedding is an average of cells, so that there are maps. That of a class token is not.
    onnx : bool
        Whether the network is an imported ONNX file, which OpenVINO runs, and not a Keras model.
    pretraining : mapping, optional
        Which images those weights have seen: a dataset's name, such as `ChestX-ray14`, with `train`, `test`, `all`, or
        `some` where it is not known which. Tables, report and model card then say so of evaluated images.

    Examples
    --------
    >>> import cxrfeat as cxr
    >>> half = {"alpha": 0.5}
    >>> narrow = cxr.Backbone("mobilenet-half", "keras.applications:MobileNet", 512, preprocessing="tf", arguments=half)
    >>> narrow.size, narrow.stride
    (224, 32)
    """

    name: str
    builder: Callable[..., Any] | str
    dim: int
    layer: str = "output"
    preprocessing: str = "torch"
    geometry: str = "stretch"
    resize: int = 0
    interpolation: str = "area"
    arguments: Mapping[str, Any] = field(default_factory=dict)
    size: int = DEFAULT_SIZE
    min_size: int = 32
    stride: int = 32
    first_centre: float | None = None
    weights_url: str = ""
    weights_hash: str = ""
    max_size: int = 8192
    default_weights: str = "imagenet"
    maps: bool = True
    onnx: bool = False
    pretraining: Mapping[str, str] = field(default_factory=dict)

    def takes(self, preprocessing: str) -> bool:
        """Whether the network runs with a preprocessing.

        One that scales its input itself takes only `raw`, and each only those with the channels of its own.

        Parameters
        ----------
        preprocessing : str
            Name of a normalisation.
        """
        channels = len(NORMALISATION[preprocessing].scale) == len(NORMALISATION[self.preprocessing].scale)
        return channels and (preprocessing == "raw") == (self.preprocessing == "raw")

    @property
    def weights_file(self) -> str:
        """The official weights' file name, in Keras's own download folder: the URL's last part, or after a `#`."""
        url, _, name = self.weights_url.partition("#")
        return name or url.rpartition("/")[2]

    @property
    def sha256(self) -> str:
        """Hash of what decides the network: what is kept for an entry is not used for another of the same name."""
        builder = self.builder if isinstance(self.builder, str) else f"{self.builder.__module__}:{self.builder!r}"
        kept = {**asdict(self), "builder": builder.partition(" at 0x")[0], "weights_url": "", "weights_hash": ""}
        for name in ("geometry", "resize", "interpolation", "max_size", "default_weights", "pretraining"):
            # None of these changes the network.
            del kept[name]
        return hashlib.sha256(repr(sorted(kept.items())).encode()).hexdigest()


class _Backbones(Registry[Backbone]):
    """Ours, those of other packages, and the networks that the user imported."""

    @property
    def names(self) -> tuple[str, ...]:
        """Every name, imported networks last."""
        from cxrfeat._backbones import imported

        return (*super().names, *imported.names())

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def __getitem__(self, name: str) -> Backbone:
        from cxrfeat._backbones import imported

        return (name not in super().names and imported.find(name)) or super().__getitem__(name)


BACKBONES: Registry[Backbone] = _Backbones(
    "backbone",
    "cxrfeat.backbones",
    {
        **{name: Backbone(name, **fields) for name, fields in ENTRIES.items()},
        "resnet50-v1.5": Backbone(
            "resnet50-v1.5",
            "cxrfeat._backbones.resnet:resnet50_v15",
            dim=2048,
            layer="conv5_block3_out",
            first_centre=0.0,
        ),
    },
)
"""Every backbone, by name; those of other installed packages too."""

get = BACKBONES.__getitem__
