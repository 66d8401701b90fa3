"""Peak memory of an extraction: the same for 500 images as for 50,000 (small ones, at 32 pixels)."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import cv2
import harness
import numpy as np

CODE = """
import json, resource, sys
if sys.argv[3] == "no": sys.modules["pyarrow"] = None
from cxrfeat._extract import extract
from cxrfeat import read_study
study = read_study(sys.argv[1])
result = extract(study, out=sys.argv[2], weights="random:0", size=32)
print(json.dumps({"wall": result.wall, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
"""


def main() -> None:
    options = harness.parser(__doc__)
    options.add_argument("--numbers", type=int, nargs="+", default=[500, 5000, 50000])
    given = options.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rng = np.random.default_rng(0)
        for i in range(max(given.numbers)):
            coarse = rng.integers(0, 256, (4, 4), dtype=np.uint8)
            cv2.imwrite(str(folder / f"{i}.png"), cv2.resize(coarse, (32, 32), interpolation=cv2.INTER_CUBIC))
        cases = [(number, arrow) for arrow in ("no", "yes") for number in given.numbers]
        for number, arrow in [cases[0], *cases]:  # the first run makes the export
            lines = [f"{i},{i}.png,p{i},train,{i % 2}" for i in range(number)]
            study = folder / f"study{number}.csv"
            study.write_text("image_id,path,patient_id,split,Mass\n" + "\n".join(lines) + "\n")
            (folder / "out.h5").unlink(missing_ok=True)
            (folder / "out.h5.seen").unlink(missing_ok=True)
            found = harness.run_json([sys.executable, "-c", CODE, study, folder / "out.h5", arrow])
            cost = round(1000 * found["wall"] / number, 2)
            row = {"pyarrow": arrow, "images": number, "peak MiB": round(found["peak"], 1), "ms an image": cost}
            rows.append({**row, "embedding file MiB": round(number * 1024 * 4 / 2**20, 1)})
    rows = rows[1:]
    for row in rows:
        smallest = next(other for other in rows if other["pyarrow"] == row["pyarrow"])
        row["times the smallest"] = round(row["peak MiB"] / smallest["peak MiB"], 3)
    harness.save(
        "memory",
        "Peak memory is flat in the number of images: 500 against 50,000 within 5 %",
        rows,
        "Without pyarrow, as in a default installation, and with it: pandas then keeps texts in Arrow's memory, and "
        "what of it is free is returned before the first image. What still grows with the study is its own table, and "
        "the account of what is done.",
    )


if __name__ == "__main__":
    main()
