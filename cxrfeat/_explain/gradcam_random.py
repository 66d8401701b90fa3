"""The full graph with its learnt weights replaced by random ones, from the head down: cascading randomisation.

Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018, section 3.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from cxrfeat._backbones.graph import draw, layer_variables, places
from cxrfeat._explain.gradcam import Gradients

HEAD = "head"


def cascade(method: Gradients, seed: int = 0) -> Iterator[str]:
    """Randomise the graph step by step, in place, and give each step's name once it is done.

    First the head, then the backbone's stages from the last to the first; what was random stays random. Head kernels
    are shuffled, so that their scale stays; backbone weights are drawn as `random:SEED` draws them.

    Yields
    ------
    str
        `head`, then the stages, as in `stride 32` ... `stride 2`.
    """
    for number, (name, layers) in enumerate(stages_of(method).items()):
        for layer in layers:
            if name == HEAD:
                _shuffle(layer, seed + number)
            else:
                _draw(layer, seed)
        yield name


def stages_of(method: Gradients) -> dict[str, list[Any]]:
    """Layers with weights by stage, from the head down: a stage is all layers whose cells are as many pixels wide.

    Networks halve their maps from stage to stage, so that this follows from the graph and not from the layers' names.
    Of several backbones, a stage holds the layers of all of them.
    """
    head, where = {id(layer) for layer in method.after.layers}, places(method.model)
    found: dict[int, list[Any]] = {}
    for layer in method.model.layers:
        if layer.weights and id(layer) not in head:
            found.setdefault(where[layer.name][0].stride, []).append(layer)
    stages = {f"stride {stride}": found[stride] for stride in sorted(found, reverse=True)}
    return {HEAD: [layer for layer in method.after.layers if layer.weights], **stages}


def _shuffle(layer: Any, seed: int) -> None:
    rng = np.random.default_rng([seed, len(layer.weights)])
    weights = layer.get_weights()
    # Column by column: every output keeps its own set of weights, and loses which feature they belong to.
    layer.set_weights([rng.permuted(w, axis=0) if w.ndim > 1 else w for w in weights])


def _draw(layer: Any, seed: int) -> None:
    variables = layer_variables(layer)
    drawn = draw({f"sanity/{name}": tuple(v.shape) for name, v in variables.items()}, seed)
    for variable, values in zip(variables.values(), drawn.values(), strict=True):
        variable.assign(values)
