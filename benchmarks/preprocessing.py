"""The network's input against the packages whose values it should have: torchvision, PyTorch and TorchXRayVision.

Films are cut to oblong shapes, odd sides among them. Both give the normalised input; the difference is in its unit.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import harness
import numpy as np

from cxrfeat._images.choices import NORMALISATION
from cxrfeat._images.decode import read_grey
from cxrfeat._images.prepare import View

PACKAGES = ["torch", "torchvision==0.29.2", "torchxrayvision==1.5.7", "opencv-python-headless"]
SIZES = (224, 320, 400, 512)
CUTS = ((0, 0), (0, 101), (64, 0), (3, 256), (300, 1))
# What is compared: preprocessing, interpolation, geometry, whether the shorter side is resized first (by 256 / 224).
CASES = {
    "torchvision Resize, CenterCrop": ("torch", "pillow-bilinear", "crop", True),
    "torchvision Resize (bicubic), CenterCrop": ("torch", "pillow-bicubic", "crop", True),
    "torchvision Resize to the square": ("torch", "pillow-bilinear", "stretch", False),
    "PyTorch interpolate, antialiased": ("xrv", "torch-bilinear", "crop", False),
    "TorchXRayVision XRayResizer": ("xrv", "skimage", "crop", False),
    "TorchXRayVision XRayResizer, cv2": ("xrv", "opencv-area", "crop", False),
}


def main() -> None:
    options = harness.parser(__doc__)
    options.add_argument("--number", type=int, default=10)
    given = options.parse_args()
    files, what = harness.image_files(given.images, given.number)
    films = [read_grey(path) for path in files]
    films = [f[: f.shape[0] - a, : f.shape[1] - b] for f in films for a, b in CUTS if min(f.shape) > 2 * max(a, b)]
    python = harness.peer_python("preprocessing", PACKAGES)
    if python is None:
        return
    rows = []
    with tempfile.TemporaryDirectory() as name:
        np.savez(Path(name) / "films.npz", *films)
        harness.run_json([python, harness.HERE / "peers" / "preprocessing_peer.py", name, *SIZES])
        for case, (preprocessing, interpolation, geometry, first) in CASES.items():
            norm = NORMALISATION[preprocessing]
            largest = span = 0.0
            for size in SIZES:
                with np.load(Path(name) / f"{case}-{size}.npz") as theirs:
                    for film, expected in zip(films, theirs.values(), strict=True):
                        view = View(film, size, interpolation, geometry, size * 256 // 224 if first else 0)
                        ours = view.render().astype(np.float32) * np.float32(norm.scale[0]) + np.float32(norm.offset[0])
                        largest = max(largest, float(np.abs(ours - expected).max()))
                        span = max(span, float(np.ptp(expected)))
            rows.append({
                "compared with": case, "interpolation": interpolation, "preprocessing": preprocessing,
                "films and sizes": len(films) * len(SIZES), "largest difference": float(f"{largest:.2g}"),
                "as a share of the range": float(f"{largest / span:.2g}"),
            })  # fmt: skip
    claim = "the network's input is that of the package to the rounding of float32; for PyTorch's interpolate to 1e-4"
    notes = f"{len(files)} films ({what}), each in {len(CUTS)} shapes, at {', '.join(map(str, SIZES))} pixels. "
    notes += "PyTorch's own weights of interpolation are float32, ours float64."
    harness.save("preprocessing", claim, rows, notes)


if __name__ == "__main__":
    main()
