"""The full graph with its learnt weights replaced by random ones, from the head down: cascading randomisation.

Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018, section 3.1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from cxrfeat._backbones.weights import draw
from cxrfeat._explain.gradcam import Gradients

HEAD = "head"


def cascade(method: Gradients, seed: int = 0) -> Iterator[str]:
    """Randomise the graph step by step, in place, and give each step's name once it is done.

    First the head, then the backbone's stages from the last (`conv5`) to the first (`conv1`); what was random stays
    random. Head kernels are shuffled, so that their scale stays; backbone weights are drawn as `random:SEED` draws
    them.

    Yields
    ------
    str
        `head`, then `conv5` ... `conv1`.
    """
    stages = stages_of(method)
    for number, name in enumerate((HEAD, *sorted((s for s in stages if s != HEAD), reverse=True))):
        for layer in stages[name]:
            if name == HEAD:
                _shuffle(layer, seed + number)
            else:
                _draw(layer, seed)
        yield name


def stages_of(method: Gradients) -> dict[str, list[Any]]:
    """Layers with weights, by stage; of several backbones, the same stage of all of them together."""
    head = {id(layer) for layer in method.after.layers}
    stages: dict[str, list[Any]] = {}
    for layer in method.model.layers:
        if not layer.weights:
            continue
        found = re.search(r"(?:conv|pool)(\d)", layer.name)
        # DenseNet's last normalisation is called `bn` and follows the last stage.
        stage = HEAD if id(layer) in head else f"conv{found.group(1) if found else 5}"
        stages.setdefault(stage, []).append(layer)
    return stages


def _shuffle(layer: Any, seed: int) -> None:
    rng = np.random.default_rng([seed, len(layer.weights)])
    weights = layer.get_weights()
    # Column by column: every output keeps its own set of weights, and loses which feature they belong to.
    layer.set_weights([rng.permuted(w, axis=0) if w.ndim > 1 else w for w in weights])


def _draw(layer: Any, seed: int) -> None:
    shapes = {f"{layer.name}/sanity/{v.name}": tuple(v.shape) for v in layer.weights}
    layer.set_weights(list(draw(shapes, seed).values()))
