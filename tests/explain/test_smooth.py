"""Maps of augmented renderings, warped back: what is at one place in the film stays there."""

from dataclasses import asdict, replace

import cv2
import numpy as np
import pytest

from cxrfeat._explain import geometry
from cxrfeat._explain.cam import ClosedForm
from cxrfeat._images.choices import Policy
from cxrfeat._images.prepare import View
from cxrfeat._recipe import Recipe

# Far stronger than any policy that is trained with, so that a warp the wrong way round cannot pass.
STRONG = Policy("strong", rotation=25.0, shift_x=0.15, shift_y=0.15, shear=8.0, zoom=0.1, flip=0.5, border="nearest")
RECIPE = Recipe("densenet121", "random:0", "0" * 64, "relu", "torch", 512, augmentation=asdict(STRONG), passes=8)


def brightness(engine, recipe, grey, number):
    """The map of a network that knows brightness alone, (1, 16, 16), of one rendering."""
    pixels = geometry.rendering(recipe, "film.png", View.of(grey, recipe), 3, number)
    return ClosedForm([engine], np.array([[1.0, 0.0]]), np.zeros(1))([pixels[None]]).parts[0][0]


@pytest.mark.parametrize("shape", [(256, 256), (300, 500), (700, 400)])
@pytest.mark.parametrize(("square", "resize"), [("stretch", 0), ("crop", 0), ("crop", 540), ("pad", 0)])
def test_warped_back_maps_agree_with_the_clean_one_and_others_do_not(block_engine, shape, square, resize):
    recipe = replace(RECIPE, geometry=square, resize=resize)
    coarse = np.random.default_rng(0).integers(0, 256, (5, 5), dtype=np.uint8)
    grey = cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC)
    passes = [brightness(block_engine, recipe, grey, number) for number in range(9)]
    averaged = geometry.average(recipe, "film.png", View.of(grey, recipe), 3, passes)[0]
    unwarped, clean = np.mean(passes, axis=0)[0], passes[0][0]
    inside = np.s_[2:-2, 2:-2]  # beyond the film's border its edge is repeated, which no warp undoes
    assert np.corrcoef(averaged[inside].ravel(), clean[inside].ravel())[0, 1] > 0.98
    assert np.abs(averaged - clean)[inside].mean() < 0.25 * np.abs(unwarped - clean)[inside].mean()


def test_the_clean_rendering_alone_is_itself_and_unlearnt_labels_stay_unknown():
    maps = np.random.default_rng(0).normal(size=(2, 8, 8))
    maps[1] = np.nan
    view = View.of(np.zeros((256, 256), np.uint8), RECIPE)
    np.testing.assert_array_equal(geometry.average(RECIPE, "film.png", view, 3, [maps]), maps)
    averaged = geometry.average(RECIPE, "film.png", view, 3, [maps, maps])
    assert np.isfinite(averaged[0]).all() and np.isnan(averaged[1]).all()
