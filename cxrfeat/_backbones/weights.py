"""Where a backbone's weights come from: Keras's ImageNet files, a file of the user's, or a random draw.

ImageNet files live in Keras's own download folder and are checked by Keras's own hash, so that what keras.applications
has fetched is reused, and the other way round. A download goes to a temporary file that takes its place only once its
hash is right, and gives up on a silent network within seconds.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cxrfeat import _files as files
from cxrfeat import _machine as machine
from cxrfeat._backbones import registry
from cxrfeat._backbones.registry import BACKBONES, Backbone
from cxrfeat._recipe import Recipe
from cxrfeat.errors import RecipeError, WeightsError

CONNECT_TIMEOUT, READ_TIMEOUT = 5, 60
"""Seconds without a connection, and without a byte, after which a download gives up."""

WAYS_ON = (
    "Three ways on: (1) on a machine with internet run `cxrfeat weights fetch {name}` and copy {file} into {folder}; "
    "(2) name a weights file with --weights PATH; (3) go on with --weights random:0, a baseline and never a result."
)


@dataclass(frozen=True)
class Weights:
    """Weights that are at hand.

    Attributes
    ----------
    name : str
        `imagenet`, `random:SEED`, or the file's name: what the recipe calls them.
    path : pathlib.Path or None
        The file; None for a random draw.
    seed : int
        Of the random draw.
    """

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


def find(backbone: Backbone, wanted: str, fetch_missing: bool = True) -> Weights:
    """Return the weights that `wanted` names.

    Parameters
    ----------
    backbone : Backbone
        For which network.
    wanted : str
        `imagenet`, `random:SEED`, or a path.
    fetch_missing : bool
        Whether to download ImageNet weights that are not there.

    Raises
    ------
    WeightsError
        If they cannot be had, or are damaged.
    """
    if wanted == "imagenet":
        path = keras_folder() / backbone.weights_file
        if not path.is_file() and not fetch_missing:
            raise WeightsError(f"ImageNet weights of {backbone.name} are not at {path}. " + ways_on(backbone))
        return Weights("imagenet", check(backbone, path) if path.is_file() else fetch(backbone))
    if wanted.startswith("random:"):
        seed = wanted.removeprefix("random:")
        if not seed.isdigit():
            raise WeightsError(f"weights {wanted!r}: after random: comes a whole number, as in random:0.")
        return Weights(f"random:{int(seed)}", seed=int(seed))
    path = Path(wanted)
    if not path.is_file():
        raise WeightsError(
            f"no weights file at {wanted}; --weights takes imagenet, random:SEED, or the path of a .h5 file."
        )
    return Weights(path.name, path)


def weights_sha256(backbone: str, weights: Weights) -> str:
    """Hash of the weights as the recipe keeps it; that of a random draw is remembered, since it takes TensorFlow."""
    if (known := weights.sha256()) is not None:
        return known
    kept = machine.cache_folder() / "random" / f"{backbone}-{weights.seed}.json"
    if kept.is_file():
        return str(json.loads(kept.read_text())["sha256"])
    from cxrfeat._backbones import graph

    network = graph.keras_graph(backbone, weights, "unit", registry.MIN_SIZE)
    sha256 = graph.weights_sha256(network)
    files.write_atomically(kept, json.dumps({"sha256": sha256}))
    return sha256


def weights_for(recipe: Recipe, named: str | None = None) -> Weights:
    """Return the weights that a recipe was made with.

    Parameters
    ----------
    recipe : Recipe
        The recipe.
    named : str, optional
        Where a weights file of the user's lies now; a recipe keeps its name and hash, not its folder.

    Raises
    ------
    WeightsError
        If they cannot be had.
    RecipeError
        If what is found has another hash.
    """
    weights = find(registry.get(recipe.backbone), named or recipe.weights)
    found = weights_sha256(recipe.backbone, weights)
    if found != recipe.weights_sha256:
        raise RecipeError(
            f"weights {named or recipe.weights!r} have sha256 {found[:12]}…, the recipe was made with "
            f"{recipe.weights_sha256[:12]}…. Name the right file with --weights."
        )
    return weights


def ways_on(backbone: Backbone) -> str:
    """The sentence that helps a user without ImageNet weights."""
    return WAYS_ON.format(name=backbone.name, file=backbone.weights_file, folder=keras_folder())


def check(backbone: Backbone, path: Path) -> Path:
    """Return `path` if it holds Keras's official file, byte for byte.

    Raises
    ------
    WeightsError
        If its hash is another.
    """
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "md5").hexdigest()  # md5 is what Keras publishes
    if found != backbone.weights_md5:
        raise WeightsError(
            f"{path} is not Keras's official file: its md5 is {found}, not {backbone.weights_md5}. It may be cut off; "
            f"delete it and run `cxrfeat weights fetch {backbone.name}`, or name it with --weights {path} to use it "
            "as it is."
        )
    return path


def fetch(backbone: Backbone, progress: bool = True) -> Path:
    """Download Keras's official ImageNet weights unless they are there, and check them.

    Parameters
    ----------
    backbone : Backbone
        For which network.
    progress : bool
        Whether to draw a bar on stderr.

    Raises
    ------
    WeightsError
        If there is no connection within seconds, or the file is not the official one. Nothing is left behind.
    """
    import logging

    import pooch
    import requests

    pooch.get_logger().setLevel(logging.WARNING)  # the path it announces is in our own message
    try:
        downloader = pooch.HTTPDownloader(
            progressbar=_bar() if progress else False, timeout=(CONNECT_TIMEOUT, READ_TIMEOUT)
        )
        found = pooch.retrieve(
            url=backbone.weights_url,
            known_hash=f"md5:{backbone.weights_md5}",
            fname=backbone.weights_file,
            path=keras_folder(),
            downloader=downloader,
        )
    except (requests.RequestException, OSError, ValueError) as error:
        reason = (
            "the file that came is not the official one"
            if isinstance(error, ValueError) and not isinstance(error, requests.RequestException)
            else f"the download failed ({type(error).__name__})"
        )
        raise WeightsError(
            f"ImageNet weights of {backbone.name} cannot be had: {reason}. {ways_on(backbone)}"
        ) from error
    return Path(found)


def listing() -> list[dict[str, object]]:
    """One row per backbone: whether its ImageNet weights are here, and whole."""
    rows: list[dict[str, object]] = []
    for backbone in BACKBONES.values():
        path = keras_folder() / backbone.weights_file
        state = "missing"
        if path.is_file():
            try:
                check(backbone, path)
                state = "ok"
            except WeightsError:
                state = "damaged"
        rows.append(
            {
                "backbone": backbone.name,
                "weights": "imagenet",
                "state": state,
                "file": backbone.weights_file,
                "folder": str(path.parent),
                "md5": backbone.weights_md5,
            }
        )
    return rows


def draw(shapes: Mapping[str, tuple[int, ...]], seed: int) -> dict[str, npt.NDArray[np.float32]]:
    """Draw random weights, the same for one seed on every platform.

    Convolution kernels are uniform with Glorot and Bengio's (2010) limit, keras.applications' own initialiser; of batch
    normalisation the scale and variance are 1, the shift and mean 0, and so are biases.

    Parameters
    ----------
    shapes : mapping of str to tuple of int
        Shape by variable path (`conv1_conv/kernel`).
    seed : int
        Any whole number.
    """
    drawn = {}
    for name, shape in shapes.items():
        leaf = name.rpartition("/")[2]
        if leaf == "kernel":
            entropy = int.from_bytes(hashlib.sha256(f"{seed}\x1f{name}".encode()).digest(), "big")
            fan = int(np.prod(shape[:-2]))
            limit = np.sqrt(6.0 / (fan * (shape[-2] + shape[-1])))
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
    """What pooch asks of a progress bar, drawn by rich."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn

        self._bar = Progress(
            "weights", BarColumn(), DownloadColumn(), TransferSpeedColumn(), console=Console(stderr=True)
        )
        self._task = self._bar.add_task("", total=None)
        self.total = 0

    def update(self, size: int) -> None:
        self._bar.start()
        self._bar.update(self._task, total=self.total or None, advance=size)

    def reset(self) -> None:
        self._bar.reset(self._task)

    def close(self) -> None:
        self._bar.stop()


def _bar() -> _Bar:
    return _Bar()
