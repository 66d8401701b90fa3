"""Labels and scores of the size of NIH's official test list, for the benchmarks of evaluation."""

from __future__ import annotations

import numpy as np
import pandas as pd

from cxrfeat._labels import NIH_LABELS

IMAGES = 25_596
# Share of positives in the full table of ChestX-ray14, in the order of NIH_LABELS.
PREVALENCE = (0.103, 0.025, 0.119, 0.177, 0.052, 0.056, 0.013, 0.047, 0.042, 0.021, 0.022, 0.015, 0.030, 0.002)


def official_size(table: str | None, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
    """Truth (25,596, 14), probabilities and patients, and where they are from."""
    rng = np.random.default_rng(seed)
    if table:
        rows = pd.read_csv(table, usecols=["Finding Labels", "Patient ID"])
        order = rng.permutation(rows["Patient ID"].unique())
        rows = rows.set_index("Patient ID").loc[order].reset_index().iloc[:IMAGES]
        found = rows["Finding Labels"].str.get_dummies("|").reindex(columns=list(NIH_LABELS), fill_value=0)
        y, patients, origin = found.to_numpy(dtype=float), rows["Patient ID"].to_numpy(), "labels of ChestX-ray14"
    else:
        y = (rng.random((IMAGES, 14)) < PREVALENCE).astype(float)
        patients, origin = rng.integers(0, 2797, IMAGES), "labels made up with the prevalences of ChestX-ray14"
    p = 1 / (1 + np.exp(-(rng.normal(size=y.shape) + 1.2 * y - 2)))
    return y, p, patients, origin
