"""The network of an int8 recipe: quantised on a seeded sample of training images, or found as it was kept."""

from __future__ import annotations

import hashlib
import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import numpy as np

from cxrfeat import _machine as machine
from cxrfeat import _manifest as manifest
from cxrfeat._backbones import quantised, registry
from cxrfeat._backbones.engine import Images
from cxrfeat._backbones.library import Card
from cxrfeat._backbones.weights import Weights
from cxrfeat._extract import pipeline
from cxrfeat._extract.ahead import Ahead
from cxrfeat._extract.pipeline import Item
from cxrfeat._images.choices import FILTERS
from cxrfeat._recipe import Recipe
from cxrfeat._study import Study
from cxrfeat.errors import ImageError, StudyError

SAMPLE, FEWEST = 400, 8
"""Images that a network is quantised on and checked with: at most, where the study has as many, and at least."""

PIXELS = 1 << 28
"""Pixels that the sample may have in memory: larger inputs make it smaller."""

_log = logging.getLogger(__name__)


def network(recipe: Recipe, study: Study, weights: Weights, seed: int) -> Card:
    """Return the quantised network of a float32 recipe for a study; it is made where it is not kept yet."""
    items = _sample(study, min(SAMPLE, PIXELS // recipe.size**2), seed)
    found = manifest.hashes([item.path for item in items])
    sample = hashlib.sha256("".join(digest.hex() for digest in found if digest).encode()).hexdigest()
    cards = quantised.cards_of(recipe)
    for card in cards:
        if card.network["sample_sha256"] == sample:
            return card
    if others := [card for card in cards if card.network["study"] == study.name]:
        _log.warning(
            "the training images of study %r, or `seed`, are not those that %s was quantised on: another network is "
            "made, and another recipe. `weights=%s` takes that one.",
            study.name, others[-1].name, others[-1].name,
        )  # fmt: skip
    _log.info("int8: the network is quantised on training images of study %r, once.", study.name)
    images = _pixels(items, recipe)
    if len(images) < FEWEST:
        raise ImageError(
            f"int8 needs at least {FEWEST} training images to quantise the network on, and of study {study.name!r} "
            f"{len(images)} can be used. Take `precision=bfloat16` or `float32`."
        )
    about = {"study": study.name, "seed": seed, "images": len(images), "sample_sha256": sample}
    return quantised.make(recipe, registry.get(recipe.backbone), weights, images, about)


def _sample(study: Study, number: int, seed: int) -> list[Item]:
    """Training images, drawn by a seed whatever the order of the table."""
    if "train" not in study.splits:
        raise StudyError(
            f"int8 quantises the network on training images, and study {study.name!r} has no split `train`. Name a "
            "network that is quantised already as `weights` (`cxrfeat weights ls` lists them), or take "
            "`precision=bfloat16`."
        )
    train = study.split("train")
    order = np.argsort(train.ids)
    drawn = np.random.default_rng(seed).permutation(len(order))[:number]
    train = train.take(order[drawn])
    return [Item(str(image_id), path) for image_id, path in zip(train.ids, train.paths(), strict=True)]


def _pixels(items: list[Item], recipe: Recipe) -> Images:
    """What the network gets of the images that can be used, (n, size, size)."""
    with ThreadPoolExecutor(machine.cores()) as pool, closing(Ahead(items)) as ahead:
        done = pool.map(lambda at: pipeline.prepare_batch(ahead.batch(at, at + 1), recipe, {}), range(len(items)))
        found = [one.rendered for one in done if one.rendered is not None]
    return np.concatenate([np.empty((0, recipe.size, recipe.size), FILTERS[recipe.interpolation].dtype), *found])
