"""Which weights a recipe was made with: their hash, and the finding of them again."""

from __future__ import annotations

import json

from cxrfeat import _files as files
from cxrfeat import _machine as machine
from cxrfeat._backbones import registry
from cxrfeat._backbones import weights as weights_room
from cxrfeat._backbones.weights import Weights
from cxrfeat._recipe import Recipe
from cxrfeat.errors import RecipeError


def weights_sha256(backbone: str, weights: Weights) -> str:
    """Hash of the weights as the recipe keeps it; that of a random draw is remembered, since it takes TensorFlow."""
    if (known := weights.sha256()) is not None:
        return known
    kept = machine.cache_folder() / "random" / f"{backbone}-{weights.seed}.json"
    if kept.is_file():
        return str(json.loads(kept.read_text())["sha256"])
    from cxrfeat._backbones import graph

    network = graph.keras_graph(backbone, weights, "unit", registry.MIN_SIZE)
    sha256 = graph.weights_sha256(network)
    files.write_atomically(kept, json.dumps({"sha256": sha256}))
    return sha256


def weights_for(recipe: Recipe, named: str | None = None) -> Weights:
    """Return the weights that a recipe was made with.

    Parameters
    ----------
    recipe : Recipe
        The recipe.
    named : str, optional
        Where a weights file of the user's lies now; a recipe keeps its name and hash, not its folder.

    Raises
    ------
    WeightsError
        If they cannot be had.
    RecipeError
        If what is found has another hash.
    """
    weights = weights_room.find(registry.get(recipe.backbone), named or recipe.weights)
    found = weights_sha256(recipe.backbone, weights)
    if found != recipe.weights_sha256:
        raise RecipeError(
            f"weights {named or recipe.weights!r} have sha256 {found[:12]}…, the recipe was made with "
            f"{recipe.weights_sha256[:12]}…. Name the right file with --weights."
        )
    return weights
