"""Where a backbone's weights come from: Keras's ImageNet files, a file of the user's, or a random draw.

ImageNet files live in Keras's own download folder and are checked by Keras's own hash, so that what keras.applications
has fetched is reused, and the other way round. Where a publisher states no hash, what was fetched first is what every
later file must be: its hash is pinned.
"""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path

from cxrfeat import _files as files
from cxrfeat._backbones import kept, library, registry
from cxrfeat._backbones.download import DownloadError, digest, download
from cxrfeat._backbones.library import Card
from cxrfeat._backbones.registry import Backbone
from cxrfeat._progress import Progress, silent
from cxrfeat._recipe import Recipe
from cxrfeat.errors import RecipeError, WeightsError

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Weights:
    """Weights in a file on this machine, imported ones, or a random draw; `name` is what the recipe calls them."""

    name: str
    path: Path | None = None
    seed: int = 0
    card: Card | None = None

    @property
    def by(self) -> str:
        """What identifies them; see `Recipe`."""
        return "values" if self.card else "file"


def keras_folder() -> Path:
    """Keras's own download folder for weights."""
    home = os.environ.get("KERAS_HOME")
    return (Path(home) if home else Path.home() / ".keras") / "models"


def find(backbone: Backbone, wanted: str) -> Weights:
    """Return the weights that `wanted` names; else raise a WeightsError.

    That is `imagenet`, `random:SEED`, the name of imported weights, or a path.
    """
    if backbone.onnx and wanted != backbone.name:
        raise WeightsError(f"{backbone.name} is an ONNX network with weights of its own: leave `weights` out.")
    if wanted == "imagenet":
        return Weights("imagenet", fetch(backbone))
    if wanted.startswith("random:"):
        seed = wanted.removeprefix("random:")
        if not (seed.isascii() and seed.isdigit()):
            raise WeightsError(f"weights {wanted!r}: a whole number follows random:, as in random:0.")
        return Weights(f"random:{int(seed)}", seed=int(seed))
    if card := library.find(wanted):
        if card.backbone != backbone.name:
            raise WeightsError(f"the weights {wanted!r} are of {card.backbone}, not of {backbone.name}.")
        return Weights(card.name, card=card)
    path = Path(wanted)
    if not path.is_file():
        raise WeightsError(
            f"no weights called {wanted!r} were imported, and no file is there; `weights` takes imagenet, random:SEED, "
            "the name of imported weights, or the path of a .h5 file. `cxrfeat weights import` takes other checkpoints."
        )
    if path.suffix.lower() in (".pt", ".pth", ".tar", ".safetensors", ".onnx"):
        raise WeightsError(
            f"{wanted} is not a file of Keras's. Import it first, and then give its name as `weights`: "
            f"`cxrfeat weights import {wanted} --as NAME`."
        )
    return Weights(path.name, path)


def weights_sha256(spec: Backbone, weights: Weights, fresh: bool = False) -> str:
    """Hash of the weights as the recipe keeps it: of the file, of imported values, or of the arrays drawn."""
    if weights.card is not None:
        return weights.card.values_sha256
    if weights.path is not None:
        return files.sha256(weights.path)

    def drawn() -> str:
        from cxrfeat._backbones import graph

        return graph.weights_sha256(graph.keras_graph(spec, weights, spec.preprocessing, spec.min_size))

    return drawn() if fresh else str(kept.value(f"random/{spec.name}-{spec.sha256[:8]}-{weights.seed}", drawn))


