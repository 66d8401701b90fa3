"""From a checkpoint's tensors to the arrays of a backbone, all of them or none.

Kernels are transposed from PyTorch's order to Keras's. The epsilon of a batch normalisation is part of the network and
not of its weights. Where the two networks differ in it, the variances are moved by the difference; where a variance is
smaller than that, the rest goes into gamma. So gamma / sqrt(variance + epsilon) stays what it was.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cxrfeat._backbones.checkpoints import architectures
from cxrfeat._backbones.checkpoints.architectures import Layer
from cxrfeat._backbones.checkpoints.layouts import LAYOUTS, Layout
from cxrfeat._backbones.checkpoints.tensors import Checkpoint, Tensor
from cxrfeat.errors import WeightsError

Arrays = dict[str, npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Architecture:
    """One backbone's layers, and the epsilon of its Keras graph."""

    layers: Any
    epsilon: float
    biased: bool = False
    """Whether its convolutions have biases."""


ARCHITECTURES = {
    "densenet121": Architecture(architectures.densenet121, 1.001e-5),
    "resnet50": Architecture(architectures.resnet50, 1.001e-5, biased=True),
    "resnet50-v1.5": Architecture(architectures.resnet50, 1e-5),
}
TORCH_EPSILON = 1e-5

_PARTS = {  # of a normalisation, in Keras and in PyTorch
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
_CLASSIFIERS = ("classifier", "classifier.0", "classifier.1", "fc", "fc.0", "fc.1")
_UNUSED = re.compile(r"(^|\.)(num_batches_tracked|op_threshs)$")
"""Tensors of PyTorch's modules that are no weights: a counter of training, TorchXRayVision's operating points."""


@dataclass(frozen=True)
class Found:
    """A checkpoint's tensors by the names of an architecture: its variables, its classifier, and the rest."""

    backbone: str
    naming: str
    variables: Mapping[str, tuple[str, Tensor]]
    classifier: Mapping[str, tuple[str, Tensor]]
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()

    @property
    def channels(self) -> int:
        """Input channels of the first convolution."""
        shape = self.variables["conv1_conv/kernel"][1].shape
        return shape[{"torch": 1, "keras": 2}[self.naming]] if len(shape) == 4 else 0

    @property
    def outputs(self) -> int | None:
        """Outputs of the classifier, if there is one."""
        kernel = self.classifier.get("kernel")
        if kernel is None or len(kernel[1].shape) != 2:
            return None
        return kernel[1].shape[{"torch": 0, "keras": 1}[self.naming]]


def recognise(checkpoint: Checkpoint) -> Found:
    """Say which backbone a checkpoint is of; one of another network, or with other tensors, is a WeightsError."""
    candidates = [
        found
        for backbone, architecture in ARCHITECTURES.items()
        for found in (_torch(checkpoint, backbone, architecture), _keras(checkpoint, backbone, architecture))
        if found
    ]
    if not candidates:
        first = ", ".join(f"{name} {tensor.shape}" for name, tensor in list(checkpoint.tensors.items())[:2])
        raise WeightsError(
            f"{checkpoint.file} is of a network that is not known: expected are the tensors of a DenseNet121 or a "
            f"ResNet50 in the names of torchvision or Keras, found are {len(checkpoint.tensors)} tensors"
            f"{', the first are ' + first if first else ''}."
        )
    found = min(candidates, key=lambda found: len(found.missing) + len(found.extra))
    if found.missing or found.extra:
        kinds = ((found.missing, "are missing"), (found.extra, "are not of this network"))
        parts = [f"{len(names)} tensors {verb}, the first is {names[0]}" for names, verb in kinds if names]
        raise WeightsError(
            f"{checkpoint.file} does not fit {found.backbone}: {'; '.join(parts)}. Nothing of it is used."
        )
    return found


def layout_of(checkpoint: Checkpoint, found: Found, named: str | None = None) -> Layout:
    """Return the layout of a checkpoint: the one named, if it fits, or the only one that it can be."""
    if named is not None:
        if named not in LAYOUTS:
            raise WeightsError(f"unknown layout {named!r}; choose one of {', '.join(LAYOUTS)}.")
        layout = LAYOUTS[named]
        if wrong := _differences(layout, found):
            raise WeightsError(f"{checkpoint.file} is not of the layout {named}, which has {wrong}.")
        return layout
    fitting = [layout for layout in LAYOUTS.values() if not _differences(layout, found, exact=True)]
    by_file = [layout for layout in fitting if layout.file and re.search(layout.file, checkpoint.file)]
    by_tensor = [
        layout for layout in fitting if layout.tensor and any(re.search(layout.tensor, n) for n in checkpoint.tensors)
    ]
    plain = [layout for layout in fitting if not layout.tensor]
    chosen = by_file or by_tensor or plain
    if len(chosen) == 1:
        return chosen[0]
    fitting = chosen or fitting or [layout for layout in LAYOUTS.values() if not _differences(layout, found)]
    outputs = "no classifier" if found.outputs is None else f"{found.outputs} outputs"
    raise WeightsError(
        f"{checkpoint.file} is a {found.backbone} with {found.channels} input channels and {outputs}, which does not "
        f"say how its images were prepared. Name its `layout`: {', '.join(layout.name for layout in fitting)}."
    )


def arrays(checkpoint: Checkpoint, found: Found) -> tuple[Arrays, Arrays]:
    """Convert: the backbone's arrays by variable of its Keras graph, and its classifier's `kernel` and `bias`.

    A tensor of another shape, or with values that are not finite, is a WeightsError.
    """
    what, architecture = checkpoint.file, ARCHITECTURES[found.backbone]
    shapes = dict(_shapes(found.backbone, found.channels))
    made: Arrays = {}
    for variable, shape in shapes.items():
        name, tensor = found.variables[variable]
        expected = tuple(shape[i] for i in (3, 2, 0, 1)) if found.naming == "torch" and len(shape) == 4 else shape
        if tensor.shape != expected:
            raise WeightsError(
                f"{what} does not fit {found.backbone}: {name} has the shape {tensor.shape}, expected is {expected}. "
                "Nothing of it is used."
            )
        values = _values(what, name, tensor)
        made[variable] = values.transpose(2, 3, 1, 0) if expected is not shape else values
    if found.naming == "torch" and architecture.epsilon != TORCH_EPSILON:
        for variable in [name for name in made if name.endswith("/moving_variance")]:
            gamma = variable.replace("moving_variance", "gamma")
            made[gamma], made[variable] = _other_epsilon(made[gamma], made[variable], architecture.epsilon)
    return {name: np.ascontiguousarray(values) for name, values in made.items()}, _classifier(what, found, shapes)


def _classifier(what: str, found: Found, shapes: Mapping[str, tuple[int, ...]]) -> Arrays:
    made = {part: _values(what, name, tensor) for part, (name, tensor) in found.classifier.items()}
    if not made:
        return {}
    if found.naming == "torch":
        made["kernel"] = made["kernel"].T
    dim = list(shapes.values())[-1][0]
    kernel, bias = made["kernel"], made.get("bias", np.zeros(made["kernel"].shape[-1], np.float32))
    if kernel.ndim != 2 or len(kernel) != dim or bias.shape != kernel.shape[1:]:
        raise WeightsError(
            f"{what} does not fit {found.backbone}: its classifier has the shapes {kernel.shape} and {bias.shape}, "
            f"expected are ({dim}, outputs) and (outputs,). Nothing of it is used."
        )
    return {"kernel": np.ascontiguousarray(kernel), "bias": bias}


def _other_epsilon(gamma: Any, variance: Any, epsilon: float) -> tuple[Any, Any]:
    """Gamma and variance with another epsilon, so that gamma / sqrt(variance + epsilon) stays."""
    wanted = variance.astype(np.float64) + TORCH_EPSILON
    moved = np.maximum(wanted - epsilon, 0.0)
    gamma = gamma * np.sqrt((moved + epsilon) / wanted)
    return gamma.astype(np.float32), moved.astype(np.float32)


def _values(what: str, name: str, tensor: Tensor) -> Any:
    values = tensor.read()
    if not np.isfinite(values).all():
        raise WeightsError(f"{what} is not used: {name} has values that are not finite.")
    if name.endswith(("running_var", "moving_variance")) and (values < 0).any():
        raise WeightsError(f"{what} is not used: the variances {name} are negative.")
    return values


def _shapes(backbone: str, channels: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The variables of a backbone's Keras graph and their shapes."""
    architecture = ARCHITECTURES[backbone]
    for layer in architecture.layers(channels):
        if layer.normalises:
            yield from ((f"{layer.name}/{part}", layer.shape) for part in _PARTS)
        else:
            yield f"{layer.name}/kernel", layer.shape
            if architecture.biased:
                yield f"{layer.name}/bias", layer.shape[-1:]


def _torch(checkpoint: Checkpoint, backbone: str, architecture: Architecture) -> Found | None:
    """Look for a network in torchvision's names, after any prefix; old ones write `norm.1` for `norm1`."""
    if architecture.biased:
        return None
    layers: list[Layer] = list(architecture.layers(0))
    plain = {re.sub(r"\.(norm|relu|conv)\.([12])\.", r".\1\2.", name): name for name in checkpoint.tensors}
    stem = f"{layers[0].torch}.weight"
    prefixes = [name.removesuffix(stem) for name in plain if re.search(rf"(^|\.){re.escape(stem)}$", name)]
    # A prefix of the shortest name: `layer1.0.conv1.weight` ends as the stem's name does.
    if not prefixes:
        return None
    prefix = min(prefixes, key=len)
    places = {
        f"{layer.name}/{ours}": f"{prefix}{layer.torch}.{theirs}"
        for layer in layers
        for ours, theirs in (_PARTS if layer.normalises else {"kernel": "weight"}).items()
    }
    tops = [f"{prefix}{top}" for top in _CLASSIFIERS if f"{prefix}{top}.weight" in plain]
    places_top = {"kernel": f"{tops[0]}.weight", "bias": f"{tops[0]}.bias"} if tops else {}
    return _found(checkpoint, backbone, "torch", places, places_top, plain)


def _keras(checkpoint: Checkpoint, backbone: str, architecture: Architecture) -> Found | None:
    """Look for a network in Keras's names: a path's longest end that is a variable, written with `/` or `_`."""
    names = dict(_shapes(backbone, 0))
    plain: dict[str, str] = {}
    places_top = {}
    for name in checkpoint.tensors:
        parts = name.split("/")
        ends = ("_".join(parts[i:-1]) + f"/{parts[-1]}" for i in range(len(parts) - 1))
        known = next((end for end in ends if end in names), None)
        if known is None and parts[-1] in ("kernel", "bias") and re.search(r"predictions|fc|dense|output", name):
            places_top[parts[-1]] = name
            plain[name] = name
        else:
            plain[known or name] = name
    if "conv1_conv/kernel" not in plain:
        return None
    return _found(checkpoint, backbone, "keras", {name: name for name in names}, places_top, plain)


def _found(
    checkpoint: Checkpoint,
    backbone: str,
    naming: str,
    places: Mapping[str, str],
    top: Mapping[str, str],
    plain: Mapping[str, str],
) -> Found:
    """Sort a checkpoint's tensors, which `plain` has by the names of an architecture."""

    def those(wanted: Mapping[str, str]) -> dict[str, tuple[str, Tensor]]:
        return {ours: (plain[p], checkpoint.tensors[plain[p]]) for ours, p in wanted.items() if p in plain}

    used: Iterable[str] = {*places.values(), *top.values()}
    extra = [name for short, name in plain.items() if short not in used and not _UNUSED.search(name)]
    missing = [place for place in places.values() if place not in plain]
    return Found(backbone, naming, those(places), those(top), tuple(missing), tuple(extra))


def _differences(layout: Layout, found: Found, exact: bool = False) -> str:
    """What of a layout does not fit, in words; `exact` compares the number of outputs too."""
    if layout.backbone != found.backbone:
        return f"the backbone {layout.backbone} and not {found.backbone}"
    if layout.naming != found.naming:
        return f"the names of {layout.naming} and not of {found.naming}"
    if layout.channels != found.channels:
        return f"{layout.channels} input channels and not {found.channels}"
    if exact and found.outputs not in layout.outputs:
        return f"{layout.outputs} outputs and not {found.outputs}"
    return ""
