"""pytorch-grad-cam on the weights it is given; runs in the peer's environment. Usage: FOLDER, with case.npz in it."""

import json
import re
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torchvision
from pytorch_grad_cam import GradCAM, GradCAMPlusPlus, HiResCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget


class Net(torch.nn.Module):
    """A backbone with its last ReLU as a module of its own, to hook, and the linear head."""

    def __init__(self, backbone, coef, intercept):
        super().__init__()
        self.features = (_densenet if backbone == "densenet121" else _resnet)()
        self.relu = torch.nn.ReLU()
        self.head = torch.nn.Linear(coef.shape[1], coef.shape[0])
        self.head.weight.data = torch.tensor(coef, dtype=torch.float32)
        self.head.bias.data = torch.tensor(intercept, dtype=torch.float32)

    def forward(self, x):
        # Only the mapped layer's gradient is wanted, so that the graph begins just before it.
        with torch.no_grad():
            features = self.features(x)
        return self.head(self.relu(features.requires_grad_()).mean(dim=(2, 3)))


def _densenet():
    return torchvision.models.densenet121(weights=None).features


def _resnet():
    whole = torchvision.models.resnet50(weights=None)
    for stage in (whole.layer2, whole.layer3, whole.layer4):
        stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)  # where keras.applications has it
    for module in whole.modules():
        if isinstance(module, torch.nn.ReLU):
            module.inplace = False  # the same output counts as positive before and after
    return torch.nn.Sequential(*list(whole.children())[:-2])


def keras_name(name, backbone):
    """What Keras calls the layer that torchvision calls `name`."""
    if backbone == "densenet121":
        if found := re.fullmatch(r"denseblock(\d)\.denselayer(\d+)\.(norm|conv)(\d)", name):
            block, layer, kind, number = found.groups()
            place = int(number) - 1 if kind == "norm" else int(number)
            return f"conv{int(block) + 1}_block{layer}_{place}_{'bn' if kind == 'norm' else 'conv'}"
        if found := re.fullmatch(r"transition(\d)\.(norm|conv)", name):
            return f"pool{int(found[1]) + 1}_{'bn' if found[2] == 'norm' else 'conv'}"
        return {"conv0": "conv1_conv", "norm0": "conv1_bn", "norm5": "bn"}[name]
    stage, _, rest = name.partition(".")
    if not rest:
        return {"0": "conv1_conv", "1": "conv1_bn"}[stage]
    block, _, part = rest.partition(".")
    number = 0 if part.startswith("downsample") else int(part[-1])
    kind = "conv" if part.startswith("conv") or part == "downsample.0" else "bn"
    return f"conv{int(stage) - 2}_block{int(block) + 1}_{number}_{kind}"


def fill(net, case, backbone):
    """Put Keras's convolutions and normalisations into PyTorch's; every one of both must be used."""
    left = {key.partition("/")[0] for key in case.files if "/" in key}
    for name, module in net.features.named_modules():
        if not isinstance(module, torch.nn.Conv2d | torch.nn.BatchNorm2d):
            continue
        layer = keras_name(name, backbone)
        left.remove(layer)
        if isinstance(module, torch.nn.Conv2d):
            module.weight.data = torch.tensor(case[f"{layer}/0"]).permute(3, 2, 0, 1).contiguous()
            if f"{layer}/1" in case.files:
                module.bias = torch.nn.Parameter(torch.tensor(case[f"{layer}/1"]))
        else:
            names = (module.weight.data, module.bias.data, module.running_mean, module.running_var)
            for k, array in enumerate(names):
                array.copy_(torch.tensor(case[f"{layer}/{k}"]))
            module.eps = float(case["epsilon"])
    assert not left, left


def raw(method):
    """The method with its maps kept as they are before ReLU, scaling and resizing."""

    class Kept(method):
        def get_cam_image(self, *args, **kwargs):
            self.kept = super().get_cam_image(*args, **kwargs)
            return self.kept

    return Kept


def main(folder):
    torch.set_num_threads(2)
    case = np.load(folder / "case.npz")
    backbone = str(case["backbone"])
    net = Net(backbone, case["coef"], case["intercept"]).eval()
    fill(net, case, backbone)
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
            seconds[name] = (time.perf_counter() - start) / len(x) / len(case["coef"])
        found[name] = np.stack(maps, axis=1)
    np.savez(folder / "peer.npz", **found)
    print(json.dumps({"seconds": seconds, "torch": torch.__version__}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
