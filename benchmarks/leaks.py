"""Copies of films among others: how many are found, how many pairs are wrong, and what comparing all pairs costs.

Two parts. **Found:** films of `--images` (ChestX-ray14 originals), and as many more as make `--films`, each a mix of
three films of different patients, mirrored, turned and zoomed apart. They look like radiographs and are none. Mixes
that share a film may have it in the same place by chance, which makes them partly copies: such pairs are counted apart.
One picture in ten gets a copy under another patient, changed in one of six ways. **Cost:** unit vectors of 1,024
numbers, random but for planted neighbours, against themselves.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import cv2
import harness
import numpy as np
import pandas as pd

CHANGES = {
    "re-encoded as JPEG": lambda g, rng: decoded(g, int(rng.integers(40, 91))),
    "resized": lambda g, rng: cv2.resize(g, (int(rng.integers(300, 800)),) * 2, interpolation=cv2.INTER_AREA),
    "cropped 2 %": lambda g, rng: cropped(g, rng),
    "contrast": lambda g, rng: bounded((g.astype(np.float32) - 128) * rng.choice([0.6, 0.75, 1.3, 1.5]) + 128),
    "gamma": lambda g, rng: bounded(255 * (g / 255) ** rng.choice([0.5, 0.7, 1.5, 2.0])),
    "equalised": lambda g, rng: cv2.equalizeHist(g),
}

FOUND = """
import json, os, sys, time
import cxrfeat as cxr
os.chdir(sys.argv[2])
study = cxr.read_study(sys.argv[1])
start = time.perf_counter()
found = cxr.leaks(study)
pairs = [[row["image_a"], row["image_b"]] for row in found.pairs]
print(json.dumps({"pairs": pairs, "seconds": time.perf_counter() - start, "threshold": found.threshold,
                  "compared": found.compared}))
"""

COST = """
import json, resource, sys, time
import numpy as np
from threadpoolctl import threadpool_limits
from cxrfeat._audit import neighbours
n, dim, planted = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
rng = np.random.default_rng(0)
x = np.empty((n, dim), np.float32)
for start in range(0, n, 8192):
    x[start : start + 8192] = rng.standard_normal((min(8192, n - start), dim), dtype=np.float32)
neighbours.unit(x)
a, b = rng.permutation(n)[: 2 * planted].reshape(2, -1)
x[b] = x[a] + 0.3 / np.sqrt(dim) * rng.standard_normal((planted, dim), dtype=np.float32)
neighbours.unit(x)
with threadpool_limits(2):
    wall, cpu = time.perf_counter(), time.process_time()
    found = neighbours.alike(x, 0.8)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
