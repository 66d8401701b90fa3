"""Embedding image files and arrays that are in no study."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TypeAlias, Unpack

import numpy as np
import numpy.typing as npt

from cxrfeat._backbones import engine as engines
from cxrfeat._backbones import registry
from cxrfeat._backbones.weights import Weights
from cxrfeat._extract import pipeline
from cxrfeat._extract.pipeline import Item
from cxrfeat._extract.recipes import RecipeOptions, recipe_of, weights_of
from cxrfeat._progress import Progress, silent
from cxrfeat._recipe import Recipe
from cxrfeat._remote import Place, Url, place
from cxrfeat._store.rows import stored
from cxrfeat.errors import ImageError

Image: TypeAlias = str | Place | npt.NDArray[np.uint8]


def embed(
    images: Image | Sequence[Image],
    recipe: Recipe | None = None,
    *,
    engine: str = "auto",
    workers: int | None = None,
    fresh: bool = False,
    progress: Progress = silent,
    **options: Unpack[RecipeOptions],
) -> npt.NDArray[np.float32]:
    """Embed image files or arrays, without a study; the values are those of pass 0 of `extract`.

    Parameters
    ----------
    images : path or ndarray of uint8, or a sequence of them
        Files (PNG, JPEG, TIFF, BMP, DICOM), also at addresses, or grey pictures of shape (h, w); one array of shape
        (n, h, w) is n images.
    recipe : Recipe, optional
        By default it is made from `options`. Augmented passes are left out.
    engine, workers, progress
        As for `extract`.
    fresh : bool
        Whether the network is made from its weights again, whatever is kept of it in the cache folder.
    **options
        `backbone`, `weights`, `size`, ...: the options of `make_recipe`. With a recipe, `weights` alone may be given:
        where the weights file is now.

    Returns
    -------
    ndarray of float32, shape (n, dim)

    Raises
    ------
    ImageError
        For the first image that cannot be used.
    RecipeError, WeightsError, EngineError
        If the network is not available as asked.

    Examples
    --------
    >>> import cxrfeat as cxr
    >>> table = cxr.copy_sample("xrays")
    >>> x = cxr.embed(sorted(table.parent.glob("images/*"))[:2], backbone="densenet121", weights="random:0")
    >>> x.shape, x.dtype
    ((2, 1024), dtype('float32'))
    """
    recipe, items = recipe_of(recipe, options), as_items(images)
    found, failures = embed_items(items, recipe, weights_of(recipe, options), engine, workers, fresh, progress)
    if failures:
        raise ImageError("{} {}".format(*next(iter(failures.values()))))
    return found


def as_items(images: Image | Sequence[Image]) -> list[Item]:
    """Return one item for each image; the path of an array is its number."""
    if isinstance(images, str | Path | Url) or (isinstance(images, np.ndarray) and images.ndim == 2):
        images = [images]
    items = []
    for number, image in enumerate(images):
        if isinstance(image, str | Path | Url):
            items.append(Item(str(number), place(image)))
        elif isinstance(image, np.ndarray) and image.ndim == 2 and image.dtype == np.uint8:
            items.append(Item(str(number), Path(f"image {number}"), grey=image))
        else:
            found = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
            raise ImageError(f"image {number} is {found}; give paths, or arrays of uint8 of shape (h, w) or (n, h, w).")
    return items


def embed_items(
    items: Sequence[Item],
    recipe: Recipe,
    weights: Weights | None = None,
    engine: str = "auto",
    workers: int | None = None,
    fresh: bool = False,
    progress: Progress = silent,
) -> tuple[npt.NDArray[np.float32], dict[int, tuple[Place, str]]]:
    """Embed pass 0 of the images that can be used, in order; the others by their place, with what is wrong."""
    none = np.zeros((0, registry.get(recipe.backbone).dim), np.float32)
    if not items:
        return none, {}
    places = {id(item): place for place, item in enumerate(items)}
    parts, done = [], 0
    failures: dict[int, tuple[Place, str]] = {}
    opened = engines.open_engine(recipe.pass0, weights, engine, fresh=fresh)
    with closing(pipeline.run(items, recipe.pass0, opened, workers)) as blocks:
        for block in blocks:
            parts += [block.embeddings[0]] if block.image_ids else []
            failures |= {places[id(item)]: (item.path, reason) for item, reason in (*block.failures, *block.away)}
            progress(done := done + block.size, len(items))
    found = np.concatenate([none, *parts])
    names = [str(item.path) for place, item in enumerate(items) if place not in failures]
    return stored(names, found[None], recipe.storage)[0], failures
