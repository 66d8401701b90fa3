"""What ids cost: a study of many rows read, checked, split, and joined to its embeddings; time and peak memory of each.

    python benchmarks/ids.py [--rows 1000000 10000000]

The table is made up: ids like those of ChestX-ray14, 3.3 images a patient, 14 labels. Each size has a process of its
own; the peak is of the step, over what the process held before it (Linux).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness
import numpy as np
import pandas as pd
from _evaluation import PREVALENCE

from cxrfeat._labels import NIH_LABELS
from cxrfeat._project import _hashes
from cxrfeat._split import assign
from cxrfeat._store.ids import Ids
from cxrfeat._study import Study, check, check_leakage, read_study_file


def made_up(rows: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    patient = np.sort(rng.integers(0, rows * 3 // 10, rows))
    number = np.arange(rows)
    ids = pd.Series(number).astype(str).str.zfill(9) + "_000.png"
    table = pd.DataFrame({"image_id": ids, "path": "images/" + ids})
    table["patient_id"] = "p" + pd.Series(patient).astype(str)
    table["split"] = pd.Series(np.array(["train", "val", "test"])[patient % 10 // 8 + (patient % 10 == 9)]).astype(str)
    table["view"] = pd.Series(np.array(["AP", "PA"])[rng.integers(0, 2, rows)]).astype(str)
    for label, share in zip(NIH_LABELS, PREVALENCE, strict=True):
        table[label] = (rng.random(rows) < share).astype(float)
    return table


def status(key: str) -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) / 2**20  # GiB


def measure(rows: int, folder: Path) -> dict[str, Any]:
    """Seconds and GiB of each step."""
    found: dict[str, Any] = {"rows": rows}

    def step(name: str, work: Callable[..., Any], *given: Any) -> Any:
        Path("/proc/self/clear_refs").write_text("5")
        before, begun, cpu = status("VmRSS"), time.perf_counter(), time.process_time()
        result = work(*given)
        took = f"{time.perf_counter() - begun:.1f} s ({time.process_time() - cpu:.1f} s of a core)"
        found[name] = f"{took}, {max(0.0, status('VmHWM') - before):.2f} GiB"
        print(name, found[name], file=sys.stderr, flush=True)
        return result

    table = made_up(rows)
    y, patients = table[list(NIH_LABELS)].to_numpy(), table["patient_id"].to_numpy(dtype=str)
    step("split by patient", assign, y, patients)
    del y, patients
    step("check of a study", check, table, NIH_LABELS, "study")
    step("no patient in two splits", check_leakage, table)
    study = Study(table, NIH_LABELS, "study", folder)
    del table
    endings = [".parquet", *([".csv"] if rows <= 2_000_000 else [])]
    for ending in endings:
        step(f"write {ending}", study.save, folder / f"study{ending}")
    test = step("take one split", study.split, "test")
    ids = test.ids[np.random.default_rng(1).permutation(len(test))]
    step("rows by id, a tenth of them", study.join, ids)
    del test, ids
    texts = study.ids.astype(np.bytes_)
    held = Ids(texts)
    step("join to embeddings, same order", held.find, study.ids)
    other = study.ids[np.random.default_rng(2).permutation(rows)]
    step("join to embeddings, any order", held.find, other)
    del held, other, texts
    step("hash of the content", Study.sha256.fget, study)
    step("record of the leakage search", _hashes, study)
    step("describe", study.describe)
    del study
    for ending in endings:
        step(f"read {ending}", read_study_file, folder / f"study{ending}")
        found[f"size of {ending}"] = f"{(folder / f'study{ending}').stat().st_size / 2**20:.0f} MiB"
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--only", type=int, help="measure this size in this process")
    parser.add_argument("--folder", type=Path, help="where the studies are written; by default a temporary folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        if options.only:
            print(json.dumps(measure(options.only, Path(name))))
            return
        here = [sys.executable, __file__, *(["--folder", str(options.folder)] if options.folder else [])]
        found = [harness.run_json([*here, "--only", rows]) for rows in options.rows]
    steps = dict.fromkeys(key for one in found for key in one if key != "rows")
    rows = [{"step": key, **{f"{one['rows']:,} rows": one.get(key, "") for one in found}} for key in steps]
    claim = "10 million rows are read, checked, split and joined by id in memory of a few times the table's own"
    harness.save("ids", claim, rows)


if __name__ == "__main__":
    main()
