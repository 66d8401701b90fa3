"""The recipe of an extraction: from the user's options to what decides every value."""

from __future__ import annotations

import logging
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, TypedDict

from cxrfeat import _sample as sample
from cxrfeat._backbones import library, quantised, registry
from cxrfeat._backbones import weights as weights_module
from cxrfeat._backbones.library import Card
from cxrfeat._backbones.weights import Weights
from cxrfeat._extract import calibration
from cxrfeat._images import choices
from cxrfeat._precision import precision as precision_of
from cxrfeat._recipe import DEFAULTS, Recipe
from cxrfeat.errors import RecipeError, WeightsError

if TYPE_CHECKING:
    from cxrfeat._study import Study

MAX_SIZE, MAX_PASSES = 8192, 1000
_log = logging.getLogger(__name__)


class RecipeOptions(TypedDict, total=False):
    """The options of `make_recipe`, which `extract` and `embed` take by name."""

    backbone: str | None
    weights: str
    size: int | None
    preprocessing: str | None
    geometry: str | None
    resize: int | None
    interpolation: str | None
    crop_borders: bool
    voi: str
    precision: str
    storage: str
    policy: str
    passes: int
    seed: int


def make_recipe(
    backbone: str | None = None,
    *,
    weights: str = DEFAULTS["weights"],
    size: int | None = None,
    preprocessing: str | None = None,
    geometry: str | None = None,
    resize: int | None = None,
    interpolation: str | None = None,
    crop_borders: bool = False,
    voi: str = DEFAULTS["voi"],
    precision: str = DEFAULTS["precision"],
    storage: str = DEFAULTS["storage"],
    policy: str = DEFAULTS["policy"],
    passes: int = 0,
    seed: int = 0,
    study: Study | None = None,
) -> Recipe:
    """Make a recipe from options.

    Parameters
    ----------
    backbone : str, optional
        Name of the network; `cxrfeat weights ls` lists them. By default that of imported weights, else `densenet121`.
    weights : str
        `imagenet` (downloaded when missing), `random:SEED`, the name of imported weights (see `import_weights`), the
        path of a weights file, or `auto`: imagenet, and for the embedded sample `random:0` where ImageNet's are not
        available, with a warning. Imported weights bring their own defaults of the options below.
    size : int, optional
        Side of the network's input, pixels; by default the backbone's own.
    preprocessing : str, optional
        Name of the normalisation; by default the backbone's own.
    geometry : str, optional
        How an oblong image becomes a square: `stretch`, `crop` (the largest square at its centre) or `pad` (with
        black); by default the backbone's own.
    resize : int, optional
        Not 0: the image is first resized, its shorter side (`crop`) or longer side (`pad`) to so many pixels, and then
        cut or padded to `size`. By default the backbone's own.
    interpolation : str, optional
        The filter that resizes pass 0: `area`, `linear`, `cubic`, `nearest`, or one that gives the values of another
        package, `pillow-bilinear`, `pillow-bicubic`, `torch-bilinear`, `skimage`, `opencv-area`, `opencv-linear`; by
        default the backbone's own.
    crop_borders : bool
        Cut black and white borders off each image before anything else.
    voi : str
        What becomes black and white: what the `file` says (a DICOM file's first table or window, else the bit depth),
        the `full` range of its bits, or the 0.5th and 99.5th `percentile` of its pixels.
    precision : str
        What the network computes in: `float32`, or with less precision, faster where the processor has it, `bfloat16`,
        `float16` or `int8`. `cache compare` shows what it costs. For `int8` the network is quantised on training images
        of `study`, once, and kept beside imported weights; its name as `weights` takes the same one for other images.
    storage : str
        What the embedding file keeps each number in: `float32`, or `float16`, half the size, to which embeddings are
        then rounded wherever the recipe is used.
    policy : str
        Augmentation policy of the passes beyond 0: `mild` (no mirror) or `paper`.
    passes : int
        Number of augmented passes beside pass 0.
    seed : int
        Seed of the augmentation draws, and of the images that an int8 network is quantised on.
    study : Study, optional
        What the recipe is for: random weights are chosen for the embedded sample alone, and an int8 network is
        quantised on its training images.

    Returns
    -------
    Recipe

    Raises
    ------
    RecipeError
        If an option has no such value, or the network does not take the size or the preprocessing.
    WeightsError
        If the weights are not available.
    EngineError
        If int8 is not available, or its embeddings differ too much from those of float32.

    Examples
    --------
    >>> import cxrfeat as cxr
    >>> cxr.make_recipe("densenet121", weights="random:0", passes=2)
    <Recipe ...: densenet121, RANDOM weights (random:0), 224 px, pass 0 + 2 augmented>
    """
    card = library.find(weights)
    if not 0 <= passes <= MAX_PASSES:
        raise RecipeError(f"`passes` must be from 0 to {MAX_PASSES}, not {passes}.")
    augmentation = asdict(choices.policy_of(policy)) if passes else None
    drawn: dict[str, Any] = {"augmentation": augmentation, "seed": seed, "passes": passes, "storage": storage}
    if card is not None and card.kind == quantised.KIND:
        asked: dict[str, Any] = {
            "backbone": backbone, "size": size, "preprocessing": preprocessing, "geometry": geometry, "resize": resize,
            "interpolation": interpolation, "crop_borders": crop_borders, "voi": voi, "precision": precision,
        }  # fmt: skip
        return replace(_of_network(card, asked), **drawn)
    spec = library.spec_of(card) if card else registry.get(backbone or DEFAULTS["backbone"])
    if backbone not in (None, spec.name):
        raise RecipeError(f"the weights {weights!r} are of {spec.name}, not of {backbone}: leave `backbone` out.")
    size, preprocessing = size or spec.size, preprocessing or spec.preprocessing
    largest = min(spec.max_size, MAX_SIZE)
    if not spec.min_size <= size <= largest:
        fits = f"from {spec.min_size} to {largest}" if largest > spec.min_size else f"{largest}, as it was exported, in"
        raise RecipeError(f"`size` of {spec.name} must be {fits} pixels, not {size}.")
    own = geometry in (None, spec.geometry)
    geometry, interpolation = geometry or spec.geometry, interpolation or spec.interpolation
    if resize is None:
        resize = round(spec.resize * size / spec.size) if own else 0
    _check(spec, geometry, interpolation, voi, preprocessing)
    network = precision_of(precision).calibrated
    if network and study is None:
        raise RecipeError(
            f"{precision} quantises the network on training images: give the `study`, or name a network that is "
            "quantised already as `weights` (`cxrfeat weights ls` lists them)."
        )
    found = _find_weights(spec, weights, study)
    recipe = Recipe(
        backbone=spec.name,
        weights=found.name,
        weights_sha256=weights_module.weights_sha256(spec, found),
        weights_by=found.by,
        layer=spec.layer,
        preprocessing=preprocessing,
        size=size,
        geometry=geometry,
        resize=resize,
        interpolation=interpolation,
        crop_borders=crop_borders,
        voi=voi,
        precision="float32" if network else precision,
    )
    if network and study is not None:
        recipe = quantised.recipe_of(calibration.network(recipe, study, found, seed))
    return replace(recipe, **drawn)


