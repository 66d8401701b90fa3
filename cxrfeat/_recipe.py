"""The recipe: everything that decides an embedding's value, and nothing else.

The engine, the batch size and the device are not in it: in float32 engines agree within 1e-4, and a file records in its
provenance which of them ran. Two files with the same recipe hold the same numbers for the same image.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from typing import Any

from cxrfeat import _html
from cxrfeat._precision import precision
from cxrfeat._typed import hints_of, typed
from cxrfeat.errors import RecipeError

DEFAULTS: dict[str, Any] = {
    "backbone": "densenet121",
    "weights": "auto",
    "voi": "file",
    "precision": "float32",
    "storage": "float32",
    "policy": "mild",
    "passes": 0,
    "seed": 0,
}
"""What `make_recipe` takes where an option is not given; here, since help texts show it and import no numpy."""

STORAGES = ("float32", "float16")
"""What an embedding file keeps each number in: float16 takes half the space, and rounds to 11 bits."""


@dataclass(frozen=True, repr=False, eq=False)
class Recipe:
    """What an embedding file was made by; `make_recipe` makes one from options.

    Attributes
    ----------
    backbone : str
        Name of the network, such as `densenet121`.
    weights : str
        `imagenet`, `random:SEED`, the name of a weights file without its folder, or that of imported weights.
    weights_sha256 : str
        Of the weights file; for `random:SEED` of the arrays drawn, for imported weights of their values.
    layer : str
        The layer whose global average is the embedding.
    preprocessing : str
        Name of the normalisation: `torch`, `caffe`, `tf` (modes of keras.applications), `unit` ([0, 1], the reference
        paper's), `xrv` ([-1024, 1024], one channel, TorchXRayVision's) or `raw` (the network scales its input itself).
    size : int
        Side of the square network input, pixels.
    interpolation : str
        The filter that brings an image to `size`.
    augmentation : mapping or None
        The augmentation policy's name and ranges; None without augmented passes.
    seed : int
        Seed of the augmentation draws; 0 without augmented passes.
    passes : int
        Number of augmented passes beside pass 0.
    geometry : str
        How an oblong image becomes a square: `stretch`, `crop` (the largest square at its centre) or `pad` (with black,
        to the smallest square around it).
    resize : int
        0: `crop` and `pad` come before the image is resized. Otherwise it is resized first, its shorter side (`crop`)
        or longer side (`pad`) to so many pixels, and then cut or padded to `size`.
    weights_by : str
        What identifies the weights: `file` (and their name), or `values`, whatever their name and container.
    crop_borders : bool
        Whether black and white borders of the image are cut off before anything else.
    voi : str
        What becomes black and white: what the `file` says (its table or window, else its bit depth), the `full` range
        of its bits, or the 0.5th and 99.5th `percentile` of its pixels.
    precision : str
        What the network computes in: `float32`, `bfloat16`, `float16` or `int8`. Embeddings are float32 numbers in any
        case.
    network_sha256 : str
        Of a network that was quantised on images (`int8`), the hash of what is run; otherwise empty.
    storage : str
        What a file keeps each number in: `float32`, or `float16`, to which all embeddings are then rounded.

    Raises
    ------
    RecipeError
        If size or passes are out of range, augmented passes have no policy, or `resize` does not fit `geometry`.

    Examples
    --------
    >>> import cxrfeat as cxr
    >>> recipe = cxr.Recipe("densenet121", "imagenet", "a" * 64, layer="relu", preprocessing="torch", size=224)
    >>> recipe
    <Recipe b2f595e5: densenet121, imagenet, 224 px>
    >>> cxr.Recipe.from_json(recipe.to_json()) == recipe
    True
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
    # A field that a later version of the JSON form adds declares since which, and a default.
    geometry: str = field(default="stretch", metadata={"since": 2})
    resize: int = field(default=0, metadata={"since": 2})
    weights_by: str = field(default="file", metadata={"since": 2})
    crop_borders: bool = field(default=False, metadata={"since": 2})
    voi: str = field(default="file", metadata={"since": 2})
    precision: str = field(default="float32", metadata={"since": 2})
    storage: str = field(default="float32", metadata={"since": 2})
    network_sha256: str = field(default="", metadata={"since": 2})

    def __post_init__(self) -> None:
        if self.weights_by not in ("file", "values"):
            raise RecipeError(f"`weights_by` is `file` or `values`, not {self.weights_by!r}.")
        if precision(self.precision).calibrated != bool(self.network_sha256):
            needs = "has" if self.network_sha256 else "lacks"
            raise RecipeError(f"a recipe of precision {self.precision} {needs} the hash of a quantised network.")
        if self.storage not in STORAGES:
            raise RecipeError(f"unknown storage {self.storage!r}; choose one of {', '.join(STORAGES)}.")
        if self.passes < 0 or self.size < 1:
            raise RecipeError(f"a recipe needs size >= 1 and passes >= 0, not {self.size} and {self.passes}.")
        if self.passes == 0:  # what is never drawn must not make two equal files differ
            object.__setattr__(self, "augmentation", None)
            object.__setattr__(self, "seed", 0)
        elif self.augmentation is None:
            raise RecipeError("augmented passes need an augmentation policy.")
        fits = {"crop": self.resize >= self.size, "pad": 0 < self.resize <= self.size}.get(self.geometry, False)
        if self.resize and not fits:
            raise RecipeError(
                f"`resize` {self.resize} does not fit `geometry={self.geometry}` and size {self.size}: it is 0, or "
                "with `geometry=crop` at least the size, or with `geometry=pad` at most."
            )

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces, the oldest version that can express it.

        Equal recipes give equal text, in every release: version 1 has no `version` field, and a field of a later
        version is left out at its default.
        """
        content, version = asdict(self), 1
        for known in fields(self):
            if (since := known.metadata.get("since", 1)) > 1:
                if content[known.name] == known.default:
                    del content[known.name]
                else:
                    version = max(version, since)
        if version > 1:
            content["version"] = version
        return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """Read what `to_json` of this or an earlier release wrote.

        Parameters
        ----------
        text : str
            The JSON.

        Raises
        ------
        RecipeError
            If it is not a recipe, or was written by a newer cxrfeat.
        """
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise RecipeError(f"not a recipe: {error}.") from error
        if not isinstance(found, dict):
            raise RecipeError("not a recipe: it is not a JSON object.")
        version = found.pop("version", 1)
        newest = max(f.metadata.get("since", 1) for f in fields(cls))
        if type(version) is not int or not 1 <= version <= newest:
            raise RecipeError(f"the recipe has version {version!r}; this cxrfeat reads 1 to {newest}. Upgrade cxrfeat.")
        known = {f.name: f for f in fields(cls) if f.metadata.get("since", 1) <= version}
        if unknown := set(found) - set(known):
            raise RecipeError(f"the recipe has a field {sorted(unknown)[0]!r} that version {version} does not know.")
        for name, declared in known.items():
            if name not in found:
                if declared.default is MISSING:
                    raise RecipeError(f"not a recipe: it has no field {name!r}.")
                continue
            try:
                typed(hints_of(cls)[name], found[name], name)
            except TypeError as error:
                raise RecipeError(
                    f"not a recipe: field {name!r} is {found[name]!r}, not of type {declared.type}."
                ) from error
        return cls(**found)

    @property
    def sha256(self) -> str:
        """Hash of the canonical JSON, hexadecimal: the recipe's identity. Weights by values have no name in it."""
        named = self.weights_by == "file"
        return hashlib.sha256((self if named else replace(self, weights="")).to_json().encode()).hexdigest()

    @property
    def pass0(self) -> Recipe:
        """The recipe of pass 0 alone: files with the same one have interchangeable unaugmented embeddings."""
        return replace(self, passes=0)

    @property
    def random(self) -> bool:
        """Whether the backbone has random weights, so that nothing made from it is a result."""
        return self.weights.startswith("random:")

    def describe(self) -> str:
        """Short description for titles and tables."""
        weights = f"RANDOM weights ({self.weights})" if self.random else self.weights
        passes = f", pass 0 + {self.passes} augmented" if self.passes else ""
        unit = ", [0,1] input" if self.preprocessing == "unit" else ""
        square = "" if self.geometry == "stretch" else f" {self.geometry}"
        borders = ", borders cut" if self.crop_borders else ""
        voi = "" if self.voi == "file" else f", {self.voi} range"
        reduced = "" if self.precision == "float32" else f", {self.precision}"
        reduced += f" (network {self.network_sha256[:8]})" if self.network_sha256 else ""
        storage = "" if self.storage == "float32" else f", stored as {self.storage}"
        return f"{self.backbone}, {weights}, {self.size} px{square}{borders}{voi}{unit}{reduced}{storage}{passes}"

    def difference(self, other: Recipe) -> str:
        """Name the fields in which two recipes differ, with both values.

        Parameters
        ----------
        other : Recipe
            The one to compare with.
        """
        mine, theirs = asdict(self), asdict(other)
        if self.weights_by == other.weights_by == "values":
            del mine["weights"]
        return "; ".join(f"{k}: {mine[k]!r} against {theirs[k]!r}" for k in mine if mine[k] != theirs[k])

    def __eq__(self, other: object) -> bool:
        return self.sha256 == other.sha256 if isinstance(other, Recipe) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.sha256)

    def __repr__(self) -> str:
        return f"<Recipe {self.sha256[:8]}: {self.describe()}>"

    def _repr_html_(self) -> str:
        return _html.page(f"Recipe {self.sha256[:8]}", {"": self.describe()} | asdict(self))
