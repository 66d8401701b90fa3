"""A DINOv2 with registers, random weights, exported by PyTorch: our embeddings, ONNX Runtime's, and PyTorch's own.

Both exporters, `dynamo` with the values beside the file; the class token and the mean of the patches. The large one has
the size and input of RAD-DINO (ViT-B/14, 518 pixels).
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import cv2
import harness
import numpy as np

import cxrfeat as cxr
from cxrfeat._images.choices import NORMALISATION
from cxrfeat._images.decode import read_grey

CASES = (
    ("ViT-S/14, 224 px", 224, 384, 12, 16, ("legacy", "dynamo")),
    ("ViT-B/14, 518 px", 518, 768, 12, 4, ("legacy",)),
)
PACKAGES = ["torch", "onnx", "onnxscript", "onnxruntime", "numpy"]


def main() -> None:
    options = harness.parser(__doc__)
    given = options.parse_args()
    peer = harness.peer_python("onnx", PACKAGES)
    if peer is None:
        raise SystemExit(1)
    rows = []
    for title, side, width, blocks, number, exporters in CASES:
        files, _ = harness.image_files(given.images, number)
        films = np.stack([cv2.resize(read_grey(file), (side, side), interpolation=cv2.INTER_AREA) for file in files])
        for exporter in exporters:
            rows += compare(peer, films, title, exporter, width, blocks)
    harness.save(
        "onnx_encoder",
        "An ONNX vision transformer gives the embeddings of ONNX Runtime",
        rows,
        "The largest difference over all films and components, as a share of the largest component. `legacy` and "
        "`dynamo` are PyTorch's two exporters.",
    )


def compare(peer: Path, films: np.ndarray, title: str, exporter: str, width: int, blocks: int) -> list[dict]:
    rows = []
    constants = NORMALISATION["rad-dino"]
    scale, offset = (np.reshape(values, (3, 1, 1)) for values in (constants.scale, constants.offset))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ |= {"CXRFEAT_WEIGHTS": f"{name}/weights", "CXRFEAT_CACHE": f"{name}/cache"}
        np.save(folder / "images.npy", (films[:, None] * scale + offset).astype(np.float32))
        script = harness.HERE / "peers" / "onnx_encoder.py"
        told = harness.run_json([peer, script, folder, exporter, width, blocks])
        found = np.load(folder / "tokens.npz")
        for tokens in ("class", "mean"):
            cxr.import_weights(folder / "encoder.onnx", tokens, tokens=tokens, preprocessing="rad-dino")
            ours = cxr.embed(films, backbone=tokens)
            rows.append(
                {
                    "network": title,
                    "exporter": exporter,
                    "embedding": tokens,
                    "films": len(films),
                    "difference to ONNX Runtime": difference(ours, pooled(found["tokens"], tokens)),
                    "to PyTorch": difference(ours, pooled(found["own"], tokens)),
                    "ONNX Runtime": told["onnxruntime"],
                }
            )
            print(rows[-1], file=sys.stderr)
    return rows


def pooled(tokens: np.ndarray, kind: str) -> np.ndarray:
    """A class token and four registers come before the patches."""
    return tokens[:, 0] if kind == "class" else tokens[:, 5:].mean(axis=1)


def difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(f"{np.abs(ours - theirs).max() / np.abs(theirs).max():.1e}")


if __name__ == "__main__":
    main()