def weights_for(
    recipe: Recipe, named: str | Weights | None = None, spec: Backbone | None = None, fresh: bool = False
) -> Weights:
    """Return the weights that a recipe was made with; a user's file is `named`, since a recipe keeps no folder.

    Those of a recipe with a quantised network are that network, whatever is named.
    `fresh` draws random weights again instead of taking their hash from what is kept. Weights of another hash are a
    RecipeError, missing and damaged ones a WeightsError.
    """
    spec = spec or registry.get(recipe.backbone)
    if recipe.network_sha256:
        from cxrfeat._backbones import quantised

        network = quantised.card_of(recipe)
        return Weights(network.name, card=network)
    if named is None and recipe.weights_by == "values":
        card = library.by_values(recipe.backbone, recipe.weights_sha256, recipe.weights)
        if card is None:
            raise WeightsError(
                f"the weights {recipe.weights!r} of {recipe.backbone} are not on this machine (values "
                f"{recipe.weights_sha256[:12]}…). Import them from their checkpoint: `cxrfeat weights import`."
            )
        return Weights(card.name, card=card)
    weights = named if isinstance(named, Weights) else find(spec, named or recipe.weights)
    if weights.card and recipe.weights_by == "file" and weights.card.source_sha256 == recipe.weights_sha256:
        return weights  # what the recipe knows by its file has been imported since
    found = weights_sha256(spec, weights, fresh)
    if found != recipe.weights_sha256:
        raise RecipeError(
            f"weights {weights.name!r} have sha256 {found[:12]}…, the recipe was made with "
            f"{recipe.weights_sha256[:12]}…. Name the right file as `weights`."
        )
    return weights


def check(backbone: Backbone, path: Path) -> Path:
    """Return `path` if it holds Keras's official file, byte for byte; else raise a WeightsError.

    A file whose hash Keras does not state is pinned at its first use.
    """
    expected = backbone.weights_hash or pinned(path.name)
    if not expected:
        pin(path.name, path)
    elif (found := digest(path, expected)) != expected:
        what = "Keras's official file" if backbone.weights_hash else "the file that was used first"
        raise WeightsError(
            f"{path} is not {what}: its hash is {found}, not {expected}. It may be incomplete. Delete it and run "
            f"`cxrfeat weights fetch {backbone.name}`, or give its path as `weights` to use it as it is."
        )
    return path


def fetch(backbone: Backbone, progress: Progress = silent) -> Path:
    """Return the file of Keras's official ImageNet weights, checked, after downloading it where it is missing."""
    if not backbone.weights_url:
        raise WeightsError(
            f"there are no official ImageNet weights of {backbone.name}. Give a file as `weights`, or take "
            "`weights=random:0`, a baseline and never a result."
        )
    target = keras_folder() / backbone.weights_file
    if target.is_file():
        return check(backbone, target)
    _log.info("downloading the ImageNet weights of %s into %s.", backbone.name, target.parent)
    expected = backbone.weights_hash or pinned(target.name)
    try:
        return check(backbone, download(backbone.weights_url, target, expected, progress))
    except DownloadError as error:
        raise WeightsError(
            f"ImageNet weights of {backbone.name} are not available: {error}. Three ways on: (1) on a machine with "
            f"internet run `cxrfeat weights fetch {backbone.name}` and copy {backbone.weights_file} into "
            f"{keras_folder()}; (2) give the path of a weights file as `weights`; (3) take `weights=random:0`, a "
            "baseline and never a result."
        ) from error


def _pins() -> Path:
    return library.folder() / "pins.json"


def pinned(name: str) -> str:
    """The hash of a file's first version here, as `sha256:...`; empty if there has been none."""
    found = files.read_json(_pins()).get(name)
    return found if isinstance(found, str) and found.startswith("sha256:") else ""


def pin(name: str, path: Path) -> None:
    """Keep the hash of a file that was used for the first time, with a warning."""
    sha256 = f"sha256:{files.sha256(path)}"
    _log.warning(
        "nobody has published a hash of %s: it is taken as it was found, and pinned. Compare %s with another source.",
        name, sha256,
    )  # fmt: skip
    keep_pin(name, sha256)


def keep_pin(name: str, sha256: str) -> None:
    """Keep the hash of a file, `sha256:...`, unless there is one already."""
    known = files.read_json(_pins())
    if name not in known:
        files.write_atomically(_pins(), json.dumps(known | {name: sha256}, indent=1, sort_keys=True) + "\n")
