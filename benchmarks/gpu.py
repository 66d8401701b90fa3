"""The Keras engine on a GPU, network and pipeline apart, beside `model.predict` and torchvision with AMP.

Runs in the project, or from a bare folder on a machine that has JAX or PyTorch and nothing of ours:

    python benchmarks/gpu.py --pack FOLDER --python 3.12     here: cxrfeat, Keras and what they need
    python FOLDER/gpu.py                                     there: packages of that machine come first
    cp FOLDER/results/gpu.json benchmarks/results/           here again, then `python benchmarks/page.py`

Every backend that is installed is measured, in processes of their own. Rows are kept as they come and replaced by a
later run of the same case, so the work may be split (`--backbones`, `--sizes`, `--precisions`, `--backends`). Without a
GPU it prints its figures, says that they are none of a GPU, and keeps nothing.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path = [*(place for place in sys.path if Path(place or ".").resolve() != HERE), str(HERE)]  # ours comes last
BACKENDS = ("tensorflow", "jax", "torch")
TORCHVISION = "torchvision"
NEEDS = ["keras", "namex", "optree", "absl-py", "rich", "markdown-it-py", "mdurl", "pygments", "ml-dtypes", "h5py"]
NEEDS += ["lazy-loader", "packaging", "pandas", "python-dateutil", "six", "joblib", "threadpoolctl", "platformdirs"]
NEEDS += ["filelock", "opencv-python-headless", "pillow", "kornia-rs", "safetensors", "requests", "urllib3", "certifi"]
NEEDS += ["idna", "charset-normalizer", "scipy", "scikit-learn", "markupsafe", "jinja2"]
WANTED = {"float32": None, "float16": "float16", "bfloat16": "bfloat16"}


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--images", type=Path, help="folder of PNG films; without it films are drawn")
    options.add_argument("--number", type=int, default=4096, help="images of a pipeline; files are read several times")
    options.add_argument("--seconds", type=float, default=3.0, help="time for a network alone")
    options.add_argument("--backbones", nargs="+", default=["densenet121", "resnet50"])
    options.add_argument("--sizes", nargs="+", type=int, default=[224, 400, 512])
    options.add_argument("--precisions", nargs="+", default=list(WANTED), choices=list(WANTED))
    options.add_argument("--backends", nargs="+", default=[*BACKENDS, TORCHVISION])
    options.add_argument("--pack", type=Path, help="write the folder for another machine, and measure nothing")
    options.add_argument("--python", default=f"{sys.version_info[0]}.{sys.version_info[1]}", help="of that machine")
    options.add_argument("--packages", nargs="+", default=NEEDS, help="what to pack, where that machine has the rest")
    options.add_argument("--case", help=argparse.SUPPRESS)
    return options


def pack(folder: Path, python: str, packages: list[str]) -> None:
    """Copy cxrfeat and this script, and unpack the wheels of what they need, for Linux on x86-64."""
    import cxrfeat

    folder.mkdir(parents=True, exist_ok=True)
    platforms = [f"--platform=manylinux{name}_x86_64" for name in ("2014", "_2_17", "_2_27", "_2_28", "_2_31", "_2_34")]
    how = ["--only-binary=:all:", "--no-deps", "--upgrade", "--python-version", python, "--implementation", "cp"]
    command = [sys.executable, "-m", "pip", "install", "--quiet", *how, *platforms, "--target", folder, *packages]
    subprocess.run(command, check=True)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(cxrfeat.__file__).parent, folder / "cxrfeat", ignore=ignored, dirs_exist_ok=True)
    for name in ("gpu.py", "harness.py"):
        shutil.copy(HERE / name, folder)
    print(f"packed {folder}; there: python {folder.name}/gpu.py")


def films(folder: Path | None, scratch: Path, number: int) -> tuple[list[Path], str]:
    """The files of a pipeline, and what they are; drawn ones look and compress like films."""
    if folder:
        found = sorted(folder.glob("*.png"))[:number]
        if not found:
            raise SystemExit(f"{folder} has no .png file.")
        return found, f"{len(found):,} films of {folder.name}"
    import cv2
    import numpy as np

    def draw(k: int) -> Path:
        rng = np.random.default_rng(k)
        coarse = rng.integers(30, 220, (12, 12)).astype(np.float32)
        film = cv2.resize(coarse, (1024, 1024), interpolation=cv2.INTER_CUBIC) + rng.normal(0, 2, (1024, 1024))
        cv2.imwrite(str(scratch / f"{k}.png"), film.clip(0, 255).astype(np.uint8))
        return scratch / f"{k}.png"

    with ThreadPoolExecutor() as pool:
        found = list(pool.map(draw, range(min(number, 256))))
    return found, f"{len(found):,} drawn films, 1024 x 1024 PNG of {found[0].stat().st_size / 1e3:.0f} kB"


def rate(step, images: int, seconds: float, threads: int = 1) -> float:
    """Images a second of `step`, which runs `images` images, on several threads at once; the first call warms up."""
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda _: step(), range(threads)))
        begun, done = time.perf_counter(), 0
        while (passed := time.perf_counter() - begun) < seconds or not done:
            list(pool.map(lambda _: step(), range(4 * threads)))
            done += 4 * threads * images
    return round(done / passed, 1)


def gpu_name(backend: str) -> str:
    """The GPU that a backend sees; empty if it sees none."""
    if backend in ("torch", TORCHVISION):
        import torch

        return torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    if backend == "jax":
        import jax

        return jax.devices()[0].device_kind if jax.default_backend() != "cpu" else ""
    import tensorflow as tf

    cards = tf.config.list_physical_devices("GPU")
    return tf.config.experimental.get_device_details(cards[0]).get("device_name", "GPU") if cards else ""


def keras_case(case: dict) -> None:
    """Our engine, and `model.predict` as users call it, on one backend; a line of JSON for every precision."""
    os.environ |= {"KERAS_BACKEND": case["backend"], "TF_CPP_MIN_LOG_LEVEL": "3"}
    import dataclasses

    import keras
    import numpy as np
    import pandas as pd

    from cxrfeat._backbones import open_engine, registry
    from cxrfeat._extract import extract, make_recipe
    from cxrfeat._study import Study

    size, files = case["size"], case["files"]
    ids = [str(i) for i in range(case["number"])]
    paths = [files[i % len(files)] for i in range(case["number"])]
    table = pd.DataFrame({"image_id": ids, "path": paths, "patient_id": ids, "split": "train", "Mass": 1.0})
    study = Study(table, ("Mass",), "bench")
    recipe = make_recipe(case["backbone"], weights="random:0", size=size)
    maker = getattr(keras.applications, registry.get(case["backbone"]).builder.partition(":")[2])
    for precision in case["precisions"]:
        begun = time.perf_counter()
        chosen = dataclasses.replace(recipe, precision=precision)
        engine = open_engine(chosen, engine="keras")
        ready = round(time.perf_counter() - begun, 1)
        batch = engine.batch
        images = np.random.default_rng(0).integers(0, 256, (batch, size, size), dtype=np.uint8)
        row = {"engine": engine.name, "batch": batch, "seconds to open": ready}
        row["network images/s"] = rate(lambda run=engine.run, x=images: run(x), batch, case["seconds"], engine.streams)
        del engine
        out = Path(case["scratch"]) / f"{case['backend']}-{case['backbone']}-{size}-{precision}.h5"
        extracted = extract(study, chosen, out=out, engine="keras")
        row["pipeline images/s"] = round(extracted.rate, 1)
        out.unlink()
        policy = keras.mixed_precision.dtype_policy()
        keras.mixed_precision.set_dtype_policy("float32" if precision == "float32" else f"mixed_{precision}")
        model = maker(include_top=False, weights=None, pooling="avg", input_shape=(size, size, 3))
        keras.mixed_precision.set_dtype_policy(policy)
        colours = np.repeat(images[..., None], 3, axis=-1).astype(np.float32)
        several = np.concatenate([colours] * 4)
        row["predict images/s"] = rate(
            lambda m=model, x=several, b=batch: m.predict(x, batch_size=b, verbose=0), len(several), case["seconds"]
        )
        del model
        print(json.dumps({"precision": precision, "gpu": gpu_name(case["backend"]), **row}), flush=True)


def torchvision_case(case: dict) -> None:
    """torchvision's network, channels last, under autocast, and a DataLoader in front of it."""
    import torch
    import torchvision
    from PIL import Image
    from torchvision import transforms

    size, files, device = case["size"], case["files"], "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32 = True, False
    network = getattr(torchvision.models, case["backbone"])(weights=None)
    network.classifier = network.fc = torch.nn.Identity()
    network = network.eval().to(device, memory_format=torch.channels_last)
    steps = [transforms.Resize((size, size)), transforms.ToTensor()]
    prepare = transforms.Compose([*steps, transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])])

    class Files(torch.utils.data.Dataset):
        def __len__(self):
            return case["number"]

        def __getitem__(self, i):
            return prepare(Image.open(files[i % len(files)]).convert("RGB"))

    batch = 16 if device == "cpu" else max(1, int(64 * (224 / size) ** 2))
    images = torch.rand(batch, 3, size, size)
    images = images.pin_memory() if device == "cuda" else images
    workers = len(os.sched_getaffinity(0))
    for precision in case["precisions"]:
        dtype = getattr(torch, precision)

        def embed(x, dtype=dtype):
            with torch.inference_mode(), torch.autocast(device, dtype, enabled=dtype != torch.float32):
                x = x.to(device, non_blocking=True, memory_format=torch.channels_last)
                return network(x).float().cpu()

        row = {"engine": f"torchvision {torchvision.__version__}", "batch": batch}
        row["network images/s"] = rate(lambda run=embed: run(images), batch, case["seconds"])
        loader = torch.utils.data.DataLoader(Files(), batch, num_workers=workers, pin_memory=device == "cuda")
        begun = time.perf_counter()
        done = sum(len(embed(x)) for x in loader)
        row["pipeline images/s"] = round(done / (time.perf_counter() - begun), 1)
        print(json.dumps({"precision": precision, "gpu": gpu_name("torch"), **row}), flush=True)


