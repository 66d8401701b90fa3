"""Renderings that the file of a similar recipe has: with more passes, only the new ones are computed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from itertools import compress
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from cxrfeat._recipe import Recipe
from cxrfeat._store import EmbeddingFile, names
from cxrfeat.errors import CxrfeatError

_log = logging.getLogger(__name__)

Known: TypeAlias = dict[str, tuple[bytes, npt.NDArray[np.float32]]]
"""By image id: SHA-256 of the image file, and its first renderings' embeddings, float32 (passes, dim)."""


class Earlier:
    """The embedding file of another number of passes or storage, with the most renderings that a recipe also has."""

    def __init__(self, file: EmbeddingFile, passes: int) -> None:
        self.file, self.passes = file, passes

    @classmethod
    def find(cls, own: Path, recipe: Recipe) -> Earlier | None:
        """Look beside the file `own`; None if no other file there has a rendering of the recipe."""
        best: Earlier | None = None
        for path in names.beside(own):
            try:
                file = EmbeddingFile(path)
            except CxrfeatError:  # damaged, or of another version: it is of no use here
                continue
            passes = min(_shared(file.recipe, recipe), file.passes)
            if passes <= (best.passes if best else 0):
                file.close()
                continue
            if best:
                best.file.close()
            best = cls(file, passes)
        if best:
            found, of = best.passes, recipe.passes + 1
            _log.info("%d of %d passes of images whose files are the same come from %s.", found, of, best.file.path)
        return best

    def read(self, image_ids: Sequence[str]) -> Known:
        """What is known of some images."""
        there = list(compress(image_ids, self.file.has(image_ids)))
        if not there:
            return {}
        try:
            embeddings = self.file.read(there, range(self.passes))
        except CxrfeatError as error:  # a damaged block of another file must not end this extraction
            _log.warning("%s They are computed again.", error)
            return {}
        hashes = self.file.image_sha256(there)
        return {i: (bytes(hashes[k]), embeddings[:, k]) for k, i in enumerate(there)}


def _shared(other: Recipe, recipe: Recipe) -> int:
    """How many renderings of another recipe a recipe can take over, from pass 0 on."""
    if other.storage == recipe.storage and other.passes == recipe.passes:
        return 0
    if other.storage == "float32":  # it holds all that another storage is rounded from
        other = replace(other, storage=recipe.storage)
    if other.pass0 != recipe.pass0:
        return 0
    drawn = (other.augmentation, other.seed) == (recipe.augmentation, recipe.seed)
    return 1 + min(other.passes, recipe.passes) if drawn else 1
