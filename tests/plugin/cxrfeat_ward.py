"""A backbone, a dataset, a head and a metric, one declaration each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

import cxrfeat as cxr


def build_tiny(input_tensor, include_top, weights, width):
    """A network of two convolutions, one of them with an activation that few converters know."""
    from keras import Model, layers

    x = layers.Conv2D(width, 8, strides=8, padding="same", activation="gelu")(input_tensor)
    x = layers.Conv2D(2 * width, 4, strides=4, padding="same", activation="relu", name="features")(x)
    return Model(input_tensor, x)


TINY = cxr.Backbone(
    "tiny", "cxrfeat_ward:build_tiny", dim=32, layer="features", preprocessing="unit", arguments={"width": 16}, size=96
)


def read_ward(source, images=None):
    """Films and reports as a ward keeps them: `ward.tsv`, with a label wherever the report names the finding."""
    table = pd.read_csv(source / "ward.tsv", sep="\t", dtype=str)
    labels = ("Effusion", "Infiltration")
    found = {label: table["report"].str.contains(label).astype(float) for label in labels}
    path = (images.absolute().as_posix() if images else "films") + "/" + table["film"]
    study = pd.DataFrame({"image_id": table["film"], "path": path, "patient_id": table["patient"]})
    return study.assign(ward=table["ward"], **found), labels


WARD = cxr.Dataset(
    title="a folder of our ward",
    recognises=lambda source: (source / "ward.tsv").is_file(),
    read=read_ward,
    metadata=("ward",),
)


class NearestMean(cxr.Head):
    """Whether an embedding is nearer to the mean of the positives or to that of the negatives."""

    kind = "nearest-mean"
    grid = {"scale": (0.1, 1.0)}  # noqa: RUF012
    takes_weights = False

    @dataclass(frozen=True)
    class Settings:
        """`scale` multiplies the logits."""

        scale: float = 1.0

    def __init__(self, labels, coefficients, intercepts):
        super().__init__(labels, coefficients.shape[1])
        self.coefficients, self.intercepts = coefficients, intercepts

    @classmethod
    def fit(cls, task, settings, *, resume=False, progress=None):
        means = [
            np.stack([task.x[task.y[:, k] == value].mean(axis=0) for k in range(task.y.shape[1])]) for value in (1, 0)
        ]
        coefficients = settings.scale * (means[0] - means[1])
        return cls(task.labels, coefficients, -(coefficients * (means[0] + means[1]) / 2).sum(axis=1))

    @property
    def linear(self):
        return self.coefficients, self.intercepts

    def _logits(self, x):
        return x @ self.coefficients.T + self.intercepts

    def save(self, folder):
        np.savez(folder / "means.npz", coefficients=self.coefficients, intercepts=self.intercepts)
        return ["means.npz"]

    @classmethod
    def load(cls, folder, labels, state):
        with np.load(folder / "means.npz") as arrays:
            return cls(labels, arrays["coefficients"], arrays["intercepts"])


YOUDEN = cxr.Metric(
    name="youden",
    heading="J",
    about="Youden's index: sensitivity + specificity - 1.",
    sums=(
        lambda positive, p, threshold: positive & (p >= threshold),
        lambda positive, p, threshold: ~positive & (p < threshold),
        lambda positive, p, threshold: positive,
        lambda positive, p, threshold: ~positive,
    ),
    formula=lambda tp, tn, positives, negatives: tp / positives + tn / negatives - 1,
    bounds=(-1.0, 1.0),
    needs_threshold=True,
)
