"""The recipe: everything that decides an embedding's value, and nothing that does not.

The engine, the batch size and the device are not in it: engines agree within 1e-4, and a file says in its provenance
which of them ran. Two files with the same recipe hold the same numbers for the same image.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from cxrfeat.errors import RecipeError

PREPROCESSING = ("torch", "caffe", "unit")


@dataclass(frozen=True)
class Recipe:
    """What an embedding file was made by.

    Attributes
    ----------
    backbone : str
        `densenet121` or `resnet50`.
    weights : str
        `imagenet`, `random:SEED`, or the name of a weights file without its folder.
    weights_sha256 : str
        Of the weights file; for `random:SEED`, of the arrays drawn.
    layer : str
        The layer whose global average is the embedding.
    preprocessing : str
        `torch` or `caffe` (the backbone's own mode in keras.applications) or `unit` ([0, 1], the reference paper's).
    size : int
        Side of the square network input, pixels.
    interpolation : str
        How an image is brought to `size`.
    augmentation : mapping or None
        The augmentation policy's name and ranges; None without augmented passes.
    seed : int
        Seed of the augmentation draws; 0 without augmented passes.
    passes : int
        Number of augmented passes beside pass 0.
    """

    backbone: str
    weights: str
    weights_sha256: str
    layer: str
    preprocessing: str
    size: int
    interpolation: str = "area"
    augmentation: Mapping[str, Any] | None = None
    seed: int = 0
    passes: int = 0

    def __post_init__(self) -> None:
        if self.preprocessing not in PREPROCESSING:
            raise RecipeError(f"preprocessing {self.preprocessing!r} is not one of {', '.join(PREPROCESSING)}.")
        if self.passes < 0 or self.size < 1:
            raise RecipeError(f"a recipe needs size >= 1 and passes >= 0, not {self.size} and {self.passes}.")
        if self.passes == 0:  # what is never drawn must not tell two equal files apart
            object.__setattr__(self, "augmentation", None)
            object.__setattr__(self, "seed", 0)
        elif self.augmentation is None:
            raise RecipeError("augmented passes need an augmentation policy.")

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces. Equal recipes give equal text."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), ensure_ascii=True)

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """Read what `to_json` wrote.

        Parameters
        ----------
        text : str
            The JSON.

        Raises
        ------
        RecipeError
            If it is not a recipe, or has a field that this version does not know.
        """
        try:
            found = json.loads(text)
        except ValueError as error:
            raise RecipeError(f"not a recipe: {error}.") from error
        if not isinstance(found, dict):
            raise RecipeError("not a recipe: it is no JSON object.")
        known = {f.name for f in fields(cls)}
        if unknown := set(found) - known:
            raise RecipeError(f"the recipe has a field {sorted(unknown)[0]!r} that this version does not know.")
        try:
            return cls(**found)
        except TypeError as error:
            raise RecipeError(f"not a recipe: {error}.") from error

    @property
    def sha256(self) -> str:
        """Hash of the canonical JSON, hexadecimal."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @property
    def pass0(self) -> Recipe:
        """The recipe of pass 0 alone: files with the same one have interchangeable unaugmented embeddings."""
        return replace(self, passes=0)

    @property
    def random(self) -> bool:
        """Whether the backbone has random weights, so that nothing made from it is a result."""
        return self.weights.startswith("random:")

    def describe(self) -> str:
        """A few words for titles and tables."""
        weights = f"RANDOM weights ({self.weights})" if self.random else self.weights
        passes = f", pass 0 + {self.passes} augmented" if self.passes else ""
        unit = ", [0,1] input" if self.preprocessing == "unit" else ""
        return f"{self.backbone}, {weights}, {self.size} px{unit}{passes}"

    def difference(self, other: Recipe) -> str:
        """Name the fields in which two recipes differ, with both values.

        Parameters
        ----------
        other : Recipe
            The one to compare with.
        """
        mine, theirs = asdict(self), asdict(other)
        return "; ".join(f"{k}: {mine[k]!r} against {theirs[k]!r}" for k in mine if mine[k] != theirs[k])
