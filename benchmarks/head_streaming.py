"""The logistic head on a collection that does not fit into memory, beside a plain read of the same bytes.

Rows and labels are drawn as in head_logistic.py and written as a collection of embedding files, which is removed
afterwards. A process of its own fits the head from the disk; its peak is that of the kernel (VmHWM), everything
included. The page cache is emptied of the collection before every pass, for `numpy.fromfile` too. At a size that fits
into memory both ways are fitted to compare their objectives.

    python benchmarks/head_streaming.py [--rows 4000000] [--compare 600000] [--folder /tmp]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import head_logistic
import numpy as np

from cxrfeat._heads.base import Task
from cxrfeat._heads.linear import LogisticHead
from cxrfeat._heads.solver.rows import READ_BYTES, FileRows, MatrixRows
from cxrfeat._heads.weighting import weigh
from cxrfeat._labels import NIH_LABELS
from cxrfeat._recipe import Recipe
from cxrfeat._store import EmbeddingFile
from cxrfeat._store.hdf5.writer import write
from cxrfeat._store.rows import Header
from cxrfeat.cache import collect

MEMBER = 250_000  # rows of a file


def draw(folder: Path, rows: int, dim: int) -> None:
    """Write the collection `rows` and its labels."""
    recipe = Recipe("densenet121", "random:0", "0" * 64, "relu", "torch", 224)
    y = head_logistic.labels(None, rows).astype(np.float32)
    np.save(folder / "y.npy", y)
    members = []
    for part, start in enumerate(range(0, rows, MEMBER), start=1):
        some = y[start : start + MEMBER]
        x = head_logistic.embeddings(some, dim, part=part)
        ids = np.array([f"{start + k:08d}" for k in range(len(some))], dtype="S8")
        header = Header(recipe.to_json(), "{}", (1, len(some), dim), ids, np.zeros((len(some), 32), np.uint8), [])
        members.append(folder / f"part-{part:03d}.h5")
        write(members[-1], header, (x[None, at : at + 4096] for at in range(0, len(x), 4096)))
    collect(members, folder / "rows")


def forget(folder: Path) -> None:
    """Empty the page cache of the collection."""
    os.sync()
    for path in folder.rglob("*.h5"):
        with path.open("rb") as raw:
            os.posix_fadvise(raw.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


class Timed(FileRows):
    """Rows that note how long each pass takes, from a cold start."""

    folder: Path
    passes: list[float]

    def blocks(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Every block once."""
        forget(self.folder)
        start = time.perf_counter()
        yield from super().blocks()
        self.passes.append(time.perf_counter() - start)


def fit(folder: Path, rows: int, in_memory: bool) -> None:
    """Fit, and print what it took."""
    y = np.load(folder / "y.npy", mmap_mode="r")[:rows]
    with EmbeddingFile(folder / "rows") as file:
        source = Timed([file], [(0, np.arange(rows)[None])])
        source.folder, source.passes = folder, []
        held = MatrixRows(source.whole()) if in_memory else source
        source.passes.clear()
        start = time.perf_counter()
        task = Task(held, np.array(y), np.zeros(0, str), weigh(y, NIH_LABELS, "paper"), rows)
        fitted = LogisticHead.fit(task, LogisticHead.Settings())
        seconds = time.perf_counter() - start
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    found = {"seconds": seconds, "passes": source.passes, "peak": int(status["VmHWM"].split()[0]) * 1024,
             "sweeps": fitted.notes["sweeps"], "objective": list(fitted.notes["objective"].values()),
             "converged": fitted.converged}  # fmt: skip
    print(json.dumps(found))


def child(folder: Path, rows: int, way: str) -> dict:
    """Fit in a process of its own."""
    command = [sys.executable, __file__, "--folder", str(folder), "--rows", str(rows), "--fit", way]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def plain(folder: Path) -> float:
    """Seconds of `numpy.fromfile` over the files of the collection, from a cold start."""
    forget(folder)
    start = time.perf_counter()
    for path in sorted((folder / "rows").glob("*.h5")):
        with path.open("rb") as raw:
            while len(np.fromfile(raw, np.float32, READ_BYTES // 4)):
                pass
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=4_000_000)
    parser.add_argument("--compare", type=int, default=600_000, help="rows that are fitted in memory too")
    parser.add_argument("--folder", type=Path, help="where the rows are drawn to; 17 GB for 4 M")
    parser.add_argument("--drawn", type=Path, help="rows are drawn to this folder once, used again and left there")
    parser.add_argument("--fit", choices=("disk", "memory"), help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "head_streaming.json")
    args = parser.parse_args()
    if args.fit:
        return fit(args.folder, args.rows, args.fit == "memory")
    dim, compare = head_logistic.DIM, min(args.compare, args.rows)
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = args.drawn or Path(name)
        if not (folder / "rows").is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            start = time.perf_counter()
            draw(folder, args.rows, dim)
            print(f"drawn in {time.perf_counter() - start:.0f} s", file=sys.stderr)
        small = {way: child(folder, compare, way) for way in ("memory", "disk")}
        print(small, file=sys.stderr)
        before = plain(folder)
        large = child(folder, args.rows, "disk")
        print(large, file=sys.stderr)
        read = statistics.mean([before, plain(folder)])
    size = args.rows * dim * 4
    gap = max(abs(a / b - 1) for a, b in zip(small["disk"]["objective"], small["memory"]["objective"], strict=True))
    each = statistics.median(large["passes"])
    table = [
        {"what": f"a pass over {args.rows:,} x {dim:,} ({size / 1e9:.1f} GB), beside numpy.fromfile, cold",
         "ours": each, "peer": read, "ratio": each / read, "unit": "s"},
        {"what": "passes to the optimum", "ours": large["sweeps"], "unit": "passes"},
        {"what": f"{len(NIH_LABELS)} labels to the optimum", "ours": large["seconds"], "unit": "s"},
        {"what": "peak memory of the process, beside the matrix", "ours": large["peak"] / 1e6, "peer": size / 1e6,
         "ratio": large["peak"] / size, "unit": "MB"},
        {"what": f"largest relative difference of an objective from that in memory, {compare:,} rows", "ours": gap,
         "unit": ""},
    ]  # fmt: skip
    result = {
        "name": "head_streaming",
        "claim": "4 M x 1,024 in 2 GB, at the same optimum within 1e-6, with a pass beside a plain read of the bytes",
        "rows": table,
        "converged": large["converged"],
        "seconds_of_passes": large["passes"],
        "machine": {"cores": os.cpu_count(), "processor": platform.machine(), "numpy": np.__version__},
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for row in table:
        print({key: value for key, value in row.items()})


if __name__ == "__main__":
    main()