def _check(spec: registry.Backbone, geometry: str, interpolation: str, voi: str, preprocessing: str) -> None:
    """Raise a RecipeError for an option without such a value, or that the network does not take."""
    for what, value, known in (
        ("geometry", geometry, choices.GEOMETRIES),
        ("interpolation", interpolation, choices.FILTERS),
        ("voi", voi, choices.VOIS),
        ("preprocessing", preprocessing, choices.NORMALISATION),
    ):
        if value not in known:
            raise RecipeError(f"unknown {what} {value!r}; choose one of {', '.join(known)}.")
    if not spec.takes(preprocessing):
        fitting = ", ".join(name for name in choices.NORMALISATION if spec.takes(name))
        raise RecipeError(f"`preprocessing` {preprocessing!r} does not fit {spec.name}, which takes {fitting}.")


def _of_network(card: Card, asked: dict[str, Any]) -> Recipe:
    """The recipe of a quantised network; an option that asks for another one is a RecipeError."""
    recipe = quantised.recipe_of(card)
    for name, value in asked.items():
        own = getattr(recipe, name)
        if value not in (None, own, DEFAULTS.get(name) if name != "backbone" else None, False):
            raise RecipeError(f"{card.name} was quantised with `{name}` {own!r}, not {value!r}: leave `{name}` out.")
    return recipe


def recipe_of(recipe: Recipe | None, options: RecipeOptions, study: Study | None = None) -> Recipe:
    """Return the recipe given, or one made from options; `weights` says of a given one where its file is now."""
    if recipe is None:
        return make_recipe(**options, study=study)
    if unknown := sorted(set(options) - RecipeOptions.__annotations__.keys()):
        raise TypeError(f"there is no option `{unknown[0]}`.")
    if other := sorted(set(options) - {"weights"}):
        raise RecipeError(f"give a recipe or its options, not both: `{other[0]}` is part of the recipe.")
    return recipe


def weights_of(recipe: Recipe, options: RecipeOptions) -> Weights:
    """Return the weights of a recipe on this machine, from the file that the options name, if they do."""
    named = options.get("weights", "auto")
    return weights_module.weights_for(recipe, None if named == "auto" else named)


def _find_weights(spec: registry.Backbone, wanted: str, study: Study | None) -> Weights:
    if wanted != "auto":
        return weights_module.find(spec, wanted)
    try:
        return weights_module.find(spec, spec.default_weights)
    except WeightsError:
        if study is None or not sample.holds(study):
            raise
        _log.warning(
            "ImageNet weights of %s are not available: RANDOM weights (random:0) are used for the sample. The numbers "
            "show that the pipeline works, and are not a result.",
            spec.name,
        )
        return weights_module.find(spec, "random:0")
