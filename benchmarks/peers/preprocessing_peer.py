"""Films as torchvision and TorchXRayVision prepare them; runs in the peer's environment. Usage: FOLDER SIZE..."""

import sys
from pathlib import Path

import numpy as np
import torch
import torchxrayvision as xrv
from PIL import Image
from torchvision import transforms as t

folder = Path(sys.argv[1])
with np.load(folder / "films.npz") as kept:
    films = list(kept.values())


def imagenet(film, steps):
    to_tensor = t.Compose([*steps, t.ToTensor(), t.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])])
    return to_tensor(Image.fromarray(film).convert("RGB"))[0].numpy()


def cropped(film):
    return xrv.datasets.XRayCenterCrop()(xrv.datasets.normalize(film, 255)[None])


def interpolated(film, size):
    pixels = torch.from_numpy(cropped(film))[None]
    return torch.nn.functional.interpolate(pixels, size=(size, size), mode="bilinear", antialias=True)[0, 0].numpy()


for size in map(int, sys.argv[2:]):
    first = size * 256 // 224
    cases = {
        "torchvision Resize, CenterCrop": lambda f: imagenet(f, [t.Resize(first), t.CenterCrop(size)]),  # noqa: B023
        "torchvision Resize (bicubic), CenterCrop": lambda f: imagenet(
            f,
            [t.Resize(first, interpolation=t.InterpolationMode.BICUBIC), t.CenterCrop(size)],  # noqa: B023
        ),
        "torchvision Resize to the square": lambda f: imagenet(f, [t.Resize((size, size))]),  # noqa: B023
        "PyTorch interpolate, antialiased": lambda f: interpolated(f, size),  # noqa: B023
        "TorchXRayVision XRayResizer": lambda f: xrv.datasets.XRayResizer(size)(cropped(f))[0],  # noqa: B023
        "TorchXRayVision XRayResizer, cv2": lambda f: xrv.datasets.XRayResizer(size, "cv2")(cropped(f))[0],  # noqa: B023
    }
    for name, prepared in cases.items():
        np.savez(folder / f"{name}-{size}.npz", *(prepared(film) for film in films))
print("{}")
