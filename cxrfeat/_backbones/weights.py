"""Where a backbone's weights come from: Keras's ImageNet files, a file of the user's, or a random draw.

ImageNet files live in Keras's own download folder and are checked by Keras's own hash, so that what keras.applications
has fetched is reused, and the other way round. A download goes to a temporary file that takes its place only once its
hash is right, and stops within seconds if the network is silent.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cxrfeat import _files as files
from cxrfeat._backbones import kept, registry
from cxrfeat._backbones.registry import BACKBONES, Backbone
from cxrfeat._progress import Progress, silent
from cxrfeat._recipe import Recipe
from cxrfeat.errors import RecipeError, WeightsError

_log = logging.getLogger(__name__)

CONNECT_TIMEOUT, READ_TIMEOUT = 5, 60
"""Seconds without a connection, and without a byte, after which a download gives up."""


@dataclass(frozen=True)
class Weights:
    """Weights in a file on this machine, or drawn at random; `name` is what the recipe calls them."""

    name: str
    path: Path | None = None
    seed: int = 0

    @property
    def random(self) -> bool:
        """Whether they were drawn at random."""
        return self.path is None

    def sha256(self) -> str | None:
        """Hash of the file; None for a random draw, whose hash only the drawn arrays can give."""
        return None if self.path is None else files.sha256(self.path)


def keras_folder() -> Path:
    """Keras's own download folder for weights."""
    home = os.environ.get("KERAS_HOME")
    return (Path(home) if home else Path.home() / ".keras") / "models"


def find(backbone: Backbone, wanted: str, fetch_missing: bool = True, progress: Progress = silent) -> Weights:
    """Return the weights that `wanted` names: `imagenet`, `random:SEED`, or a path.

    Raises
    ------
    WeightsError
        If they are missing and cannot be downloaded, or are damaged.
    """
    if wanted == "imagenet" and not backbone.weights_url:
        raise WeightsError(
            f"there are no official ImageNet weights of {backbone.name}. Give a file as `weights`, or take "
            "`weights=random:0`, a baseline and never a result."
        )
    if wanted == "imagenet":
        path = keras_folder() / backbone.weights_file
        if not path.is_file() and not fetch_missing:
            raise WeightsError(f"ImageNet weights of {backbone.name} are not at {path}. " + ways_on(backbone))
        return Weights("imagenet", check(backbone, path) if path.is_file() else fetch(backbone, progress))
    if wanted.startswith("random:"):
        seed = wanted.removeprefix("random:")
        if not (seed.isascii() and seed.isdigit()):
            raise WeightsError(f"weights {wanted!r}: a whole number follows random:, as in random:0.")
        return Weights(f"random:{int(seed)}", seed=int(seed))
    path = Path(wanted)
    if not path.is_file():
        raise WeightsError(
            f"no weights file at {wanted}; `weights` takes imagenet, random:SEED, or the path of a .h5 file."
        )
    return Weights(path.name, path)


def weights_sha256(backbone: str, weights: Weights, fresh: bool = False) -> str:
    """Hash of the weights as the recipe keeps it; that of a random draw is kept, since it takes TensorFlow."""
    if (known := weights.sha256()) is not None:
        return known
    spec = registry.get(backbone)

    def drawn() -> str:
        from cxrfeat._backbones import graph

        return graph.weights_sha256(graph.keras_graph(backbone, weights, spec.preprocessing, spec.min_size))

    return drawn() if fresh else str(kept.value(f"random/{backbone}-{spec.sha256[:8]}-{weights.seed}", drawn))


def weights_for(recipe: Recipe, named: str | None = None, fresh: bool = False) -> Weights:
    """Return the weights that a recipe was made with; a user's file is `named`, since a recipe keeps no folder.

    Raises
    ------
    WeightsError
        If they are missing or damaged.
    RecipeError
        If what is found has another hash.
    """
    weights = find(registry.get(recipe.backbone), named or recipe.weights)
    found = weights_sha256(recipe.backbone, weights, fresh)
    if found != recipe.weights_sha256:
        raise RecipeError(
            f"weights {named or recipe.weights!r} have sha256 {found[:12]}…, the recipe was made with "
            f"{recipe.weights_sha256[:12]}…. Name the right file as `weights`."
        )
    return weights


def ways_on(backbone: Backbone) -> str:
    """The sentence that helps a user without ImageNet weights."""
    return (
        f"Three ways on: (1) on a machine with internet run `cxrfeat weights fetch {backbone.name}` and copy "
        f"{backbone.weights_file} into {keras_folder()}; (2) give the path of a weights file as `weights`; (3) take "
        "`weights=random:0`, a baseline and never a result."
    )