right = {(min(p), max(p)) for p in zip(a.tolist(), b.tolist())}
exact = right == set(zip(found.a.tolist(), found.b.tolist()))
print(json.dumps({"wall": wall, "cpu": cpu, "exact": exact,
                  "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
"""


def decoded(grey: np.ndarray, quality: int) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_GRAYSCALE)


def cropped(grey: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Up to 2 % of every side, and 2 % of one."""
    top, bottom, left, right = (rng.permutation([1.0, *rng.random(3)]) * 0.02 * len(grey)).round().astype(int)
    return grey[top : len(grey) - bottom, left : len(grey) - right]


def bounded(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def mixed(films: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """The mean of films, each mirrored by chance, turned by up to 12 degrees, zoomed by 1.2 to 1.6 and shifted."""
    size, parts = len(films[0]), []
    for film in films:
        film = film[:, ::-1] if rng.random() < 0.5 else film
        matrix = cv2.getRotationMatrix2D((size / 2, size / 2), rng.uniform(-12, 12), rng.uniform(1.2, 1.6))
        matrix[:, 2] += rng.uniform(-0.15, 0.15, 2) * size
        parts.append(cv2.warpAffine(film, matrix, (size, size), borderMode=cv2.BORDER_REFLECT))
    return bounded(np.mean(parts, axis=0, dtype=np.float32))


def plant(
    files: list[Path], folder: Path, films: int, size: int = 512
) -> tuple[Path, dict[tuple[str, str], str], dict[str, set[str]]]:
    """Write films, copies and the study; return its file, how each pair was changed, and of whom each picture is."""
    rng = np.random.default_rng(0)
    real = [
        cv2.resize(cv2.imread(str(f), cv2.IMREAD_GRAYSCALE), (size, size), interpolation=cv2.INTER_AREA) for f in files
    ]
    patients = [f.stem.split("_")[0] for f in files]
    rows, pairs, origin = [], {}, {}
    for k in range(films):
        grey, patient = (real[k], patients[k]) if k < len(real) else (None, f"mix{k}")
        name, of = f"{k:05d}.png", {patient}
        while grey is None:
            at = rng.choice(len(real), 3, replace=False)
            of = {patients[i] for i in at}
            grey = mixed([real[i] for i in at], rng) if len(of) == 3 else None
        origin[name] = origin[f"copy{name}"] = of
        cv2.imwrite(str(folder / name), grey, [cv2.IMWRITE_PNG_COMPRESSION, 1])
        rows.append((name, patient, "train"))
        if k % 10 == 0:
            kind = list(CHANGES)[k // 10 % len(CHANGES)]
            copy = f"copy{k:05d}.png"
            cv2.imwrite(str(folder / copy), CHANGES[kind](grey, rng), [cv2.IMWRITE_PNG_COMPRESSION, 1])
            rows.append((copy, f"copy{k}", "test"))
            pairs[name, copy] = kind
    table = pd.DataFrame(rows, columns=["image_id", "patient_id", "split"]).assign(Mass=0)
    table.insert(1, "path", table["image_id"])
    table.loc[::2, "Mass"] = 1
    table.to_csv(folder / "planted.csv", index=False)
    return folder / "planted.csv", pairs, origin


def main() -> None:
    options = harness.parser(__doc__)
    options.add_argument("--films", type=int, nargs="+", default=[400, 5000], help="real ones first, then mixes")
    options.add_argument("--vectors", type=int, default=112120, help="0 leaves the cost out")
    options.add_argument("--dim", type=int, default=1024)
    given = options.parse_args()
    files, what = harness.image_files(given.images)
    rows = []
    for films in given.films:
        with tempfile.TemporaryDirectory() as name:
            study, pairs, origin = plant(files[:films], Path(name), films)
            found = harness.run_json([sys.executable, "-c", FOUND, study, name])
            got = {tuple(pair) for pair in found["pairs"]}
            row = {"films": films, "of them mixes": max(0, films - len(files)), "copies": len(pairs)}
            wrong = got - set(pairs)
            apart = [pair for pair in wrong if not origin[pair[0]] & origin[pair[1]]]
            row |= {"recall": round(len(got & set(pairs)) / len(pairs), 4)}
            row |= {"pairs with a patient in common": len(wrong) - len(apart), "false pairs": len(apart)}
            row |= {"false share": round(len(apart) / max(len(got), 1), 4)}
            for kind in CHANGES:
                mine = {pair for pair, how in pairs.items() if how == kind}
                row[kind] = round(len(got & mine) / len(mine), 4)
            row |= {"threshold": round(found["threshold"], 3), "candidates": found["compared"]}
            rows.append({**row, "seconds": round(found["seconds"], 1)})
    if given.vectors:
        cost = harness.run_json([sys.executable, "-c", COST, given.vectors, given.dim, 1000])
        row = {"vectors": f"{given.vectors:,} x {given.dim:,}", "planted neighbours": 1000}
        row |= {"exactly these found": cost["exact"], "wall s": round(cost["wall"], 1)}
        rows.append({**row, "processor s": round(cost["cpu"], 1), "peak MiB": round(cost["peak"])})
    harness.save(
        "leaks",
        "Copies of films are found (recall at least 0.99, at most 1 % false pairs); all pairs of 112,120 vectors are "
        "compared in under 2 minutes and 2 GB on 2 cores",
        rows,
        f"Films: {what}, at 512 x 512; mixes are means of three films of different patients, mirrored, turned, zoomed "
        "and shifted apart. No embeddings: candidates are by small pictures alone. Vectors: random unit vectors, two "
        "BLAS threads.",
    )


if __name__ == "__main__":
    main()
