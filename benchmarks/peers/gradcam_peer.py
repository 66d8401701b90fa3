"""pytorch-grad-cam on the weights it is given; runs in the peer's environment. Usage: FOLDER, with case.npz in it."""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torchvision
from pytorch_grad_cam import GradCAM, GradCAMPlusPlus, HiResCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget


class Net(torch.nn.Module):
    """DenseNet121 with the last ReLU as a module of its own, to hook, and the linear head."""

    def __init__(self, coef, intercept):
        super().__init__()
        self.features = torchvision.models.densenet121(weights=None).features
        self.relu = torch.nn.ReLU()
        self.head = torch.nn.Linear(coef.shape[1], coef.shape[0])
        self.head.weight.data = torch.tensor(coef, dtype=torch.float32)
        self.head.bias.data = torch.tensor(intercept, dtype=torch.float32)

    def forward(self, x):
        return self.head(self.relu(self.features(x)).mean(dim=(2, 3)))


def fill(net, case):
    """Keras's convolutions and normalisations, in order, into PyTorch's."""
    number = 0
    for module in net.features.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.weight.data = torch.tensor(case[f"w{number}_0"]).permute(3, 2, 0, 1).contiguous()
        elif isinstance(module, torch.nn.BatchNorm2d):
            names = (module.weight.data, module.bias.data, module.running_mean, module.running_var)
            for k, array in enumerate(names):
                array.copy_(torch.tensor(case[f"w{number}_{k}"]))
            module.eps = float(case["epsilon"])
        else:
            continue
        number += 1
    assert number == int(case["layers"]), (number, int(case["layers"]))


def raw(method):
    """The method with its maps kept as they are before ReLU, scaling and resizing."""

    class Kept(method):
        def get_cam_image(self, *args, **kwargs):
            self.kept = super().get_cam_image(*args, **kwargs)
            return self.kept

    return Kept


def main(folder):
    case = np.load(folder / "case.npz")
    net = Net(case["coef"], case["intercept"]).eval()
    fill(net, case)
    grey = torch.tensor(case["images"], dtype=torch.float32)[:, None]
    scale, offset = (torch.tensor(case[k], dtype=torch.float32)[None, :, None, None] for k in ("scale", "offset"))
    x = grey * scale + offset
    found = {"logits": net(x).detach().numpy()}
    seconds = {}
    for name, method in (("gradcam", GradCAM), ("gradcam++", GradCAMPlusPlus), ("hirescam", HiResCAM)):
        with raw(method)(model=net, target_layers=[net.relu]) as cam:
            maps = []
            start = time.perf_counter()
            for label in range(len(case["coef"])):
                cam(input_tensor=x, targets=[ClassifierOutputTarget(label)] * len(x))
                maps.append(cam.kept)
            seconds[name] = (time.perf_counter() - start) / len(x)
        found[name] = np.stack(maps, axis=1)
    np.savez(folder / "peer.npz", **found)
    print(json.dumps({"seconds": seconds, "torch": torch.__version__}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
