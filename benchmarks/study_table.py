"""Reading and splitting the whole label table, and how alike the splits are: ours and scikit-learn's group folds."""

from __future__ import annotations

import gzip
import sys
import tempfile
import time
from pathlib import Path

import harness
import numpy as np

from cxrfeat._labels import NIH_LABELS

# Share of the release's 112,120 images with each label, in the order of NIH_LABELS.
PREVALENCE = [0.103, 0.025, 0.119, 0.177, 0.052, 0.056, 0.013, 0.047, 0.042, 0.021, 0.022, 0.015, 0.030, 0.002]
MEASURE = """
import json, sys
import numpy as np
def report(y, patients, test, **more):
    assert not set(patients[test]) & set(patients[~test])
    off = np.abs(y[test].sum(0) / y.sum(0) / 0.2 - 1)
    more["images per patient"] = [float(part.sum() / len(set(patients[part]))) for part in (~test, test)]
    for name in ("AP", "first"):
        more[name] = [float(np.mean(more[name][part])) for part in (~test, test)]
    print(json.dumps({"images": len(y), "worst": float(off.max()), "size": float(test.mean()), **more}))
"""
OURS = """
import cxrfeat as cxr
study = cxr.read_study(sys.argv[1], missing="keep", resplit=True)
ap, first = (study.table["view"] == "AP").to_numpy(), (study.table["follow_up"] == 0).to_numpy()
report(study.y, study.patients, study.table["split"].to_numpy() == "test", AP=ap, first=first)
"""
# The nearest thing in scikit-learn: folds by group, stratified by one class, here the rarest finding of an image.
PEER = """
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold
table = pd.read_csv(sys.argv[1])
y = table["Finding Labels"].str.get_dummies("|").drop(columns="No Finding", errors="ignore").to_numpy()
rarest = np.argsort(y.sum(0))
one = np.where(y.any(1), y[:, rarest].argmax(1) + 1, 0)
patients = table["Patient ID"].to_numpy()
folds = StratifiedGroupKFold(5, shuffle=True, random_state=0).split(y, one, patients)
test = np.zeros(len(y), bool)
test[next(folds)[1]] = True
ap, first = (table["View Position"] == "AP").to_numpy(), (table["Follow-up #"] == 0).to_numpy()
report(y, patients, test, AP=ap, first=first)
"""


def made_up(path: Path, images: int = 112_120, patients: int = 30_805) -> Path:
    """Write a table of the release's size, its labels drawn independently, where the real one is not at hand."""
    rng = np.random.default_rng(0)
    who = np.sort(np.concatenate([np.arange(patients), rng.integers(0, patients, images - patients)]))
    y = rng.random((images, len(NIH_LABELS))) < PREVALENCE
    lines = ["Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position"]
    for i in range(images):
        names = "|".join(np.array(NIH_LABELS)[y[i]]) or "No Finding"
        lines.append(f"{i:08d}_000.png,{names},{i % 4},{who[i]},50,M,{'AP' if i % 5 < 2 else 'PA'}")
    path.write_bytes(gzip.compress("\n".join(lines).encode(), 1))
    return path


def main() -> None:
    options = harness.parser(__doc__)
    options.add_argument("--table", type=Path, default=harness.DATA / "nih-tables" / "Data_Entry_2017_v2020.csv.gz")
    options.add_argument("--repeats", type=int, default=5)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        real = given.table.is_file()
        table = given.table if real else made_up(Path(name) / "Data_Entry_2017_v2020.csv.gz")
        found: dict[str, list[tuple[float, dict]]] = {"cxrfeat, 70:10:20": [], "scikit-learn StratifiedGroupKFold": []}
        for _ in range(given.repeats):  # in turn
            for (_, runs), code in zip(found.items(), (OURS, PEER), strict=True):
                begun = time.perf_counter()
                result = harness.run_json([sys.executable, "-c", MEASURE + code, table])
                runs.append((time.perf_counter() - begun, result))
    rows = [
        {
            "what": what,
            "images": runs[0][1]["images"],
            "seconds, whole process": harness.median([seconds for seconds, _ in runs]),
            "test share": round(runs[0][1]["size"], 4),
            "label furthest off its share": f"{runs[0][1]['worst']:.2%}",
            "images per patient, rest and test": "{:.2f}, {:.2f}".format(*runs[0][1]["images per patient"]),
            "AP, rest and test": "{:.1%}, {:.1%}".format(*runs[0][1]["AP"]),
            "first films, rest and test": "{:.1%}, {:.1%}".format(*runs[0][1]["first"]),
        }
        for what, runs in found.items()
    ]
    notes = "" if real else "Measured on a made-up table of the release's size."
    harness.save(
        "study_table",
        "the full table is read and split by patient in under 3 s, every label in proportion and the splits alike",
        rows,
        notes,
    )


if __name__ == "__main__":
    main()
