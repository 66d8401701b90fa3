"""How long one waits before anything happens: --help, a kept export's first batch, an extraction with nothing to do."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import harness
import numpy as np

CLAIM = "import in 0.03 s, --help in 0.25 s, first batch in 1 s, nothing to do for 112,120 images in 1.5 s"

FIRST = """
import time; begun = time.perf_counter()
import json, sys
import numpy as np
from cxrfeat._backbones import open_engine
from cxrfeat._extract import make_recipe
recipe = make_recipe("densenet121", weights="random:0")
ready = open_engine(recipe)
print(json.dumps({"seconds": time.perf_counter() - begun}))
"""
FILL = """
import sys
import numpy as np
from cxrfeat import _manifest as manifest
from cxrfeat._extract import make_recipe
from cxrfeat._store import Writer
from cxrfeat import read_study
study, out = read_study(sys.argv[1]), sys.argv[2]
recipe = make_recipe("densenet121", weights="random:0")
rng = np.random.default_rng(0)
with Writer.open(out, recipe, 1024, {}, segment_rows=16384) as writer:
    for start in range(0, len(study), 4096):
        ids = study.ids[start : start + 4096]
        writer.append(ids, np.zeros((len(ids), 32), np.uint8), rng.random((1, len(ids), 1024), np.float32))
    writer.publish(study.ids)
from pathlib import Path
manifest.write(Path(out), manifest.look(study))
"""


def timed(command: list, repeats: int, made: Path | None = None) -> float:
    """Median seconds of a process; what it `made` is removed before each go."""
    times = []
    for _ in range(repeats):
        if made:
            made.unlink(missing_ok=True)
        begun = time.perf_counter()
        subprocess.run([str(part) for part in command], check=True, capture_output=True)
        times.append(time.perf_counter() - begun)
    return harness.median(times)


def main() -> None:
    options = harness.parser(__doc__)
    options.add_argument("--number", type=int, default=112_120)
    options.add_argument("--repeats", type=int, default=7)
    given = options.parse_args()
    cxrfeat = [sys.executable, "-m", "cxrfeat_cli.main"]
    rows = [{"what": "python -c pass", "seconds": timed([sys.executable, "-c", "pass"], given.repeats), "limit": None}]
    rows.append({"what": "cxrfeat --help", "seconds": timed([*cxrfeat, "--help"], given.repeats), "limit": 0.25})
    bare = rows[0]["seconds"]
    front = timed([sys.executable, "-c", "import cxrfeat; dir(cxrfeat)"], given.repeats) - bare
    rows.append({"what": "import cxrfeat, over a bare interpreter", "seconds": front, "limit": 0.03})
    for name in ("extract", "predict", "fit-head"):
        what = f"cxrfeat {name} --help"
        rows.append({"what": what, "seconds": timed([*cxrfeat, name, "--help"], given.repeats), "limit": 0.25})
    first = [harness.run_json([sys.executable, "-c", FIRST])["seconds"] for _ in range(given.repeats + 1)][1:]
    rows.append({"what": "engine from a kept export, imports included", "seconds": harness.median(first), "limit": 1.0})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        picture = cv2.imencode(".png", np.zeros((8, 8), np.uint8))[1].tobytes()
        lines = []
        for i in range(given.number):
            (folder / f"{i:08d}_000.png").write_bytes(picture)
            lines.append(f"{i:08d}_000.png,{i:08d}_000.png,{i // 4},train,{i % 2}")
        one = folder / "one.csv"
        one.write_text("image_id,path,patient_id,split,Mass\n" + "\n".join([lines[0], *lines[5:6]]) + "\n")
        command = [*cxrfeat, "extract", one, "-o", folder / "one.h5", "--weights", "random:0"]
        what = "extract of two images with a kept export, whole process, to the closed file"
        rows.append({"what": what, "seconds": timed(command, given.repeats, folder / "one.h5"), "limit": 2.0})
        study = folder / "nih.csv"
        study.write_text("image_id,path,patient_id,split,Mass\n" + "\n".join(lines) + "\n")
        subprocess.run([sys.executable, "-c", FILL, study, folder / "nih.h5"], check=True)
        command = [*cxrfeat, "extract", study, "-o", folder / "nih.h5", "--weights", "random:0"]
        what = f"extract with nothing to do, {given.number:,} images, whole process"
        rows.append({"what": what, "seconds": timed(command, given.repeats), "limit": 1.5})
    harness.save("startup", CLAIM, rows)


if __name__ == "__main__":
    main()