def check(backbone: Backbone, path: Path) -> Path:
    """Return `path` if it holds Keras's official file, byte for byte; else raise a WeightsError."""
    kind, _, expected = backbone.weights_hash.partition(":")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, kind).hexdigest()
    if found != expected:
        raise WeightsError(
            f"{path} is not Keras's official file: its {kind} is {found}, not {expected}. It may be incomplete. Delete "
            f"it and run `cxrfeat weights fetch {backbone.name}`, or give its path as `weights` to use it as it is."
        )
    return path


def fetch(backbone: Backbone, progress: Progress = silent) -> Path:
    """Download Keras's official ImageNet weights unless they are there, and check them; a failure leaves no file."""
    import pooch
    import requests

    pooch.get_logger().setLevel(logging.WARNING)  # ours says the same
    if not (keras_folder() / backbone.weights_file).is_file():
        _log.info("downloading the ImageNet weights of %s into %s.", backbone.name, keras_folder())
    try:
        downloader = pooch.HTTPDownloader(progressbar=_Bar(progress), timeout=(CONNECT_TIMEOUT, READ_TIMEOUT))
        found = pooch.retrieve(
            url=backbone.weights_url,
            known_hash=backbone.weights_hash,
            fname=backbone.weights_file,
            path=keras_folder(),
            downloader=downloader,
        )
    except (requests.RequestException, OSError, ValueError) as error:
        wrong = isinstance(error, ValueError) and not isinstance(error, requests.RequestException)
        reason = "the file is not the official one" if wrong else f"the download failed ({type(error).__name__})"
        raise WeightsError(
            f"ImageNet weights of {backbone.name} are not available: {reason}. {ways_on(backbone)}"
        ) from error
    return Path(found)


def listing() -> Iterator[dict[str, str]]:
    """One row per backbone: whether its official ImageNet weights are here, and undamaged; see `cxrfeat.weights.ls`."""
    for backbone in BACKBONES:
        path = keras_folder() / backbone.weights_file
        state = "missing" if backbone.weights_url else "none"
        if backbone.weights_url and path.is_file():
            try:
                check(backbone, path)
                state = "ok"
            except WeightsError:
                state = "damaged"
        yield {
            "backbone": backbone.name,
            "weights": "imagenet",
            "state": state,
            "file": backbone.weights_file,
            "folder": str(path.parent),
            "hash": backbone.weights_hash,
        }


def draw(shapes: Mapping[str, tuple[int, ...]], seed: int) -> dict[str, npt.NDArray[np.float32]]:
    """Draw random weights, the same for one seed on every platform.

    Convolution kernels are uniform with Glorot and Bengio's (2010) limit, keras.applications' own initialiser; of batch
    normalisation the scale and variance are 1, the shift and mean 0, and so are biases. `shapes` are by variable path
    (`conv1_conv/kernel`).
    """
    drawn = {}
    for name, shape in shapes.items():
        leaf = name.rpartition("/")[2]
        if leaf == "kernel":
            entropy = int.from_bytes(hashlib.sha256(f"{seed}\x1f{name}".encode()).digest(), "big")
            fan = int(np.prod(shape[:-2]))
            depthwise = fan > 1 and min(shape[-2:]) == 1  # each channel has a filter of its own
            limit = np.sqrt(6.0 / (fan * (2 if depthwise else shape[-2] + shape[-1])))
            # Raw bits rather than Generator.uniform, whose stream numpy may change between versions.
            bits = np.random.PCG64(entropy).random_raw(int(np.prod(shape)))
            drawn[name] = ((bits >> np.uint64(11)) * 2.0**-53 * 2 * limit - limit).astype(np.float32).reshape(shape)
        else:
            drawn[name] = np.full(shape, 1.0 if leaf in ("gamma", "moving_variance") else 0.0, np.float32)
    return drawn


def arrays_sha256(arrays: Mapping[str, npt.NDArray[np.float32]]) -> str:
    """Hash of named arrays: names, shapes and little-endian float32 values, by name."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name}{arrays[name].shape}".encode())
        digest.update(np.ascontiguousarray(arrays[name], dtype="<f4").tobytes())
    return digest.hexdigest()


class _Bar:
    """What pooch asks of a progress bar, handed on to a callback; `total` is set by pooch."""

    def __init__(self, progress: Progress) -> None:
        self.progress, self.total, self.done = progress, 0, 0

    def update(self, size: int) -> None:
        self.done += size
        self.progress(self.done, self.total, "bytes")

    def reset(self) -> None:
        self.done = 0

    def close(self) -> None:
        """Nothing to do: whoever gave the callback closes its bar."""
