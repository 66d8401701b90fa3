"""The recipe of an extraction: from what a user asks for to what decides every value."""

from __future__ import annotations

from collections.abc import Callable

from cxrfeat import _sample as sample
from cxrfeat._backbones import weights as weights_room
from cxrfeat._backbones.registry import DEFAULT_SIZE, MIN_SIZE, Backbone
from cxrfeat._backbones.weights import Weights
from cxrfeat._images import augment
from cxrfeat._images.prepare import INTERPOLATIONS
from cxrfeat._recipe import Recipe
from cxrfeat._study import Study
from cxrfeat.errors import CxrfeatError, WeightsError


def make_recipe(
    spec: Backbone,
    weights: Weights,
    size: int = DEFAULT_SIZE,
    preprocessing: str | None = None,
    interpolation: str = "area",
    policy: str = augment.DEFAULT_POLICY,
    passes: int = 0,
    seed: int = 0,
) -> Recipe:
    """Make the recipe of an extraction.

    Parameters
    ----------
    spec : Backbone
        Which network.
    weights : Weights
        Its weights, at hand.
    size : int
        Side of the network's input, pixels.
    preprocessing : str, optional
        By default the backbone's own.
    interpolation : str
        How pass 0 is resized; see `images.prepare.render`.
    policy : str
        Name of the augmentation policy of the passes beyond 0.
    passes : int
        How many passes beyond 0.
    seed : int
        Of the augmentation draws.

    Raises
    ------
    CxrfeatError
        If the network does not take the size, or there is no such interpolation.
    """
    if size < MIN_SIZE:
        raise CxrfeatError(f"size {size} is too small: {spec.name} needs {MIN_SIZE} pixels or more.")
    if interpolation not in INTERPOLATIONS:
        raise CxrfeatError(f"interpolation {interpolation!r} is not one of {', '.join(INTERPOLATIONS)}.")
    return Recipe(
        backbone=spec.name,
        weights=weights.name,
        weights_sha256=weights_room.weights_sha256(spec.name, weights),
        layer=spec.cam_layer,
        preprocessing=preprocessing or spec.preprocessing,
        size=size,
        interpolation=interpolation,
        augmentation=augment.policy_of(policy).to_dict() if passes else None,
        seed=seed,
        passes=passes,
    )


def choose_weights(spec: Backbone, wanted: str, study: Study, tell: Callable[[str], None]) -> Weights:
    """Find the weights.

    Parameters
    ----------
    spec : Backbone
        Of which network.
    wanted : str
        `imagenet`, `random:SEED`, a path, or `auto`: imagenet, and on the embedded sample random:0, which is told, if
        they cannot be had.
    study : Study
        What they are for.
    tell : callable
        Told of random weights.

    Raises
    ------
    WeightsError
        If they cannot be had.
    """
    if wanted != "auto":
        return weights_room.find(spec, wanted)
    try:
        return weights_room.find(spec, "imagenet")
    except WeightsError:
        if not sample.holds(study):
            raise
        tell(
            f"ImageNet weights of {spec.name} cannot be had here: going on with RANDOM weights (random:0). "
            "Whatever comes of them shows that the pipeline works, and is not a result."
        )
        return weights_room.find(spec, "random:0")
