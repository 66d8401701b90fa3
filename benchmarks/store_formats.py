"""The same embeddings in every form that cxrfeat reads: size, and seconds to read all rows in the file's order.

Every byte is checked by ours. Other tools read the Parquet file, and must get every bit of it; they check nothing.
"""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import replace
from pathlib import Path

import harness
import numpy as np
import store_read

import cxrfeat
from cxrfeat import cache
from cxrfeat._store import EmbeddingFile, Writer, names

OURS = """
import hashlib, json, sys, time
from cxrfeat._store import EmbeddingFile
began = time.perf_counter()
with EmbeddingFile(sys.argv[1]) as file:
    x, ids = file.to_numpy(), file.image_ids
seconds = time.perf_counter() - began
print(json.dumps({"seconds": seconds, "sha256": hashlib.sha256(x.tobytes()).hexdigest()}))
"""
READERS = {
    "pyarrow": """
import pyarrow, pyarrow.parquet
t = pyarrow.parquet.read_table(path, filters=[("pass", "=", 0)])
x, version = t["embedding"].combine_chunks().flatten().to_numpy(), pyarrow.__version__
""",
    "duckdb": """
import duckdb, numpy
t = duckdb.sql(f"SELECT image_id, embedding FROM '{path}' WHERE pass = 0").fetchnumpy()
x, version = numpy.stack(t["embedding"]), duckdb.__version__
""",
    "polars": """
import polars
t = polars.scan_parquet(path).filter(polars.col("pass") == 0).collect()
x, version = t["embedding"].to_numpy(), polars.__version__
""",
}
PEER = """
import hashlib, json, sys, time
path = sys.argv[1]
began = time.perf_counter()
{code}
seconds = time.perf_counter() - began
print(json.dumps({{"seconds": seconds, "version": version, "sha256": hashlib.sha256(x.tobytes()).hexdigest()}}))
"""


def make(folder: Path, images: int, dim: int) -> dict[str, Path]:
    """Write the forms; returns their paths."""
    store_read.make(folder, images, dim)
    ids, x = np.load(folder / "ids.npy"), np.load(folder / "x.npy", mmap_mode="r")
    recipe = replace(cxrfeat.Recipe(**cache.info(folder / "a.h5")["recipe"]), storage="float16")
    with EmbeddingFile(folder / "a.h5") as file, Writer.open(folder / "half.h5", recipe, dim, {}, 4096) as writer:
        for part, values in file.batches():
            writer.append(ids[part], file.image_sha256(ids[part]), values)
        writer.publish(ids)
    cache.export(folder / "a.h5", folder / "a.parquet")
    parts = np.array_split(np.arange(images), 10)
    files = [folder / "parts" / f"{k}.h5" for k in range(len(parts))]
    for path, part in zip(files, parts, strict=True):
        cache.import_(x[part], path, ids=ids[part], backbone="densenet121").close()
    cache.collect(files, folder / "all")
    forms = {"HDF5, float32": "a.h5", "HDF5, float16": "half.h5", "Parquet": "a.parquet", "ten files, collected": "all"}
    return {form: folder / name for form, name in forms.items()}


def main() -> None:
    options = harness.parser(__doc__)
    options.add_argument("--rows", type=int, default=112_120)
    options.add_argument("--dim", type=int, default=1024)
    options.add_argument("--rounds", type=int, default=5)
    given = options.parse_args()
    python = harness.peer_python("readers", ["pyarrow", "duckdb", "polars", "numpy", "pandas"])
    with tempfile.TemporaryDirectory() as name:
        forms = make(Path(name), given.rows, given.dim)
        true = hashlib.sha256(np.load(Path(name, "x.npy"), mmap_mode="r")).hexdigest()
        found: dict = {key: [] for key in (*forms, *(READERS if python else ()))}
        for _ in range(given.rounds + 1):  # the first round warms the page cache
            for form, path in forms.items():
                found[form].append(harness.run_json([harness.sys.executable, "-c", OURS, path]))
            for reader in found.keys() - forms.keys():
                code = PEER.format(code=READERS[reader])
                found[reader].append(harness.run_json([python, "-c", code, forms["Parquet"]]))
        sizes = {form: names.size(path) for form, path in forms.items()}
    exact = found["HDF5, float32"][1:]
    rows = []
    for what, runs in found.items():
        row = {"read": f"{what} {runs[0]['version']}, Parquet" if what in READERS else what}
        row["bytes by float32"] = round(sizes.get(what, sizes["Parquet"]) / sizes["HDF5, float32"], 4)
        row["seconds"] = harness.median([run["seconds"] for run in runs[1:]])
        pairs = zip(runs[1:], exact, strict=True)
        row["seconds by HDF5, float32"] = harness.median([a["seconds"] / b["seconds"] for a, b in pairs])
        row["every bit"] = runs[0]["sha256"] == true
        rows.append(row)
    claim = "float16 takes half the space; a Parquet export is read by other tools bit for bit"
    note = f"{given.rows:,} x {given.dim:,} values. Page cache warm."
    harness.save("store_formats", claim, rows, note)


if __name__ == "__main__":
    main()
