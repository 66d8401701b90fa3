"""Figures of an image as the network sees it: the first film, and what augmentation makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxrfeat._images import augment, prepare
from cxrfeat._images.decode import read_grey
from cxrfeat._recipe import Recipe
from cxrfeat._report import style


def renderings(recipe: Recipe, image_id: str, path: str | Path) -> list[npt.NDArray[np.uint8]]:
    """Pass 0 and every augmented pass of one image, uint8 (size, size) each, as extraction renders them."""
    policy = augment.policy_of(recipe.augmentation) if recipe.augmentation else None
    matrices = [augment.matrix(policy, recipe.seed, image_id, k) for k in range(1, recipe.passes + 1)] if policy else []
    grey = read_grey(path)
    return list(prepare.passes(grey, recipe.size, matrices, policy, recipe.interpolation))


def draw(
    pictures: Sequence[npt.NDArray[np.uint8]], names: Sequence[str], path: str | Path, title: str, caption: str
) -> list[Path]:
    """Draw renderings side by side.

    Parameters
    ----------
    pictures : sequence of uint8 (h, w)
    names : sequence of str
        One above each.
    path, title, caption
        As of every figure.

    Returns
    -------
    list of Path
        PNG (or the ending asked for), SVG, and a CSV with the mean grey value of each.
    """
    width = min(style.PAGE, 2.4 * len(pictures))
    figure, panels = style.new_figure(width, width / len(pictures) + 0.25, columns=len(pictures))
    for picture, name, axes in zip(pictures, names, panels, strict=True):
        axes.imshow(picture, cmap="gray", vmin=0, vmax=255)
        axes.set_axis_off()
        axes.set_title(name, fontsize=7.5)
    # A rendering is the same whatever weights come after it, so that there is nothing to stamp.
    style.annotate(figure, title, caption, random=False)
    means = pd.DataFrame({"rendering": list(names), "mean_grey": [float(picture.mean()) for picture in pictures]})
    return style.save(figure, path, means)
