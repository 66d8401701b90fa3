"""The whole reproduction of the reference paper on the embedded sample, from nothing, and again with all of it there.

    python benchmarks/paper.py

What `make paper` does, in a folder and a cache of its own: 400 px, two augmented passes, three arms in four ways, up to
80 epochs each, tests, maps and the page. There is no peer: the paper's code is not public. The rate of what is most of
it, the network at 400 px, is that of `network.py`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import harness

LIMIT = 12 * 60


def go(folder: Path) -> tuple[float, dict]:
    """One whole process, and what it says it did."""
    command = [
        sys.executable,
        "-m",
        "cxrfeat_cli.main",
        "reproduce",
        "paper",
        "sample",
        "--weights",
        "random:0",
        "--json",
    ]
    environment = {**os.environ, "CXRFEAT_CACHE": str(folder / "cache")}
    begun = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    seconds = time.perf_counter() - begun
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    return seconds, json.loads(done.stdout)


def main() -> None:
    harness.parser(__doc__).parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for what in ("from nothing", "again, with all of it there"):
            seconds, said = go(Path(name))
            rows.append(
                {
                    "what": what,
                    "images_embedded": said["embedded"],
                    "heads_fitted": said["fitted"],
                    "minutes": round(seconds / 60, 2),
                    "of_12_minutes": round(seconds / LIMIT, 3),
                }
            )
    if (rows[1]["images_embedded"], rows[1]["heads_fitted"]) != (0, 0):
        raise SystemExit(f"the second go did some of it again: {rows[1]}")
    harness.save("paper", "the paper on the embedded sample in under 12 minutes on 2 cores; nothing twice", rows)


if __name__ == "__main__":
    main()