def main() -> None:
    given = parser().parse_args()
    if given.case:
        case = json.loads(Path(given.case).read_text())
        return torchvision_case(case) if case["backend"] == TORCHVISION else keras_case(case)
    if given.pack:
        return pack(given.pack, given.python, given.packages)
    installed = [name for name in given.backends if importlib.util.find_spec(name)]
    with tempfile.TemporaryDirectory() as name:
        files, what = films(given.images, Path(name), given.number)
        for backbone in given.backbones:
            for size in given.sizes:
                for backend in installed:
                    case = {"backend": backend, "backbone": backbone, "size": size, "files": list(map(str, files))}
                    case |= {"number": given.number, "seconds": given.seconds, "scratch": name}
                    keep(case | {"precisions": given.precisions}, what)


def keep(case: dict, what: str) -> None:
    """Run a case in a process of its own, and keep its rows as they come; on a GPU only."""
    import harness

    path = Path(case["scratch"]) / "case.json"
    path.write_text(json.dumps(case))
    command = [sys.executable, str(Path(__file__).resolve()), "--case", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if not line.startswith("{"):
                continue
            found = json.loads(line)
            row = {key: case[key] for key in ("backbone", "size")}
            row |= {"precision": found.pop("precision"), "backend": case["backend"]}
            gpu = found.pop("gpu")
            if not gpu:
                print("no GPU here, so this is no GPU's figure, and not kept:", json.dumps(row | found), flush=True)
                continue
            result = HERE / "results" / "gpu.json"
            rows = json.loads(result.read_text())["rows"] if result.exists() else []
            rows = [r for r in rows if any(r.get(key) != value for key, value in row.items())] + [row | found]
            rows.sort(key=lambda r: [str(r[key]) for key in ("backbone", "size", "precision", "backend")])
            harness.save("gpu", CLAIM, rows, f"Images: {what}. {NOTES}", gpu=gpu)
    if process.returncode:
        print(f"{case['backend']}, {case['backbone']} at {case['size']} failed; see above", file=sys.stderr)


CLAIM = "On a GPU, our engine is at least as fast as torchvision with AMP, from files and in the network alone"
NOTES = (
    "`network`: batches from memory, transfers included. `pipeline`: first file to last embedding on disk, with "
    "the network opened before; for torchvision to embeddings in memory, by a DataLoader with a worker a core. "
    "float32 is without TensorFloat-32, except in `predict`, which is Keras's `model.predict` of the same network on "
    "float RGB, as it comes. Random weights."
)

if __name__ == "__main__":
    main()
