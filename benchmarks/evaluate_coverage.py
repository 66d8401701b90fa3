"""How often 95 % intervals of an AUROC hold the truth, where images of a patient are alike and where they are not.

    python benchmarks/evaluate_coverage.py [--simulations 2000] [--replicates 1000]

Each simulated test set has 80 patients with 3 images each. A patient has the finding or not (probability 0.4), and so
have all of the patient's images. A score is 1 for the finding, plus a level of the patient's, plus noise, with unit
total variance, so that the true AUROC is Phi(1 / sqrt 2) = 0.760. `alike` is the share of variance that is the
patient's. Four intervals are asked: DeLong's, DeLong's with patients as clusters, and the percentile bootstrap over
images and over patients.
"""

from __future__ import annotations

import argparse

import harness
import numpy as np
from scipy.stats import norm

from cxrfeat._evaluate import delong
from cxrfeat._evaluate.bootstrap import bootstrap

PATIENTS, EACH = 80, 3


def simulate(alike: float, simulations: int, replicates: int) -> dict:
    rng, truth = np.random.default_rng(0), norm.cdf(1 / np.sqrt(2))
    who = np.repeat(np.arange(PATIENTS), EACH)
    inside = dict.fromkeys(("delong", "delong_patients", "bootstrap_images", "bootstrap_patients"), 0)
    for k in range(simulations):
        ill = rng.random(PATIENTS) < 0.4
        level = np.sqrt(alike) * rng.normal(size=PATIENTS)
        y = ill[who].astype(float)
        p = norm.cdf(y + level[who] + np.sqrt(1 - alike) * rng.normal(size=len(who)))
        found = {"delong": delong.interval(y, p)[1:], "delong_patients": delong.interval(y, p, who)[1:]}
        for name, clusters in (("bootstrap_images", np.arange(len(who))), ("bootstrap_patients", who)):
            draws = bootstrap(y[:, None], p[:, None], clusters, [0.5], replicates, seed=k, threads=1)
            found[name] = draws.interval("auroc")[0]
        for name, (low, high) in found.items():
            inside[name] += bool(low <= truth <= high)
    return {"alike": alike, **{name: round(count / simulations, 3) for name, count in inside.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=2000)
    parser.add_argument("--replicates", type=int, default=1000)
    options = parser.parse_args()
    rows = [simulate(alike, options.simulations, options.replicates) for alike in (0.0, 0.4, 0.8)]
    rows = [{**row, "simulations": options.simulations, "replicates": options.replicates} for row in rows]
    harness.save(
        "evaluate_coverage",
        "95 % intervals over patients hold the truth where images of a patient are alike",
        rows,
    )


if __name__ == "__main__":
    main()
