"""1,000 images in one `cxrfeat gradcam`: killed, interrupted, resumed, and again with nothing to do.

The images are those of the folder and reduced copies of them at other sizes and shapes, until there are enough; the
head is fitted on the embedded sample, whose embeddings are made first.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import harness

from cxrfeat import _sample as sample
from cxrfeat._extract import extract
from cxrfeat._heads import fit_head

SHAPES = ((400, 400), (512, 512), (300, 420), (700, 500), (256, 256), (640, 480), (1000, 800))
COMMAND = "from cxrfeat_cli.main import cli; cli()"


def main() -> None:
    options = harness.parser(__doc__)
    options.add_argument("--number", type=int, default=1000)
    options.add_argument("--seconds", type=float, default=15, help="after which the first two goes are ended")
    given = options.parse_args()
    found, what = harness.image_files(given.images)
    # Where this itself was started in the background, Ctrl-C would be ignored, and by its children too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        run, images = _run(work), _images(work / "images", found, given.number)
        rows = [
            _go(run, images, work, "killed (SIGKILL)", signal.SIGKILL, given.seconds),
            _go(run, images, work, "interrupted (Ctrl-C)", signal.SIGINT, given.seconds),
            _go(run, images, work, "resumed to the end"),
            _go(run, images, work, "nothing to do"),
        ]
    claim = f"{given.number:,} images in one command, which goes on where it was ended and does nothing twice"
    notes = f"Images: {what}, and copies of them at {len(SHAPES)} other sizes and shapes. DenseNet121, closed form, 4 "
    notes += "findings a panel; whole processes, panels (PNG) and maps (.npz) written and flushed to disk."
    harness.save("maps_of_1000", claim, rows, notes)


def _run(work: Path) -> Path:
    study = sample.study()
    made = extract(study, out=work / "sample.h5", weights="random:0")
    return fit_head(study, [Path(made.path)], "logistic", out=work / "run").path


def _images(folder: Path, found: list[Path], number: int) -> list[Path]:
    folder.mkdir()
    for path in found[:number]:
        (folder / path.name).symlink_to(path.resolve())
    for height, width in SHAPES:
        for path in found[: max(number - len(list(folder.iterdir())), 0)]:
            copy = cv2.resize(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), (width, height))
            cv2.imwrite(str(folder / f"{height}x{width}-{path.name}"), copy)
    return sorted(folder.iterdir())


def _go(run: Path, images: list[Path], work: Path, what: str, ended_by: int = 0, seconds: float = 0) -> dict:
    before = _made(work)
    start = time.perf_counter()
    command = [sys.executable, "-c", COMMAND, "gradcam", *map(str, images), "--run", run, "--out", work / "maps"]
    process = subprocess.Popen([str(p) for p in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        process.wait(seconds or None)
    except subprocess.TimeoutExpired:
        process.send_signal(ended_by)
        process.wait()
    spent, made = time.perf_counter() - start, _made(work)
    halves = len(list((work / "maps").glob("[!.]*.png"))) - made
    return {
        "go": what,
        "exit code": process.returncode,
        "images there before": before,
        "images after": made,
        "seconds": round(spent, 1),
        "images/s": round((made - before) / spent, 1) if made > before else None,
        "panels without maps": max(halves, 0),
    }


def _made(work: Path) -> int:
    return len(list((work / "maps").glob("*.npz")))


if __name__ == "__main__":
    main()
