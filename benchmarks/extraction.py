"""Whole pipeline, from image files to a closed file of embeddings: ours beside Keras's and PyTorch's ways.

Every contestant runs in a process of its own, warmed up on 32 images, on the same files, with the same weights for
DenseNet121; they take turns. Keras compiles a batch that is not full anew, which takes seconds: that is not counted.
The bound is 1 / (t_network + t_decode / cores), both parts measured alone beside ours.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import harness
import numpy as np

PEERS = harness.HERE / "peers"
CASES = [("densenet121", 224), ("densenet121", 400), ("resnet50", 224)]
WEIGHTS = """
import os, sys; os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import numpy as np
from cxrfeat._backbones import graph, registry, weights
from cxrfeat._images import decode, prepare
import keras
backbone, size, folder, listing = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
make = getattr(keras.applications, registry.get(backbone).builder.partition(":")[2])
network = make(include_top=False, weights=None, input_shape=(size, size, 3))
graph.fill(network, weights.Weights("random:0"))
network.save_weights(f"{folder}/{backbone}.weights.h5")
conv = [l for l in network.layers if type(l).__name__ == "Conv2D"]
norm = [l for l in network.layers if type(l).__name__ == "BatchNormalization"]
arrays = {f"conv{i}": np.asarray(l.kernel) for i, l in enumerate(conv)}
for i, l in enumerate(norm):
    arrays[f"bn{i}"] = np.stack([np.asarray(v) for v in (l.gamma, l.beta, l.moving_mean, l.moving_variance)])
np.savez(f"{folder}/{backbone}.npz", **arrays)
files = open(listing).read().split("\\n")[:16]
np.save(f"{folder}/pixels.npy", np.stack([prepare.View(decode.read_grey(f), size).render() for f in files]))
"""


def one_case(backbone: str, size: int, files: list[Path], repeats: int, torch: Path | None, folder: Path) -> dict:
    listing = folder / "files.txt"
    listing.write_text("\n".join(map(str, files)))
    subprocess.run(
        [sys.executable, "-c", WEIGHTS, backbone, str(size), folder, listing], check=True, capture_output=True
    )
    seconds: dict[str, list[float]] = {"ours": [], "keras": [], "torch": []}
    shares: list[float] = []
    for turn in range(repeats):
        out = folder / f"{turn}.h5"
        ours = harness.run_json([sys.executable, PEERS / "ours.py", backbone, size, out, 0, listing, "bound"])
        seconds["ours"].append(ours["seconds"] / ours["images"])
        bound = ours["network_seconds"] + ours["decode_seconds"] / ours["cores"]
        shares.append(bound / seconds["ours"][-1])
        check = folder / "pixels.npy"
        weights = folder / f"{backbone}.weights.h5"
        keras = harness.run_json(
            [sys.executable, PEERS / "keras_pipeline.py", backbone, size, folder / "keras.npy", weights, listing, check]
        )
        seconds["keras"].append(keras["seconds"] / keras["images"])
        if torch:
            weights = folder / f"{backbone}.npz"
            peer = harness.run_json(
                [torch, PEERS / "torch_pipeline.py", backbone, size, folder / "torch.npy", weights, listing, check]
            )
            seconds["torch"].append(peer["seconds"] / peer["images"])
    row = {"backbone": backbone, "size": size, "images": len(files)}
    row |= {f"{name} images/s": round(1 / harness.median(values), 1) for name, values in seconds.items() if values}
    for peer in ("keras", "torch"):
        if seconds[peer]:
            ratios = [p / o for p, o in zip(seconds[peer], seconds["ours"], strict=True)]
            row[f"times {peer}"] = round(harness.median(ratios), 2)
    row["share of the bound"] = round(harness.median(shares), 3)
    row["largest difference"] = differences(folder, backbone, torch)
    return row


def differences(folder: Path, backbone: str, torch: Path | None) -> str:
    """Ours against the peers on the same pixels, relative to the largest value."""
    from cxrfeat._store import EmbeddingFile

    with EmbeddingFile.open(folder / "0.h5") as file:
        ours = file.read(file.image_ids[:16])[0]
    found = {}
    for peer in ("keras", "torch") if torch and backbone == "densenet121" else ("keras",):
        theirs = np.load(folder / f"{peer}.check.npy")
        found[peer] = np.abs(ours - theirs).max() / np.abs(theirs).max()
    return ", ".join(f"{peer} {value:.0e}" for peer, value in found.items())


def main() -> None:
    options = harness.parser(__doc__)
    options.add_argument("--number", type=int, nargs="+", default=[400, 208, 400], help="images, per case")
    options.add_argument("--repeats", type=int, default=3)
    given = options.parse_args()
    files, what = harness.image_files(given.images)
    torch = harness.peer_python("torch", ["torch", "torchvision", "pillow", "numpy"])
    rows = []
    for number, (backbone, size) in zip(given.number, CASES, strict=False):
        with tempfile.TemporaryDirectory() as folder:
            rows.append(one_case(backbone, size, files[:number], given.repeats, torch, Path(folder)))
        # After each case: all of them take half an hour.
        harness.save(
            "extraction",
            "From files to a closed embedding file: at least 3.5 times Keras's ImageDataGenerator + predict and 2.7 "
            "times a PyTorch DataLoader + torchvision, at 90 % or more of 1 / (t_network + t_decode / cores)",
            rows,
            f"Images: {what}. Contestants take turns; medians of {given.repeats}. Differences are on the same pixels, "
            "relative to the largest value. torchvision's ResNet50 is another variant (stride in the 3 x 3 "
            "convolution), so only its time is compared.",
        )


if __name__ == "__main__":
    main()
