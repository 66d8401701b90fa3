"""Maps averaged over augmented renderings of an image, each warped back to where it came from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cxrfeat._explain.geometry import compose, grid_to_input, invert, resample
from cxrfeat._images import augment, choices, prepare
from cxrfeat._recipe import Recipe


def rendering(
    recipe: Recipe, image_id: str, grey: npt.NDArray[np.uint8], seed: int = 0, number: int = 0
) -> npt.NDArray[np.uint8]:
    """The network input of rendering `number` (0 is the clean one), uint8 (size, size)."""
    if number == 0:
        return prepare.render(grey, recipe.size, None, recipe.interpolation)
    policy = _policy(recipe)
    matrix = augment.matrix(policy, seed, image_id, number)
    return prepare.render(grey, recipe.size, matrix, recipe.interpolation, policy.border)


def average(
    recipe: Recipe, image_id: str, shape: tuple[int, int], seed: int, passes: Sequence[npt.NDArray[np.float64]]
) -> npt.NDArray[np.float64]:
    """Average the maps of all renderings, float64 (labels, gh, gw) each, on the grid of the clean one, the first.

    Each cell is the mean over the renderings that show it: what a rotation pushed out of the picture does not count as
    no evidence.
    """
    clean = passes[0]
    layers = [clean]
    cell = grid_to_input(recipe.backbone, recipe.size)
    to_image = compose(prepare.geometry(shape, recipe.size), cell)
    for number, maps in enumerate(passes[1:], start=1):
        matrix = augment.matrix(_policy(recipe), seed, image_id, number)
        warped = compose(prepare.geometry(shape, recipe.size, matrix), cell)
        layers.append(resample(maps, compose(invert(warped), to_image), clean.shape[1:]))
    stack = np.stack(layers)
    shown = np.isfinite(stack)
    total = np.where(shown, stack, 0.0).sum(axis=0)
    # The clean rendering shows every cell; what it does not know (an unlearnt label) stays unknown.
    return np.where(np.isnan(clean), np.nan, total / np.maximum(shown.sum(axis=0), 1))


def _policy(recipe: Recipe) -> choices.Policy:
    return choices.policy_of(recipe.augmentation or choices.DEFAULT_POLICY)
