"""The way of thingsvision and torchxrayvision: a DataLoader with workers, torchvision's transforms and network."""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torchvision
from PIL import Image
from torchvision import transforms

backbone, size, out, weights, listing = sys.argv[1], int(sys.argv[2]), *sys.argv[3:6]
files = Path(listing).read_text().split("\n")
prepare = transforms.Compose(
    [
        transforms.Resize((size, size)),
        transforms.ToTensor(),
        transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ]
)


class Files(torch.utils.data.Dataset):
    def __init__(self, files):
        self.files = files

    def __len__(self):
        return len(self.files)

    def __getitem__(self, i):
        return prepare(Image.open(self.files[i]).convert("RGB"))


def make():
    if backbone == "resnet50":
        network = torchvision.models.resnet50(weights=None)
        network.fc = torch.nn.Identity()
        return network.eval()
    network = torchvision.models.densenet121(weights=None)
    network.classifier = torch.nn.Identity()
    arrays = np.load(weights)  # Keras's weights, convolutions and normalisations in the order of the network
    convolutions = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d)]
    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    with torch.no_grad():
        for i, m in enumerate(convolutions):
            m.weight.copy_(torch.from_numpy(arrays[f"conv{i}"].transpose(3, 2, 0, 1).copy()))
        for i, m in enumerate(norms):
            m.eps = 1.001e-5
            for name, value in zip(("weight", "bias", "running_mean", "running_var"), arrays[f"bn{i}"], strict=True):
                getattr(m, name).copy_(torch.from_numpy(value))
    return network.eval()


network = make()


def run(files):
    loader = torch.utils.data.DataLoader(Files(files), batch_size=16, num_workers=2)
    with torch.inference_mode():
        return torch.cat([network(batch) for batch in loader]).numpy()


run(files[:32])
begun = time.perf_counter()
np.save(out, run(files))
seconds = time.perf_counter() - begun
pixels = np.repeat(np.load(sys.argv[6])[:, None], 3, axis=1).astype(np.float32) / 255
mean, std = (np.array(v, np.float32).reshape(1, 3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
with torch.inference_mode():
    np.save(out.replace(".npy", ".check.npy"), network(torch.from_numpy((pixels - mean) / std)).numpy())
print(json.dumps({"seconds": seconds, "images": len(files)}))
