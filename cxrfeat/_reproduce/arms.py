"""What the paper did and reported, and the two ways in which it is done again."""

from __future__ import annotations

from dataclasses import dataclass

CITATION = "Fan and Bu, Entropy 2022, 24(3):313"
TRAINING_IMAGES, VALIDATION_IMAGES, SIZE = 402, 40, 400
EPOCHS, BATCH, PATIENCE = 80, 16, 10
BEST = "Fibrosis"
BEST_AUROCS = (0.775, 0.68)
"""The highest AUCs that the paper's text names, both of Fibrosis."""


@dataclass(frozen=True)
class Arm:
    """One of the paper's three networks.

    Attributes
    ----------
    key, title : str
        For file names, and for people.
    backbone : str
    augmented : bool
        Whether the head is trained on the augmented passes too.
    training, test : float
        Accuracy that the paper reports in its tables 1 and 2.
    figure : int
        The paper's figure with its ROC curves.
    """

    key: str
    title: str
    backbone: str
    augmented: bool
    training: float
    test: float
    figure: int


@dataclass(frozen=True)
class Way:
    """One way to do it.

    Attributes
    ----------
    key, title : str
    preprocessing : str or None
        None is the backbone's own.
    policy : str
        Of augmentation.
    activation : str
        Of the head.
    calibration : str
    about : str
        What it is, in a sentence.
    """

    key: str
    title: str
    preprocessing: str | None
    policy: str
    activation: str
    calibration: str
    about: str


ARMS = (
    Arm("densenet121", "DenseNet121 without augmentation", "densenet121", False, 0.89, 0.82, 4),
    Arm("densenet121-augmented", "DenseNet121 with augmentation", "densenet121", True, 0.92, 0.84, 5),
    Arm("resnet50-augmented", "ResNet50 with augmentation", "resnet50", True, 0.84, 0.76, 6),
)
WAYS = (
    Way(
        "paper", "The paper's way", "unit", "paper", "softmax", "none",
        "Grey values scaled to [0, 1] whatever the backbone was trained with, the paper's six augmentations with the "
        "mirror, and one softmax over all labels, which lets only one of them be probable.",
    ),
    Way(
        "right", "The right way", None, "mild", "sigmoid", "platt",
        "The scaling each backbone was trained with, a mild augmentation without the mirror, and one sigmoid for each "
        "label, calibrated on validation.",
    ),
)  # fmt: skip
