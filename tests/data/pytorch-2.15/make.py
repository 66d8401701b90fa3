"""Makes `embeddings.npz`: what the original packages compute from the tests' state dicts. It needs PyTorch, torchvision
and torchxrayvision, which the tests do not. Run from the project's folder: `python tests/data/pytorch-2.15/make.py`.
"""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import torch
import torchvision
import torchxrayvision as xrv

sys.path.insert(0, str(Path.cwd()))
HERE = Path(__file__).parent
found = importlib.util.spec_from_file_location("checkpoints", HERE.parents[1] / "backbones/pytorch_files.py")
files = importlib.util.module_from_spec(found)
found.loader.exec_module(files)
images = (np.add.outer(np.arange(64) ** 2, 3 * np.arange(64)) % 256, np.add.outer(np.arange(64), np.arange(64)) * 2)
images = np.stack(images).astype(np.uint8)


def load(model, state):
    # strict: a missing or extra tensor is an error here too
    model.load_state_dict({name: torch.from_numpy(np.asarray(values)) for name, values in state.items()})
    return model.eval()


def of(model, x, features):
    """What the model gives, and the mean of its last map."""
    with torch.no_grad():
        return model(x).numpy(), features(x).mean((2, 3)).numpy()


x = torch.from_numpy(images).float()[:, None]
mean, sd = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
rgb = (x.repeat(1, 3, 1, 1) / 255 - mean[:, None, None]) / sd[:, None, None]
made = {"images": images}

densenet = load(torchvision.models.densenet121(weights=None, num_classes=14), files.state_dict())
logits, made["densenet121"] = of(densenet, rgb, lambda x: torch.relu(densenet.features(x)))
made["densenet121/probability"] = 1 / (1 + np.exp(-logits))

resnet = load(torchvision.models.resnet50(weights=None), files.state_dict("resnet50-v1.5", 3, 1000, "fc"))
maps = torch.nn.Sequential(*list(resnet.children())[:-2])
_, made["resnet50-v1.5"] = of(resnet, rgb, maps)

model = load(xrv.models.DenseNet(weights=None), files.state_dict("densenet121", 1, 18))
model.op_threshs = torch.tensor(xrv.models.model_urls["nih"]["op_threshs"])
normal = torch.from_numpy(np.stack([xrv.utils.normalize(image, 255) for image in images]))[:, None]
made["xrv-nih/probability"], made["xrv-nih"] = of(model, normal, lambda x: torch.relu(model.features(x)))
np.savez(HERE / "embeddings.npz", **made)
print({name: (values.shape, float(np.abs(values).mean())) for name, values in made.items()})
