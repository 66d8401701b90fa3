"""What a recipe chooses by name: normalisation, geometry, interpolation, augmentation policy.

No numpy is imported here, since help texts show the names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cxrfeat._recipe import DEFAULTS
from cxrfeat.errors import RecipeError

GEOMETRIES = ("stretch", "crop", "pad")
"""How an oblong picture becomes a square."""

VOIS = ("file", "full", "percentile")
"""What of a picture's values becomes black and white."""

PERCENTILES = (0.5, 99.5)
"""Of a picture's pixels, black and white under `percentile`."""


@dataclass(frozen=True)
class Filter:
    """How a picture is resized: the library's name for it, and whether the result keeps fractions of a grey value.

    Where it does, the network gets float32, else uint8.
    """

    library: str
    name: str = ""
    floats: bool = False

    @property
    def dtype(self) -> str:
        """Type of the network's input."""
        return "float32" if self.floats else "uint8"


FILTERS: dict[str, Filter] = {
    "area": Filter("opencv", "INTER_AREA"),
    "linear": Filter("opencv", "INTER_LINEAR"),
    "cubic": Filter("opencv", "INTER_CUBIC"),
    "nearest": Filter("opencv", "INTER_NEAREST_EXACT"),
    # torchvision's Resize on a Pillow image, which most PyTorch checkpoints were trained with.
    "pillow-bilinear": Filter("pillow", "BILINEAR"),
    "pillow-bicubic": Filter("pillow", "BICUBIC"),
    # torch.nn.functional.interpolate(mode="bilinear", antialias=True).
    "torch-bilinear": Filter("pillow", "BILINEAR", floats=True),
    # The two engines of TorchXRayVision's XRayResizer.
    "skimage": Filter("scipy", floats=True),
    "opencv-area": Filter("opencv", "INTER_AREA", floats=True),
    # scikit-image's `resize` before 0.15, which smoothed nothing: that of the Keras re-implementation of CheXNet.
    "opencv-linear": Filter("opencv", "INTER_LINEAR", floats=True),
}
"""Every `interpolation`, by name; those that are named after a package give its values to rounding."""


@dataclass(frozen=True)
class Normalisation:
    """Channel c of the network's input is `grey * scale[c] + offset[c]`, grey in 0..255, c in the backbone's order.

    The network has as many input channels as there are scales.
    """

    scale: tuple[float, ...] = (1.0, 1.0, 1.0)
    offset: tuple[float, ...] = (0.0, 0.0, 0.0)


NORMALISATION: dict[str, Normalisation] = {
    # keras.applications.imagenet_utils.preprocess_input, modes "torch" and "caffe" (BGR order), on equal channels.
    "torch": Normalisation(
        (1 / (255 * 0.229), 1 / (255 * 0.224), 1 / (255 * 0.225)), (-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225)
    ),
    "caffe": Normalisation(offset=(-103.939, -116.779, -123.68)),
    # Mode "tf": [-1, 1].
    "tf": Normalisation((1 / 127.5,) * 3, (-1.0,) * 3),
    # The reference paper's: [0, 1], whatever the backbone was trained with.
    "unit": Normalisation((1 / 255, 1 / 255, 1 / 255)),
    # TorchXRayVision's `normalize`: [-1024, 1024], one channel.
    "xrv": Normalisation((2048 / 255,), (-1024.0,)),
    # RAD-DINO's and EVA-X's own mean and standard deviation.
    "rad-dino": Normalisation((1 / (255 * 0.2583),) * 3, (-0.5307 / 0.2583,) * 3),
    "eva-x": Normalisation((1 / (255 * 0.28509309),) * 3, (-0.49185243 / 0.28509309,) * 3),
    # As it is, for networks that scale their input themselves.
    "raw": Normalisation(),
}
"""Every preprocessing, by name. A new one is an entry here: recipes, networks and the command's choices follow."""


@dataclass(frozen=True)
class Policy:
    """Ranges of a random affine; every draw is uniform.

    Rotation and shear are drawn from [-x, x] degrees, shifts from [-x, x] of width and height, zoom from
    [1 - x, 1 + x] for both axes; `flip` is the probability of a horizontal mirror. Beyond the picture is black
    (`border` `constant`) or its edge, repeated (`nearest`). The name is for people; the ranges decide.
    """

    name: str
    rotation: float = 0.0
    shift_x: float = 0.0
    shift_y: float = 0.0
    shear: float = 0.0
    zoom: float = 0.0
    flip: float = 0.0
    border: str = "constant"


POLICIES: dict[str, Policy] = {
    policy.name: policy
    for policy in (
        # Positioning differs this much between two films of one patient. No mirror: the heart is on the left, and a
        # mirrored film is not a film that a hospital makes.
        Policy("mild", rotation=5, shift_x=0.05, shift_y=0.05, shear=2, zoom=0.05),
        # The six operations the reference paper names or shows, without ranges: these are Keras tutorials' usual ones.
        Policy("paper", rotation=10, shift_x=0.1, shift_y=0.1, shear=5.7, zoom=0.1, flip=0.5, border="nearest"),
    )
}
DEFAULT_POLICY = DEFAULTS["policy"]


def policy_of(augmentation: Mapping[str, Any] | str) -> Policy:
    """Return the policy of that name, or of the ranges that a recipe has as its `augmentation`."""
    if isinstance(augmentation, str):
        if augmentation not in POLICIES:
            raise RecipeError(f"unknown augmentation policy {augmentation!r}; choose one of {', '.join(POLICIES)}.")
        return POLICIES[augmentation]
    try:
        return Policy(**augmentation)
    except TypeError as error:
        raise RecipeError(f"the recipe's augmentation is not one this version knows: {error}.") from error
