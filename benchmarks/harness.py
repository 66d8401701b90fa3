"""What the benchmarks share: images, environments of the peers, a description of the machine, and saving of results.

A benchmark runs cxrfeat and the peer alternately, several times, each in its own process, and keeps medians and ratios:
the machines are shared, so one absolute time says little.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path

from cxrfeat import _machine as machine
from cxrfeat import _sample as sample

HERE = Path(__file__).resolve().parent
DATA = HERE.parent.parent / "shared" / "data"


def parser(description: str) -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--images", type=Path, default=DATA / "nih-1024" / "images", help="folder of X-rays")
    return options


def image_files(folder: Path, number: int | None = None) -> tuple[list[Path], str]:
    """Image files and what they are; without the folder those of the embedded sample, with a message."""
    if folder.is_dir():
        files, what = sorted(folder.glob("*.png")), "ChestX-ray14 originals, 1024 x 1024 PNG"
    else:
        files = sorted((sample.folder() / "images").glob("*.png"))
        what = "the embedded sample, 400 x 400 PNG (the originals are not here)"
        print(f"{folder} is missing: measured on {what}", file=sys.stderr)
    return files[:number], what


def this_machine() -> dict:
    return {
        "processor": machine.processor(),
        "cores": machine.cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def peer_python(name: str, packages: list[str]) -> Path | None:
    """Interpreter of an environment with the peer and without cxrfeat; None, with a message, if it cannot be made."""
    given = os.environ.get(f"CXRFEAT_BENCH_{name.upper()}")
    if given:
        return Path(given)
    folder = HERE / ".environments" / name
    python = folder / "bin" / "python"
    if not (folder / ".installed").exists():
        print(f"installing {' '.join(packages)} into {folder.relative_to(HERE.parent)}, once", file=sys.stderr)
        try:
            subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
            subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
        except subprocess.CalledProcessError as error:
            print(f"the peer {name} cannot be installed ({error}); it is left out", file=sys.stderr)
            return None
        (folder / ".installed").touch()
    return python


def run_json(command: list) -> dict:
    """Run a command whose last line of output is JSON."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{command} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def median(values: list[float]) -> float:
    return round(statistics.median(values), 4)


def save(name: str, claim: str, rows: list[dict], notes: str = "", **machine: str) -> None:
    """Print the results and keep them in `results/`, from which `page.py` writes docs/performance.md."""
    result = {"name": name, "claim": claim, "notes": notes, "rows": rows, "machine": this_machine() | machine}
    text = json.dumps(result, indent=2) + "\n"
    (HERE / "results").mkdir(exist_ok=True)
    (HERE / "results" / f"{name}.json").write_text(text, encoding="utf-8")
    print(text, end="")
