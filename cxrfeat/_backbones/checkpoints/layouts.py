"""Whose checkpoint a file is: one declaration a layout, of how it is recognised and what its network expects.

A layout is found by the architecture, the input channels, the outputs, the file's name and the names of its tensors. A
new one is an entry of `LAYOUTS`; the choices of `import_weights` and of the command follow.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cxrfeat._labels import NIH_LABELS

_TORCHVISION = {"preprocessing": "torch", "size": 224, "interpolation": "pillow-bilinear", "geometry": "crop"}
_XRV = {"preprocessing": "xrv", "size": 224, "interpolation": "skimage", "geometry": "crop"}


@dataclass(frozen=True)
class Layout:
    """One kind of checkpoint.

    Attributes
    ----------
    name : str
        What users type.
    backbone : str
        The entry of the registry that its weights are of.
    naming : str
        How its tensors are called: `torch` or `keras`.
    outputs : tuple of int or None
        How many outputs its classifier may have, None for no classifier; a file with another number is taken for this
        layout only where it is named.
    tensor : str
        A regular expression that one of its tensors' names matches, where files of several layouts are otherwise alike.
    file : str
        A regular expression of its file's name, likewise.
    url, sha256 : str
        Where the published file is, if it can be downloaded, and its hash as `sha256:...`, or the beginning of it, if
        one was published.
    channels, options, labels, op_threshs, trained_on, licence, reference, pretraining
        What the card of such weights says; see `library.Card`.
    """

    name: str
    backbone: str
    naming: str = "torch"
    channels: int = 3
    outputs: tuple[int | None, ...] = (None, 1000)
    tensor: str = ""
    file: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    op_threshs: tuple[float | None, ...] = ()
    trained_on: str = ""
    licence: str = ""
    reference: str = ""
    url: str = ""
    sha256: str = ""
    pretraining: Mapping[str, str] = field(default_factory=dict)


_XRV_ORDER = (
    "Atelectasis", "Consolidation", "Infiltration", "Pneumothorax", "Edema", "Emphysema", "Fibrosis", "Effusion",
    "Pneumonia", "Pleural_Thickening", "Cardiomegaly", "Nodule", "Mass", "Hernia", "Lung Lesion", "Fracture",
    "Lung Opacity", "Enlarged Cardiomediastinum",
)  # fmt: skip
_COHEN_2020 = "Cohen et al., On the limits of cross-domain generalization in automated X-ray prediction, MIDL 2020"
_COHEN_2022 = "Cohen et al., TorchXRayVision: A library of chest X-ray datasets and models, MIDL 2022"
_RAJPURKAR = "Rajpurkar et al., CheXNet, arXiv:1711.05225, as re-implemented in "


def _points(text: str) -> tuple[float | None, ...]:
    """Operating points from a line of numbers, `-` for an output that was not trained."""
    return tuple(None if word == "-" else float(word) for word in text.split())


def _some(*datasets: str) -> dict[str, str]:
    """These datasets were seen in part, and not the part that is published for training."""
    return dict.fromkeys(datasets, "some")


def _torchvision(name: str, backbone: str, weights: str, sha256: str, file: str = "", resize: int = 256) -> Layout:
    """Weights of torchvision's, whose files are called by the beginning of their hash."""
    return Layout(
        f"torchvision-{name}",
        backbone,
        outputs=(1000,),
        file=file,
        options={**_TORCHVISION, "resize": resize},
        trained_on="ImageNet-1k",
        licence="BSD-3-Clause (the repository's)",
        reference=f"torchvision, {weights}",
        url=f"https://download.pytorch.org/models/{name.partition('-')[0]}-{sha256}.pth",
        sha256=f"sha256:{sha256}",
    )


_XRV_RELEASES = "https://github.com/mlmed/torchxrayvision/releases/download/v1"


def _xrv(name: str, trained_on: str, seen: Mapping[str, str], line: str, prefix: str = "") -> Layout:
    """One of the seven releases of TorchXRayVision's DenseNet121: an output without an operating point has no label."""
    points, prefix = _points(line), prefix or name
    return Layout(
        f"xrv-{name}",
        "densenet121",
        channels=1,
        outputs=(len(_XRV_ORDER),),
        file=rf"^{re.escape(prefix)}-densenet121-d121-",
        url=f"{_XRV_RELEASES}/{prefix}-densenet121-d121-tw-lr001-rot45-tr15-sc15-seed0-best.pt",
        options=_XRV,
        labels=tuple(label if point is not None else "" for label, point in zip(_XRV_ORDER, points, strict=True)),
        op_threshs=points,
        trained_on=trained_on,
        licence="Apache-2.0 (the repository's)",
        reference=_COHEN_2020,
        pretraining=seen,
    )


LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (
        _torchvision("densenet121", "densenet121", "DenseNet121_Weights.IMAGENET1K_V1", "a639ec97"),
        _torchvision(
            "resnet50", "resnet50-v1.5", "ResNet50_Weights.IMAGENET1K_V1", "0676ba61", r"^resnet50-(0676ba61|19c8e357)"
        ),
        _torchvision(
            "resnet50-v2", "resnet50-v1.5", "ResNet50_Weights.IMAGENET1K_V2", "11ad3fa6", r"^resnet50-11ad3fa6", 232
        ),
        # Labels and operating points: `model_urls` of torchxrayvision/models.py, version 1.5.
        _xrv(
            "all",
            "NIH, PadChest, CheXpert, MIMIC-CXR, Google, OpenI, RSNA",
            _some("ChestX-ray14", "PadChest", "CheXpert", "MIMIC-CXR", "RSNA"),
            "0.07422872 0.038290843 0.09814756 0.0098118475 0.023601074 0.0022490358 0.010060724 0.103246614 "
            "0.056810737 0.026791653 0.050318155 0.023985857 0.01939503 0.042889766 0.053369623 0.035975814 "
            "0.20204692 0.05015312",
            prefix="nih-pc-chex-mimic_ch-google-openi-kaggle",
        ),
        _xrv(
            "nih",
            "NIH ChestX-ray14",
            _some("ChestX-ray14"),
            "0.039117552 0.0034529066 0.11396341 0.0057298196 0.00045666535 0.0018880932 0.012037827 0.038744126 "
            "0.0037213727 0.014730946 0.016149804 0.054241467 0.037198864 0.0004403434 - - - -",
        ),
        _xrv(
            "pc",
            "PadChest",
            _some("PadChest"),
            "0.031012505 0.013347598 0.081435576 0.001262615 0.002587246 0.0035944257 0.0023071 0.055412333 "
            "0.044385884 0.042766232 0.043258056 0.037629247 0.005658899 0.0091741895 - 0.026507627 - -",
        ),
        _xrv(
            "chex",
            "CheXpert",
            _some("CheXpert"),
            "0.1988969 0.05710573 - 0.0531293 0.1435217 - - 0.27212676 0.07749717 - 0.19712369 - - - 0.09932402 "
            "0.09273402 0.3270967 0.10888247",
        ),
        _xrv(
            "rsna",
            "RSNA Pneumonia Detection Challenge",
            _some("RSNA", "ChestX-ray14"),
            "- - - - - - - - 0.13486601 - - - - - - - 0.13511065 -",
            prefix="kaggle",
        ),
        _xrv(
            "mimic_nb",
            "MIMIC-CXR, NegBio labels",
            _some("MIMIC-CXR"),
            "0.08558747 0.011884617 - 0.0040595434 0.010733786 - - 0.118761964 0.022924708 - 0.06358637 - - - "
            "0.022143636 0.017476924 0.1258702 0.014020768",
        ),
        _xrv(
            "mimic_ch",
            "MIMIC-CXR, CheXpert labels",
            _some("MIMIC-CXR"),
            "0.09121389 0.010573786 - 0.005023008 0.003698257 - - 0.08001232 0.037242252 - 0.05006329 - - - "
            "0.019866971 0.03823637 0.11303808 0.0069147074",
        ),
        Layout(
            "xrv-resnet50-all",
            "resnet50-v1.5",
            channels=1,
            url=f"{_XRV_RELEASES}/pc-nih-rsna-siim-vin-resnet50-test512-e400-state.pt",
            outputs=(len(_XRV_ORDER),),
            options={**_XRV, "size": 512},
            labels=_XRV_ORDER,
            op_threshs=_points(
                "0.51570356 0.50444704 0.53787947 0.50723547 0.5025118 0.5035252 0.5038076 0.51862943 0.5078151 "
                "0.50724894 0.5056339 0.510706 0.5053923 0.5020846 - 0.5080557 0.5138526 -"
            ),
            trained_on="PadChest, NIH, RSNA, SIIM, VinBrain",
            licence="Apache-2.0 (the repository's)",
            reference=_COHEN_2022,
            pretraining=_some("PadChest", "ChestX-ray14", "RSNA", "VinDr-CXR"),
        ),
        Layout(
            "chexnet-weng",
            "densenet121",
            outputs=(14,),
            tensor=r"(^|\.)densenet121\.",
            options={**_TORCHVISION, "resize": 256},
            labels=NIH_LABELS,
            trained_on="NIH ChestX-ray14, a random 70 % and not the official training part",
            licence="none stated",
            reference=_RAJPURKAR + "github.com/arnoweng/CheXNet and github.com/zoogzog/chexnet",
            pretraining=_some("ChestX-ray14"),
        ),
        Layout(
            "chexnet-zech",
            "densenet121",
            outputs=(14,),
            tensor=r"^(module\.)?classifier\.0\.weight$",
            options={**_TORCHVISION, "resize": 224},
            labels=NIH_LABELS,
            trained_on="NIH ChestX-ray14, a training part of its own and not the official one",
            licence="BSD-3-Clause (the repository's)",
            reference=_RAJPURKAR + "github.com/jrzech/reproduce-chexnet",
            pretraining=_some("ChestX-ray14"),
        ),
        Layout(
            "chexnet-keras",
            "densenet121",
            naming="keras",
            outputs=(14,),
            options={"preprocessing": "torch", "size": 224, "interpolation": "opencv-linear", "geometry": "stretch"},
            labels=NIH_LABELS,
            trained_on="NIH ChestX-ray14, a training part of its own and not the official one",
            licence="MIT (the repository's)",
            reference=_RAJPURKAR + "github.com/brucechou1983/CheXNet-Keras",
            pretraining=_some("ChestX-ray14"),
        ),
        Layout("keras-densenet121", "densenet121", "keras"),
        Layout("keras-resnet50", "resnet50", "keras"),
        Layout("keras-resnet50-v1.5", "resnet50-v1.5", "keras"),
    )
}
"""Every layout, by name."""
