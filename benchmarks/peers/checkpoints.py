"""Checkpoints as the original packages write them, and what the packages themselves make of films.

`make FOLDER` writes random but realistic ones. `run FOLDER NAME FILMS SIZE...` gives embeddings and outputs of the
films listed at each size, the package's own preprocessing included, as `NAME-SIZE.npz` in the folder. `scaled` gives
the films as the Keras re-implementation of CheXNet prepares them. This runs in an environment without cxrfeat.
"""

import json
import sys
from pathlib import Path

import numpy as np
import skimage.transform
import torch
import torchvision
import torchxrayvision as xrv
from PIL import Image
from torchvision import transforms

MEAN, SD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def realistic(model, seed):
    """Give a network the statistics of a trained one: activations of order one, a few dead channels."""
    draw = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight, generator=draw)
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3, generator=draw)
            module.running_var.uniform_(0.5, 2, generator=draw)
            module.weight.data.uniform_(0.3, 1, generator=draw)
            module.bias.data.normal_(0, 0.2, generator=draw)
            dead = slice(None, None, 17)  # variances of the size of the epsilons, and nothing that comes through
            module.running_var[dead] = 3e-8 * torch.rand(len(module.running_var[dead]), generator=draw)
            module.weight.data[dead] *= 1e-3
    return model.eval()


class CheXNet(torch.nn.Module):
    """As github.com/arnoweng/CheXNet builds it."""

    def __init__(self):
        super().__init__()
        self.densenet121 = torchvision.models.densenet121(weights=None)
        self.densenet121.classifier = torch.nn.Sequential(torch.nn.Linear(1024, 14), torch.nn.Sigmoid())

    def forward(self, x):
        return self.densenet121(x)


def file_of(name):
    return xrv.models.model_urls[name]["weights_url"].rpartition("/")[2]


FILES = {
    "torchvision-densenet121": "densenet121-a639ec97.pth",
    "torchvision-resnet50": "resnet50-0676ba61.pth",
    "xrv-densenet121": file_of("densenet121-res224-nih"),
    "xrv-resnet50-512": file_of("resnet50-res512-all"),
    "chexnet-pytorch": "model.pth.tar",
}


def make(folder):
    folder.mkdir(parents=True, exist_ok=True)
    places = {name: folder / file for name, file in FILES.items()}
    densenet, resnet = torchvision.models.densenet121, torchvision.models.resnet50
    torch.save(realistic(densenet(weights=None), 0).state_dict(), places["torchvision-densenet121"])
    torch.save(realistic(resnet(weights=None), 1).state_dict(), places["torchvision-resnet50"])
    whole = realistic(xrv.models.DenseNet(weights=None), 2)  # the releases are whole modules in the old format
    whole.classifier.weight.data *= 0.01  # their pixels are of order 1000, and so are random activations
    torch.save(whole, places["xrv-densenet121"], _use_new_zipfile_serialization=False)
    model = resnet(weights=None, num_classes=18)
    model.conv1 = torch.nn.Conv2d(1, 64, 7, 2, 3, bias=False)
    realistic(model, 3).fc.weight.data *= 0.001
    torch.save(model.state_dict(), places["xrv-resnet50-512"])
    chexnet = realistic(CheXNet(), 4)
    training = {"epoch": 3, "best_loss": 0.1, "state_dict": torch.nn.DataParallel(chexnet).state_dict()}
    training["optimizer"] = torch.optim.Adam(chexnet.parameters()).state_dict()
    torch.save(training, places["chexnet-pytorch"], _use_new_zipfile_serialization=False)


def pillow(size):
    """torchvision's evaluation transforms, in proportion for other sizes."""
    steps = [transforms.Resize(round(256 * size / 224)), transforms.CenterCrop(size), transforms.ToTensor()]
    chain = transforms.Compose([*steps, transforms.Normalize(MEAN, SD)])
    return lambda path: chain(Image.open(path).convert("RGB"))


def xrv_input(size):
    steps = transforms.Compose([xrv.datasets.XRayCenterCrop(), xrv.datasets.XRayResizer(size)])
    return lambda path: torch.from_numpy(steps(xrv.utils.load_image(str(path))))


def network(folder, name, size):
    """The package's model loaded by the package, its input, and its function of features."""
    if name == "torchvision-densenet121":
        model = torchvision.models.densenet121(weights=None)
        model.load_state_dict(torch.load(folder / FILES[name]))
        return model.eval(), pillow(size), lambda x: torch.relu(model.features(x)).mean((2, 3))
    if name == "torchvision-resnet50":
        model = torchvision.models.resnet50(weights=None)
        model.load_state_dict(torch.load(folder / FILES[name]))
        body = torch.nn.Sequential(*list(model.eval().children())[:-1])
        return model, pillow(size), lambda x: body(x).flatten(1)
    if name == "chexnet-pytorch":
        model = torch.nn.DataParallel(CheXNet())
        model.load_state_dict(torch.load(folder / FILES[name], weights_only=False)["state_dict"])
        inner = model.module.densenet121
        return model.eval(), pillow(size), lambda x: torch.relu(inner.features(x)).mean((2, 3))
    if name == "xrv-densenet121":
        model = xrv.models.DenseNet(weights="densenet121-res224-nih", cache_dir=str(folder))
        model.input_resolution = size  # the package would bring any other to 224
        return model, xrv_input(size), model.features2
    model = xrv.models.ResNet(weights="resnet50-res512-all", cache_dir=str(folder))
    return model, xrv_input(512), model.features


CLASSIFIERS = {
    "torchvision-densenet121": lambda model: model.classifier,
    "torchvision-resnet50": lambda model: model.fc,
    "chexnet-pytorch": lambda model: model.module.densenet121.classifier,
}
"""Where the package's own forward pass is features and classifier, one pass gives both."""


def run(folder, name, size, films):
    model, prepare, features = network(folder, name, size)
    embeddings, outputs = [], []
    with torch.inference_mode():
        for film in films:
            x = prepare(film)[None].float()
            embeddings.append(features(x).numpy()[0])
            top = CLASSIFIERS.get(name)
            found = top(model)(torch.from_numpy(embeddings[-1])[None]) if top else model(x)
            outputs.append(found.numpy()[0])
    np.savez(folder / f"{name}-{size}.npz", embeddings=np.stack(embeddings), outputs=np.stack(outputs))


def scaled(films, size, out):
    """Films as github.com/brucechou1983/CheXNet-Keras prepares them; its scikit-image, 0.13, smoothed nothing."""
    inputs = []
    for film in films:
        image = np.asarray(Image.open(film).convert("RGB")) / 255.0
        image = skimage.transform.resize(image, (size, size), anti_aliasing=False, mode="constant")
        inputs.append(((image - MEAN) / SD).astype(np.float32))
    np.save(out, np.stack(inputs))


if __name__ == "__main__":
    torch.set_num_threads(1)  # several wait for each other where others compute too; no time is measured here
    what, folder = sys.argv[1], Path(sys.argv[2])
    if what == "make":
        make(folder)
        print(json.dumps(FILES))
    else:
        name, films, sizes = sys.argv[3], Path(sys.argv[4]).read_text().split("\n"), map(int, sys.argv[5:])
        for size in sizes:
            if what == "run":
                run(folder, name, size, films)
            else:
                scaled(films, size, folder / f"{name}-{size}.npy")
        print(json.dumps({}))
