"""What decodes an image, how long it keeps Python's lock, how many cores it feeds; and preparation on all cores.

The decoders run in an environment of their own. Preparation (read, hash, decode, average to 224 pixels) runs with an
engine that computes nothing, as beside a fast GPU: by threads, by threads with OpenCV, which lets go of the lock, and
by threads with a process each, which is what an extraction does on many cores and beside a GPU.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import cv2
import harness
import numpy as np

PACKAGES = ["numpy", "kornia-rs", "opencv-python-headless", "pillow", "imagecodecs", "pyspng", "simplejpeg"]
PACKAGES += ["skia-python", "av", "rasterio", "pywuffs"]
NETWORK_MS = 16.0
WAYS = ("threads", "threads, OpenCV", "processes")


class Nothing:
    """An engine that takes no time."""

    name, batch, streams = "nothing", 8, 1

    def run(self, images: np.ndarray) -> tuple[np.ndarray, ...]:
        return (np.zeros((len(images), 1), np.float32),)


def prepare(way: str, listing: str) -> dict:
    """Images/s and processor time an image, here and in the helpers, once all of these have started."""
    from cxrfeat import _machine as machine
    from cxrfeat._extract import pipeline
    from cxrfeat._images import decode
    from cxrfeat._recipe import Recipe

    pipeline.apart = lambda *_: way == "processes"
    if way == "threads, OpenCV":
        decode._plain_png = lambda _: None
    items = [pipeline.Item(path, Path(path)) for path in Path(listing).read_text().split("\n")]
    warm, done, workers = 8 * 4 * (machine.cores() + 1), 0, machine.cores() + 1
    for block in pipeline.run(items, Recipe("net", "random:0", "", "relu", "torch", 224), Nothing(), workers):
        if done < warm <= done + block.size:
            begun, before, counted = time.perf_counter(), os.times(), done + block.size
        done += block.size
    wall, after = time.perf_counter() - begun, os.times()
    own = after.user + after.system - before.user - before.system
    return {"rate": (done - counted) / wall, "own": 1000 * own / (done - counted)}


def main() -> None:
    options = harness.parser(__doc__)
    options.add_argument("--number", type=int, default=400)
    options.add_argument("--repeats", type=int, default=5)
    options.add_argument("--prepare", choices=WAYS, help="internal: one way, in a process of its own")
    options.add_argument("--listing", help="internal: a file of paths")
    given = options.parse_args()
    if given.prepare:
        print(json.dumps(prepare(given.prepare, given.listing)))
        return
    files, what = harness.image_files(given.images, given.number)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for path in files[:8]:
            shutil.copy(path, folder)
            grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
            cv2.imwrite(str(folder / f"{path.stem}.jpg"), grey, [cv2.IMWRITE_JPEG_QUALITY, 95])
        if python := harness.peer_python("decoders", PACKAGES):
            peer = harness.HERE / "peers" / "decoders_peer.py"
            for row in harness.run_json([python, peer, folder, given.repeats]):
                ms, locked = row["ms"], row["locked ms"]
                rows.append({
                    "what": f"{row['file']}: {row['decoder']}", "ms": round(ms, 1), "under the lock": round(locked, 1),
                    "cores fed": round((ms + NETWORK_MS) / locked, 1) if locked > 0.1 else "all",
                })  # fmt: skip
        listing = folder / "files.txt"
        listing.write_text("\n".join(map(str, files)))
        found: dict[str, list[dict]] = {way: [] for way in WAYS}
        for _ in range(given.repeats):
            for way in WAYS:
                command = [sys.executable, __file__, "--prepare", way, "--listing", listing]
                found[way].append(harness.run_json(command))
    for way, goes in found.items():
        rate = harness.median([go["rate"] for go in goes])
        own = harness.median([go["own"] for go in goes])
        ratio = harness.median([g["rate"] / t["rate"] for g, t in zip(goes, found["threads"], strict=True)])
        rows.append({
            "what": f"prepared by {way}", "images/s": round(rate), "times threads": round(ratio, 2),
            "ms in this process": round(own, 1),
        })  # fmt: skip
    claim = "Decoding feeds every core and a GPU: the decoder is chosen by its time under Python's lock"
    notes = f"{what}; the JPEGs are these at quality 95. ms of processor time. `cores fed`: (ms + {NETWORK_MS:g}) / ms "
    notes += (
        f"under the lock, beside a network of {NETWORK_MS:g} ms a core. Prepared: read, hashed, decoded, averaged to "
    )
    notes += "224 pixels, all cores, with a network that takes no time; medians of alternating goes."
    harness.save("decoders", claim, rows, notes)


if __name__ == "__main__":
    main()
