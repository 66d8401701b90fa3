"""What the reference paper did and reported, what its figures imply, and the ways in which it is done again here.

Fan and Bu, "Transfer-Learning-Based Approach for the Diagnosis of Lung Diseases from Chest X-ray Images", Entropy 2022,
24(3):313.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cxrfeat._explain.explainer import MethodName
from cxrfeat._heads.registry import PRESETS

CITATION = "Fan and Bu, Entropy 2022, 24(3):313"
TRAINING_IMAGES, VALIDATION_IMAGES, SIZE = 402, 40, 400
EPOCHS, BATCH, PATIENCE = 80, 16, 10
FIGURE_7 = {"Nodule": 0.763, "Edema": 0.593}
"""Two probabilities of one image in its Figure 7."""


@dataclass(frozen=True)
class Arm:
    """One of the paper's three networks, for file names and for people.

    With the accuracies of its tables 1 and 2, the figure with its ROC curves, and what the text says of a label's
    AUROC.
    """

    key: str
    title: str
    backbone: str
    augmented: bool
    training: float
    test: float
    figure: int
    aurocs: Mapping[str, str]


@dataclass(frozen=True)
class Way:
    """One way to do it, for file names and for people, and what it is in a sentence.

    With options of the recipe and of the Keras head, and the maps' method.
    """

    key: str
    title: str
    about: str
    recipe: Mapping[str, Any] = field(default_factory=dict)
    head: Mapping[str, Any] = field(default_factory=dict)
    maps: MethodName = "paper"


_BELOW = "below 0.5"
ARMS = (
    Arm(
        "densenet121", "DenseNet121 without augmentation", "densenet121", False, 0.89, 0.82, 4,
        {
            "Cardiomegaly": "0.51", "Emphysema": _BELOW, "Infiltration": _BELOW, "Pneumothorax": _BELOW,
            "Pleural_Thickening": _BELOW, "Pneumonia": _BELOW,
        },
    ),
    Arm(
        "densenet121-augmented", "DenseNet121 with augmentation", "densenet121", True, 0.92, 0.84, 5,
        {"Fibrosis": "0.775, the highest", "Nodule": "slightly above 0.5", "Infiltration": "slightly above 0.5"},
    ),
    Arm(
        "resnet50-augmented", "ResNet50 with augmentation", "resnet50", True, 0.84, 0.76, 6,
        {"Fibrosis": "0.68, the highest", "Emphysema": _BELOW, "Pneumothorax": _BELOW, "Pneumonia": _BELOW},
    ),
)  # fmt: skip
ABOVE_HALF = {"densenet121": 9, "densenet121-augmented": 14, "resnet50-augmented": 11}
"""Labels with an AUROC of 0.5 or more, of 14: the paper names those below."""

_PRESET = PRESETS["paper"]
_TEXT = {"settings": _PRESET["settings"], "weighting": _PRESET["weighting"], "calibration": _PRESET["calibration"]}
_UNIT = {"preprocessing": "unit", "policy": "paper", "interpolation": "nearest"}
WAYS = (
    Way(
        "paper", "The paper's text",
        "Grey values scaled to [0, 1], nearest resizing, six augmentations with the mirror, one softmax over all "
        "labels, class weights that favour the rare class, training until its accuracy has not risen for 10 epochs.",
        _UNIT, _TEXT,
    ),
    Way(
        "sigmoid", "The paper with sigmoids",
        "The same, but for one sigmoid per label, which the probabilities in its Figure 7 need.",
        _UNIT, {**_TEXT, "settings": {**_PRESET["settings"], "activation": "sigmoid"}},
    ),
    Way(
        "literal", "The paper's weights to the letter",
        "The paper's text, but for the class weights as its formula reads: a positive weighs as much as positives are "
        "frequent.",
        _UNIT, {**_TEXT, "weighting": "paper-literal"},
    ),
    Way(
        "right", "The right way",
        "The scaling each backbone was trained with, a mild augmentation without the mirror, one sigmoid per label, "
        "early stopping by validation loss, calibration on validation.",
        {"policy": "mild"}, {"settings": {"activation": "sigmoid"}, "weighting": "paper", "calibration": "platt"},
        "auto",
    ),
)  # fmt: skip

DEVIATIONS = (
    (
        "images", "402 for training, 40 for validation; how many for testing, and which, is not said", "",
        "the study's splits, by patient; a list of images can be given", "the lists are not published",
    ),
    (
        "backbone", "a feature extractor, not fine-tuned (section 2)",
        "a training loss of almost 0 (Figure 3): possible, with more features than images",
        "frozen", "as the paper says",
    ),
    ("grey values", "scaled to [0, 1]", "", "the same; the right way scales as each backbone was trained", ""),
    ("resizing", "to 400x400 by Keras's generator, whose default is nearest", "", "the same; the right way averages",
     ""),
    (
        "augmentation",
        "rotation, shifts, mirror and shear are named as common, without ranges; drawn anew in each epoch",
        "shift and zoom were used (Figure 2)",
        "all six, in our own ranges; fixed passes beside the original, so that an epoch has that many more steps",
        "embeddings are computed once; new draws in each epoch would run the network in each epoch",
    ),
    (
        "class weights", "positives weighted by the frequency of positives, negatives by that of negatives",
        "its aim, to handle rare classes, needs the opposite",
        "the opposite (Wang et al. 2017), and the formula to the letter in a way of its own", "both are compared",
    ),
    (
        "output", "one softmax over 14 labels",
        "0.763 for Nodule and 0.593 for Edema in one image (Figure 7), more than 1 together: no single softmax",
        "softmax, and sigmoids in a way of their own", "both are compared",
    ),
    ("optimiser", "Adam; its rate is not said", "", "Adam at 0.001, Keras's default", "not said"),
    ("epochs", "80, batches of 16", "", "the same", ""),
    (
        "early stopping", "after 10 epochs without better accuracy; of which images is not said",
        "about 80 epochs, as the validation loss rises from 1 to almost 5 (Figure 3): training accuracy",
        "by training accuracy; the right way by validation loss", "",
    ),
    (
        "accuracy", "of tables 1 and 2: right labels over all images and labels, at 0.5", "",
        "that, and the one that Keras shows: for 14 outputs, images whose largest output is their first label",
        "table 1 may be either",
    ),
    (
        "intervals", "none, and the number of test images is not said", "",
        "95 % over patients, and what the paper's own numbers would have for several numbers of test images", "",
    ),
    (
        "maps", "of images at random; gradients of the network's output times the last layer's activations", "",
        "test images at random; the same formula; the right way by the closed form", "",
    ),
)  # fmt: skip
"""Of what, what the paper says, what its figures imply, what is done here, and why."""
