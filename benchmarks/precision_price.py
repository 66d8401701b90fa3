"""What reduced precision costs: embeddings of the same films in each precision against float32, and heads on both.

The films are a study with its own splits: int8 is quantised on the training films. All films are compared, and heads
are cross-validated by patient. Weights are random, or those that `--weights` names, one for each backbone.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import harness
import numpy as np

import cxrfeat as cxr
from cxrfeat import _sample as sample
from cxrfeat._backbones import library
from cxrfeat._precision import PRECISIONS
from cxrfeat.errors import EngineError

BACKBONES = ("densenet121", "resnet50")
BOUNDS = {"bfloat16": 0.001, "float16": 0.001, "int8": 0.004}


def main() -> None:
    options = harness.parser(__doc__)
    options.add_argument("--size", type=int, nargs="+", default=[224])
    options.add_argument("--weights", nargs=len(BACKBONES), default=["random:0"] * len(BACKBONES))
    options.add_argument("--precision", nargs="+", choices=list(PRECISIONS)[1:], default=list(PRECISIONS)[1:])
    given = options.parse_args()
    study = cxr.read_study(given.images.parent) if given.images.is_dir() else sample.study()
    together = study.with_splits(np.full(len(study), ""))
    rows = []
    for size in given.size:
        for backbone, weights in zip(BACKBONES, given.weights, strict=True):
            with tempfile.TemporaryDirectory() as folder:
                os.environ["CXRFEAT_WEIGHTS"] = folder if weights.startswith("random:") else str(library.folder())
                common = {"backbone": backbone, "weights": weights, "size": size}
                exact = cxr.extract(study, out=Path(folder, "float32.h5"), **common).path
                changes = [*({"precision": precision} for precision in given.precision), {"storage": "float16"}]
                for change in changes:
                    row = {
                        "backbone": backbone,
                        "size": size,
                        "precision": change.get("precision", "float32, stored in float16"),
                    }
                    rows.append(row | price(study, together, exact, Path(folder), common | change))
    films = "films of ChestX-ray14" if given.images.is_dir() else "films of the embedded sample"
    harness.save(
        "precision_price",
        "bfloat16 moves the macro AUROC by at most .001 and int8 by at most .004",
        rows,
        f"{len(study)} {films}, weights {', '.join(dict.fromkeys(given.weights))}. `over sd`: root mean square of a "
        "feature's difference from float32 over its standard deviation, median and worst feature. `neighbours`: share "
        "of the ten nearest films that both give. AUROC: of logistic heads, on films of patients that they were not "
        "fitted on; `moved`: against float32, with the 95 % interval of a paired bootstrap over patients. The "
        "intervals are wider than the bounds: `within` is about the estimate. With random weights an AUROC is no "
        "result.",
    )


def price(study: cxr.Study, together: cxr.Study, exact: Path, folder: Path, options: dict) -> dict:
    """One precision against float32; what this processor or the gate refuses is said instead."""
    try:
        name = options.get("precision", "stored")
        done = cxr.extract(study, out=folder / f"{name}.h5", **options)
    except EngineError as error:
        return {"refused": str(error).partition(". Take")[0]}
    found = cxr.cache.compare(exact, done.path, study=together)
    distances, macro = found.distances, found.heads.rows[-1]
    row = {
        "over sd, median": round(distances.over_sd, 4),
        "over sd, worst": round(distances.over_sd_worst, 3),
        "neighbours": round(distances.neighbours, 3),
        **auroc(macro),
        "within": abs(macro["difference"]) <= BOUNDS[options.get("precision", options.get("storage"))],
    }
    if done.recipe.network_sha256:
        card = library.by_values(done.recipe.backbone, done.recipe.network_sha256)
        row["layers in float32"] = len(card.network["float32"])
    return row


def auroc(macro: dict) -> dict:
    low, high = macro["difference_interval"]
    return {
        "AUROC, float32": round(macro["auroc_baseline"], 4),
        "AUROC": round(macro["auroc"], 4),
        "moved": f"{macro['difference']:+.4f} ({low:+.4f} to {high:+.4f})",
    }


if __name__ == "__main__":
    main()
