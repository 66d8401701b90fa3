"""An extraction on a Ray cluster of this machine beside one without, on the same cores, from files to a closed file.

The start of either is left out: time, and processor seconds of all processes, run from the first images that are done
to the last. The images are repeated under other ids until there are enough.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import harness
import pandas as pd

from cxrfeat._study import Study


def main() -> None:
    options = harness.parser(__doc__)
    options.add_argument("--number", type=int, default=2000)
    options.add_argument("--repeats", type=int, default=2)
    options.add_argument("--size", type=int, default=224)
    options.add_argument("--one", nargs=2, metavar=("WHERE", "OUT"), help="one extraction, in this process")
    given = options.parse_args()
    files, what = harness.image_files(given.images)
    if given.one:
        print(json.dumps(extraction(study_of(files, given.number), given.size, *given.one)))
        return
    found = {"local": [], "ray": []}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(given.repeats):
            for where, answers in found.items():
                command = [sys.executable, __file__, "--images", given.images, "--number", given.number]
                command += ["--size", given.size, "--one", where, Path(folder) / f"{where}-{turn}.h5"]
                answers.append(harness.run_json(command))
    rates = {where: harness.median([answer["rate"] for answer in answers]) for where, answers in found.items()}
    contents = {answer["content"] for answers in found.values() for answer in answers}
    rows = [
        {
            "where": where,
            "images/s": rates[where],
            "times local": round(rates[where] / rates["local"], 3),
            "processor ms an image": round(1000 * harness.median([answer["processor"] for answer in answers]), 1),
            "seconds with the start": harness.median([answer["seconds"] for answer in answers]),
            "largest process, MB, at first": harness.median([answer["memory"][0] for answer in answers]),
            "at last": harness.median([answer["memory"][-1] for answer in answers]),
            "network": harness.median([answer["shares"]["network"] for answer in answers]),
        }
        for where, answers in found.items()
    ]
    harness.save(
        "ray_overhead",
        "On the same cores, Ray costs at most 10 % of the images a second, the start left out",
        rows,
        f"{given.number:,} images ({len(files):,} files: {what}), DenseNet121, {given.size} px, random weights, "
        f"{given.repeats} runs of each in turn; {'all files are equal' if len(contents) == 1 else 'FILES DIFFER'}.",
    )


def study_of(files: list[Path], number: int) -> Study:
    chosen = [files[k % len(files)] for k in range(number)]
    table = pd.DataFrame(
        {
            "image_id": [f"{k:06d}" for k in range(number)],
            "path": [str(path.absolute()) for path in chosen],
            "patient_id": [path.stem for path in chosen],
            "split": "train",
            "Mass": [float(k % 2) for k in range(number)],
        }
    )
    return Study(table, ("Mass",), "many", Path.cwd())


def extraction(study: Study, size: int, where: str, out: str) -> dict:
    import cxrfeat as cxr

    times = []
    begun = time.perf_counter()
    done = cxr.extract(
        study, out=out, backbone="densenet121", weights="random:0", size=size, ray="local" if where == "ray" else None,
        progress=lambda count, total, note="": times.append((time.perf_counter(), count, *spent())),
    )  # fmt: skip
    seconds = time.perf_counter() - begun
    times = [row for row in times if row[1]]
    with cxr.EmbeddingFile.open(done.path) as file:
        content = file.content_sha256
    wall, images, processor, _ = (last - first for first, last in zip(times[0], times[-1], strict=True))
    return {
        "rate": images / wall,
        "processor": processor / images,
        "seconds": seconds,
        "memory": [row[3] for row in times],
        "shares": done.shares(),
        "content": content,
    }


def spent() -> tuple[float, float]:
    """Processor seconds of this process and of all that it started, and MB of the largest, by Linux's /proc."""
    parents, seconds, memory = {}, {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            pid = int(stat.parent.name)
            parents[pid], seconds[pid], memory[pid] = int(fields[1]), sum(map(int, fields[11:15])), int(fields[21])
    ours = {os.getpid()}
    while new := {pid for pid, parent in parents.items() if parent in ours} - ours:
        ours |= new
    used = sum(seconds.get(pid, 0) for pid in ours) / os.sysconf("SC_CLK_TCK")
    return used, max(memory.get(pid, 0) for pid in ours) * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    main()
