"""Evaluation of millions of images: every metric of 14 labels with a patient bootstrap, time and peak memory.

    python benchmarks/evaluate_scale.py [--rows 25596 1000000 10000000] [--replicates 64] [--loop 10000]

Labels have the prevalences of ChestX-ray14, 3.3 images a patient; scores are float32 and made up. Each size has a
process of its own: `rows_of` with draws, which is what `evaluate` shows of all images, and calibration and thresholds
on the same images. Beside it, at `--loop` images, a loop over scikit-learn's roc_auc_score on the same draws.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time

import harness
import numpy as np
from _evaluation import PREVALENCE
from sklearn.metrics import roc_auc_score

from cxrfeat._evaluate.bootstrap import bootstrap, draw
from cxrfeat._evaluate.metrics import METRICS
from cxrfeat._evaluate.rows import resampled, rows_of
from cxrfeat._evaluate.scored import Scored
from cxrfeat._heads.decision import Rule, calibrate, choose, logit
from cxrfeat._labels import NIH_LABELS


def made_up(rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth int8 and probabilities float32 (rows, 14), patients int32."""
    rng = np.random.default_rng(0)
    y, p = np.empty((rows, 14), np.int8), np.empty((rows, 14), np.float32)
    for start in range(0, rows, 2**18):
        part = slice(start, min(start + 2**18, rows))
        shape = y[part].shape
        y[part] = rng.random(shape, dtype=np.float32) < np.array(PREVALENCE, np.float32)
        p[part] = 1 / (1 + np.exp(2 - rng.standard_normal(shape, dtype=np.float32) - np.float32(1.2) * y[part]))
    return y, p, rng.integers(0, max(rows * 3 // 10, 1), rows).astype(np.int32)


def peak() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)


def measure(rows: int, replicates: int) -> dict:
    """Seconds and peak GiB of each step of one size."""
    y, p, patients = made_up(rows)
    ids = np.broadcast_to(np.array("x"), rows)  # not looked at
    scored = Scored(NIH_LABELS, y, p, ids, patients, np.full(14, 0.5))
    found: dict = {"images": rows, "patients": scored.patients_of(), "replicates": replicates, "inputs_GiB": peak()}
    begun, cpu = time.perf_counter(), time.process_time()
    draws = resampled(scored, replicates, 0)
    found["bootstrap_seconds"], found["of_a_core"] = (
        round(x, 1) for x in (time.perf_counter() - begun, time.process_time() - cpu)
    )
    begun = time.perf_counter()
    rows_of(scored, draws)
    found["rows_seconds"], found["evaluation_peak_GiB"] = round(time.perf_counter() - begun, 1), peak()
    begun = time.perf_counter()
    for j in range(14):  # a label at a time, as float64, which is how a fit has its validation split
        truth, score = scored.label(j)
        calibrate(truth[:, None], logit(score)[:, None], "platt", "val")
        choose(truth[:, None], score[:, None], Rule("youden"))
    return found | {"calibration_seconds": round(time.perf_counter() - begun, 1), "peak_GiB": peak()}


def beside_a_loop(rows: int, replicates: int, timed: int = 3) -> dict:
    """Ours and a loop over scikit-learn's AUROC, scaled from a few replicates to as many."""
    y, p, patients = made_up(rows)
    begun = time.perf_counter()
    found = bootstrap(y, p, patients, np.full(14, 0.5), replicates)
    ours = time.perf_counter() - begun
    names, of = np.unique(patients, return_inverse=True)
    begun, worst = time.perf_counter(), 0.0
    for b in range(timed):
        at = np.repeat(np.arange(rows), draw(len(names), 0, 0)[:, b].astype(int)[of])
        for j in range(14):
            worst = max(worst, abs(roc_auc_score(y[at, j], p[at, j]) - found.draws["auroc"][b, j]))
    loop = (time.perf_counter() - begun) * replicates / timed
    return {
        "images": rows,
        "replicates": replicates,
        "ours_seconds_of_all_metrics": round(ours, 1),
        "loop_seconds_of_auroc": round(loop, 1),
        "largest_difference_of_auroc": worst,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[25_596, 1_000_000, 10_000_000])
    parser.add_argument("--replicates", type=int, default=64)
    parser.add_argument("--loop", type=int, default=10_000)
    parser.add_argument("--only", type=int, help="measure this size in this process")
    options = parser.parse_args()
    if options.only:
        print(json.dumps(measure(options.only, options.replicates)))
        return
    here = [sys.executable, __file__, "--replicates", options.replicates, "--only"]
    rows = [harness.run_json([*here, size]) for size in options.rows]
    rows.append(beside_a_loop(options.loop, options.replicates))
    metrics = sum(metric.interval for metric in METRICS)
    claim = f"10 million images of 14 labels are evaluated in 4 GiB: {metrics} metrics with intervals over patients"
    harness.save("evaluate_scale", claim, rows)


if __name__ == "__main__":
    main()
