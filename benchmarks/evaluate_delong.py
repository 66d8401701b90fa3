"""DeLong intervals of all labels, beside the formula as written (every pair of images), in one run.

    python benchmarks/evaluate_delong.py [--table Data_Entry_2017_v2020.csv.gz] [--label 2]

25,596 images and 14 labels. The formula as written looks at every pair of a positive and a negative; it is timed on one
label, in blocks that fit in memory, and scaled to 14 by the number of pairs.
"""

from __future__ import annotations

import argparse
import time

import harness
import numpy as np
from _evaluation import IMAGES, official_size

from cxrfeat._evaluate import delong


def by_the_formula(y: np.ndarray, score: np.ndarray, block: int = 256) -> tuple[float, float]:
    """AUROC and its variance, equations 3 to 8 of DeLong, DeLong and Clarke-Pearson 1988."""
    x, z = score[y == 1], score[y == 0]
    v10, v01 = np.empty(len(x)), np.zeros(len(z))
    for a in range(0, len(x), block):
        kernel = (x[a : a + block, None] > z) + 0.5 * (x[a : a + block, None] == z)
        v10[a : a + block] = kernel.mean(axis=1)
        v01 += kernel.sum(axis=0)
    v01 /= len(x)
    return float(v10.mean()), float(v10.var(ddof=1) / len(x) + v01.var(ddof=1) / len(z))


def intervals(y: np.ndarray, p: np.ndarray, patients: np.ndarray | None = None) -> list[delong.Interval]:
    if patients is None:
        return [delong.interval(y[:, j], p[:, j]) for j in range(y.shape[1])]
    codes = np.unique(patients, return_inverse=True)[1]
    return [delong.over_patients(y[:, j], p[:, j], codes) for j in range(y.shape[1])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", help="The release's label table.")
    parser.add_argument("--label", type=int, default=2, help="The label that the formula is timed on.")
    options = parser.parse_args()
    y, p, patients, origin = official_size(options.table)
    intervals(y[:100], p[:100])  # imports are warm

    times = []
    for _ in range(7):
        start = time.perf_counter()
        intervals(y, p)
        times.append(time.perf_counter() - start)
    start = time.perf_counter()
    intervals(y, p, patients)
    clustered = time.perf_counter() - start

    j = options.label
    start = time.perf_counter()
    auroc, variance = by_the_formula(y[:, j], p[:, j])
    slow = time.perf_counter() - start
    pairs = y.sum(axis=0) * (len(y) - y.sum(axis=0))
    found, matrix = delong.covariance(y[:, j], p[:, j])
    scaled = slow * pairs.sum() / pairs[j]
    row = {
        "images": IMAGES,
        "labels": y.shape[1],
        "data": origin,
        "ours_seconds": round(min(times), 3),
        "ours_clustered_seconds": round(clustered, 3),
        "formula_seconds": round(scaled, 1),
        "formula_timed_on": "one label, scaled by the number of pairs",
        "ratio": round(scaled / min(times), 1),
        "largest_relative_difference": max(abs(found[0] / auroc - 1), abs(matrix[0, 0] / variance - 1)),
    }
    harness.save("evaluate_delong", "DeLong intervals of 14 labels and 25,596 images in under 0.3 s", [row])


if __name__ == "__main__":
    main()
