"""How often 95 % intervals hold the truth: where images of a patient are alike, and where few patients are positive.

    python benchmarks/evaluate_coverage.py [--simulations 1000] [--replicates 500]

Each simulated test set has 100 patients with 3 images each. A score is 1 for the finding, plus a level of the
patient's, plus noise, with unit total variance, so that the true AUROC is Phi(1 / sqrt 2) = 0.760; `alike` is the share
of variance that is the patient's. The finding is the patient's (in all three images) or the image's (in some of them,
at least one).

`interval` is the one that is reported (`auroc_interval`); beside it DeLong's, which takes images for independent, and
plain percentiles of the bootstrap over patients. `difference` is the reported interval of the difference to a second
score of the same quality. The other metrics' are the reported bootstrap intervals, with a threshold of 0.5; they exist
from 10 positive patients on. Their truth is that of a million images.

With `--several` the test set has several labels, and what is counted are the intervals that `compare` reports of macro
and micro averages (`macro`, `micro`), and of the difference of every metric to a second score of the same quality: its
macro average, and the labels that have an interval.
"""

from __future__ import annotations

import argparse

import harness
import numpy as np
import pandas as pd
from scipy.stats import norm

from cxrfeat._evaluate import compare, delong
from cxrfeat._evaluate.bootstrap import bootstrap, percentiles, widened
from cxrfeat._evaluate.metrics import OURS
from cxrfeat._evaluate.rows import rows_of
from cxrfeat._evaluate.scored import FEW, Scored

PATIENTS, EACH = 100, 3
# At a threshold of 0.5 `accuracy_at_half` is `accuracy`, and the share of negatives is nearly fixed by the design.
METRICS = tuple(m for m in OURS if m.interval and m.name not in ("accuracy_at_half", "all_negative_accuracy"))


def sample(rng: np.random.Generator, positive: int, alike: float, whole: bool, patients: int = PATIENTS) -> tuple:
    """Truth, two scores and the patient of each image."""
    who, ill = np.repeat(np.arange(patients), EACH), np.arange(patients) < positive
    y = ill[who] & (whole | (rng.random(len(who)) < 0.5))
    y[np.flatnonzero(ill) * EACH] = True
    scores = [
        y + np.sqrt(alike) * rng.normal(size=patients)[who] + np.sqrt(1 - alike) * rng.normal(size=len(who))
        for _ in range(2)
    ]
    return y.astype(float), scores[0], scores[1], who


def simulate(positive: int, alike: float, whole: bool, simulations: int, replicates: int) -> dict:
    rng = np.random.default_rng(0)
    y, score, _, _ = sample(rng, positive * 3000, alike, whole, PATIENTS * 3000)
    truth = {m.name: m(y, norm.cdf(score - 1), 0.5) for m in METRICS} | {"auroc": norm.cdf(1 / np.sqrt(2))}
    share = widened(np.array([min(positive, PATIENTS - positive)]))[0]
    inside: dict[str, list[bool]] = {}
    for k in range(simulations):
        y, score, other, who = sample(rng, positive, alike, whole)
        p = norm.cdf(score - 1)
        draws = bootstrap(y[:, None], p[:, None], who, [0.5], replicates, k, METRICS, threads=1)
        found = {
            "interval": (delong.over_patients(y, p, who)[1:], "auroc"),
            "delong": (delong.interval(y, p)[1:], "auroc"),
            "percentiles": (percentiles(draws.draws["auroc"])[0], "auroc"),
            "difference": (delong.paired(y, score, other, who)[1:3], None),
        }
        if positive >= FEW:
            found |= {m.name: (draws.interval(m, np.full(3, share))[0], m.name) for m in METRICS[1:]}
        for name, ((low, high), of) in found.items():
            inside.setdefault(name, []).append(bool(low <= (truth[of] if of else 0.0) <= high))
    finding = "patient" if whole else "image"
    covered = {name: round(float(np.mean(held)), 3) for name, held in inside.items()}
    return {"finding": finding, "positive_patients": positive, "alike": alike, **covered}


MIXES = {"rare": (2, 4, 8, 12), "mixed": (4, 12, 40), "common": (16, 40, 60)}
"""Positive patients of each label."""


def several(mix: str, alike: float, simulations: int, replicates: int) -> dict:
    """Share of the reported macro, micro and paired intervals of several labels that hold the truth."""

    def scored(rng: np.random.Generator, patients: int) -> list[Scored]:
        drawn = [sample(rng, n * patients // PATIENTS, alike, False, patients) for n in MIXES[mix]]
        y, who = np.stack([one[0] for one in drawn], axis=1), drawn[0][3].astype(str)
        ids, labels = np.arange(len(y)).astype(str), tuple(f"{n} patients" for n in MIXES[mix])
        cuts = np.full(len(labels), 0.5)
        return [
            Scored(
                labels,
                y,
                norm.cdf(np.stack([one[k] for one in drawn], axis=1) - 1),
                ids,
                who,
                cuts,
                name,
                table=pd.DataFrame(index=range(len(y))),
            )
            for k, name in ((1, "a"), (2, "b"))
        ]

    rng = np.random.default_rng(0)
    truth = {row["label"]: row for row in rows_of(scored(rng, PATIENTS * 1000)[0])[-2:]}
    inside: dict[str, list[bool]] = {}

    def count(name: str, span: list[float], value: float) -> None:
        if not np.isnan(span).any():
            inside.setdefault(name, []).append(bool(span[0] <= value <= span[1]))

    for k in range(simulations):
        a, b = scored(rng, PATIENTS)
        found = compare(a, b, replicates=replicates, seed=k)
        for row in found.each[0][-2:]:
            for m in METRICS:
                count(f"{row['label']} {m.name}", row[f"{m.name}_bootstrap"], truth[row["label"]][m.name])
        for row in found.rows:
            over = "macro" if row["label"] == "macro" else "label"
            count(f"{over} auroc difference", row["difference_interval"], 0.0)
            for m in METRICS[1:]:
                count(f"{over} {m.name} difference", row[f"{m.name}_difference_bootstrap"], 0.0)
    covered = {name: round(float(np.mean(held)), 3) for name, held in sorted(inside.items())}
    return {"mix": mix, "positive_patients": str(MIXES[mix]), "alike": alike, **covered}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=1000)
    parser.add_argument("--replicates", type=int, default=500)
    parser.add_argument("--several", action="store_true")
    options = parser.parse_args()
    if options.several:
        rows = []
        for mix in MIXES:
            for alike in (0.0, 0.8):
                rows.append(several(mix, alike, options.simulations, options.replicates))
                print(rows[-1], flush=True)
        rows = [{**row, "simulations": options.simulations, "replicates": options.replicates} for row in rows]
        harness.save("evaluate_coverage_several", "95 % intervals of averages and differences hold the truth", rows)
        return
    rows = []
    for positive in (2, 4, 8, 10, 16, 40):
        for whole in (True, False):
            for alike in (0.0, 0.8):
                rows.append(simulate(positive, alike, whole, options.simulations, options.replicates))
                print(rows[-1], flush=True)
    rows = [{**row, "simulations": options.simulations, "replicates": options.replicates} for row in rows]
    harness.save("evaluate_coverage", "95 % intervals hold the truth with few patients and with images alike", rows)


if __name__ == "__main__":
    main()
