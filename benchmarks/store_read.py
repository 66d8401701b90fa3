"""Opening an embedding file of ChestX-ray14's size and joining its rows to a study, beside `numpy.load` of the matrix.

Ours finds every row by its id and checks a checksum over every byte that it returns; `numpy.load` does neither, so the
peer of the shuffled case is `numpy.load`, then `matrix[rows]` with the rows looked up in a dictionary of ids.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import harness
import numpy as np

from cxrfeat._recipe import Recipe
from cxrfeat._store import Writer

COMMON = """
import json, sys, time
import numpy as np
from cxrfeat._store import EmbeddingFile
folder = sys.argv[1]
ids = np.load(folder + "/ids.npy")
order = np.load(folder + "/order.npy")
wanted = ids[order]
def peak():  # VmHWM and not ru_maxrss, which a process inherits from the one that started it
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
before = peak()
began = time.perf_counter()
"""
CODES = {
    ("file order", "ours"): "with EmbeddingFile.open(folder + '/a.h5') as file: x = file.read(ids)",
    ("file order", "numpy.load"): "x = np.load(folder + '/x.npy')",
    ("shuffled study", "ours"): "with EmbeddingFile.open(folder + '/a.h5') as file: x = file.read(wanted)",
    ("shuffled study", "numpy.load"): """
x = np.load(folder + '/x.npy')
rows = dict(zip(ids.tolist(), range(len(ids))))
x = x[[rows[i] for i in wanted.tolist()]]
""",
    ("batches of 4,096", "ours"): """
with EmbeddingFile.open(folder + '/a.h5') as file:
    for rows, x in file.batches(): pass
""",
    ("256 rows at random", "ours"): """
with EmbeddingFile.open(folder + '/a.h5') as file: x = file.read(wanted[:256])
""",
    ("open alone", "ours"): "EmbeddingFile.open(folder + '/a.h5').close()",
}
END = """
print(json.dumps({"seconds": time.perf_counter() - began, "bytes": peak() - before}))
"""


def make(folder: Path, images: int, dim: int) -> int:
    """Write the file, the same matrix as `.npy`, the ids and a shuffled order; returns the file's size."""
    rng = np.random.default_rng(0)
    ids = np.array([f"{i // 7:08d}_{i % 7:03d}.png" for i in range(images)])
    recipe = Recipe("densenet121", "random:0", "0" * 64, "relu", "torch", 224)
    matrix = np.lib.format.open_memmap(folder / "x.npy", mode="w+", dtype=np.float32, shape=(images, dim))
    with Writer.open(folder / "a.h5", recipe, dim, {}, segment_rows=4096) as writer:
        for start in range(0, images, 4096):
            rows = slice(start, min(start + 4096, images))
            values = rng.standard_normal((1, rows.stop - start, dim), dtype=np.float32)
            matrix[rows] = values[0]
            writer.append(ids[rows], rng.integers(1, 256, (rows.stop - start, 32), dtype=np.uint8), values)
        writer.publish(ids)
    matrix.flush()
    np.save(folder / "ids.npy", ids)
    np.save(folder / "order.npy", rng.permutation(images))
    return (folder / "a.h5").stat().st_size


def main() -> None:
    options = harness.parser(__doc__)
    options.add_argument("--rows", type=int, default=112_120)
    options.add_argument("--dim", type=int, default=1024)
    options.add_argument("--rounds", type=int, default=7)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        size = make(Path(name), given.rows, given.dim)
        found: dict = {key: [] for key in CODES}
        for _ in range(given.rounds + 1):  # the first round warms the page cache
            for key, code in CODES.items():
                found[key].append(harness.run_json([harness.sys.executable, "-c", COMMON + code + END, name]))
    rows = []
    for case in dict.fromkeys(case for case, _ in CODES):
        ours, peer = (found.get((case, who), [])[1:] for who in ("ours", "numpy.load"))
        row = {"case": case, "images": given.rows, "dim": given.dim}
        row["ours_seconds"] = harness.median([run["seconds"] for run in ours])
        row["ours_best"] = round(min(run["seconds"] for run in ours), 4)
        row["ours_memory_by_file_size"] = harness.median([run["bytes"] / size for run in ours])
        if peer:
            row["numpy_seconds"] = harness.median([run["seconds"] for run in peer])
            row["numpy_memory_by_file_size"] = harness.median([run["bytes"] / size for run in peer])
            pairs = zip(ours, peer, strict=True)
            row["seconds_by_numpy"] = harness.median([a["seconds"] / b["seconds"] for a, b in pairs])
        rows.append(row)
    claim = (
        "112,120 x 1,024 rows opened and joined to a study in under 1 s and under 1.3 times the file's size in memory"
    )
    harness.save("store_read", claim, rows, "Page cache warm. `numpy.load` checks nothing and knows no ids.")


if __name__ == "__main__":
    main()
