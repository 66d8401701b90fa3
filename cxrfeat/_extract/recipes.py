"""The recipe of an extraction: from the user's options to what decides every value."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, TypedDict

from cxrfeat import _sample as sample
from cxrfeat._backbones import registry
from cxrfeat._backbones import weights as weights_module
from cxrfeat._backbones.weights import Weights
from cxrfeat._images import augment, prepare
from cxrfeat._recipe import DEFAULTS, Recipe
from cxrfeat.errors import RecipeError, WeightsError

if TYPE_CHECKING:
    from cxrfeat._study import Study

_log = logging.getLogger(__name__)


class RecipeOptions(TypedDict, total=False):
    """The options of `make_recipe`, which `extract` and `embed` take by name."""

    backbone: str
    weights: str
    size: int | None
    preprocessing: str | None
    interpolation: str
    policy: str
    passes: int
    seed: int


def make_recipe(
    backbone: str = DEFAULTS["backbone"],
    *,
    weights: str = DEFAULTS["weights"],
    size: int | None = None,
    preprocessing: str | None = None,
    interpolation: str = DEFAULTS["interpolation"],
    policy: str = DEFAULTS["policy"],
    passes: int = 0,
    seed: int = 0,
    study: Study | None = None,
) -> Recipe:
    """Make a recipe from options.

    Parameters
    ----------
    backbone : str
        Name of the network; `cxrfeat weights ls` lists them.
    weights : str
        `imagenet` (downloaded when missing), `random:SEED`, the path of a weights file, or `auto`: imagenet, and for
        the embedded sample `random:0` where ImageNet's are not available, with a warning.
    size : int, optional
        Side of the network's input, pixels; by default 224.
    preprocessing : str, optional
        Name of the normalisation; by default the backbone's own.
    interpolation : str
        How pass 0 is resized: `area`, `linear` or `cubic`.
    policy : str
        Augmentation policy of the passes beyond 0: `mild` (no mirror) or `paper`.
    passes : int
        Number of augmented passes beside pass 0.
    seed : int
        Seed of the augmentation draws.
    study : Study, optional
        What the recipe is for; `weights="auto"` looks whether it is the embedded sample.

    Returns
    -------
    Recipe

    Raises
    ------
    RecipeError
        If an option has no such value, or the network does not take the size.
    WeightsError
        If the weights are not available.

    Examples
    --------
    >>> import cxrfeat as cxr
    >>> cxr.make_recipe("densenet121", weights="random:0", passes=2)
    <Recipe ...: densenet121, RANDOM weights (random:0), 224 px, pass 0 + 2 augmented>
    """
    return resolve(
        None,
        study,
        backbone=backbone,
        weights=weights,
        size=size,
        preprocessing=preprocessing,
        interpolation=interpolation,
        policy=policy,
        passes=passes,
        seed=seed,
    )[0]


def resolve(recipe: Recipe | None, study: Study | None = None, **options: Any) -> tuple[Recipe, Weights]:
    """Return the recipe, given or made from the options of `make_recipe`, and its weights on this machine.

    With a recipe, `weights` alone may be given: where the weights file is now.
    """
    if recipe is not None:
        if other := sorted(set(options) - {"weights"}):
            raise RecipeError(f"give a recipe or its options, not both: `{other[0]}` is part of the recipe.")
        return recipe, weights_module.weights_for(recipe, options.get("weights"))
    options = DEFAULTS | options
    spec = registry.get(options["backbone"])
    size, preprocessing = options.get("size") or DEFAULTS["size"], options.get("preprocessing") or spec.preprocessing
    if size < registry.MIN_SIZE:
        raise RecipeError(f"size {size} is too small: {spec.name} needs {registry.MIN_SIZE} pixels or more.")
    for what, value, known in (
        ("interpolation", options["interpolation"], prepare.INTERPOLATIONS),
        ("preprocessing", preprocessing, prepare.NORMALISATION),
    ):
        if value not in known:
            raise RecipeError(f"unknown {what} {value!r}; choose one of {', '.join(known)}.")
    augmentation = augment.policy_of(options["policy"]).to_dict() if options["passes"] else None
    weights = _find_weights(spec, options["weights"], study)
    made = Recipe(
        backbone=spec.name,
        weights=weights.name,
        weights_sha256=weights_module.weights_sha256(spec.name, weights),
        layer=spec.cam_layer,
        preprocessing=preprocessing,
        size=size,
        interpolation=options["interpolation"],
        augmentation=augmentation,
        seed=options["seed"],
        passes=options["passes"],
    )
    return made, weights


def _find_weights(spec: registry.Backbone, wanted: str, study: Study | None) -> Weights:
    if wanted != "auto":
        return weights_module.find(spec, wanted)
    try:
        return weights_module.find(spec, "imagenet")
    except WeightsError:
        if study is None or not sample.holds(study):
            raise
        _log.warning(
            "ImageNet weights of %s are not available: RANDOM weights (random:0) are used for the sample. The numbers "
            "show that the pipeline works, and are not a result.",
            spec.name,
        )
        return weights_module.find(spec, "random:0")
