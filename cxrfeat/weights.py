"""Weights of backbones: which are here, and how to get them; and the networks that are kept of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import pandas as pd

from cxrfeat import _project
from cxrfeat._backbones import catalogue as _catalogue
from cxrfeat._backbones import imported as _imported
from cxrfeat._backbones import kept as _kept
from cxrfeat._backbones import pretraining as _pretraining
from cxrfeat._backbones.catalogue import fetch, remove, where
from cxrfeat._backbones.checkpoints.importing import import_file as _import_file
from cxrfeat._backbones.library import Card
from cxrfeat._backbones.packing import pack, unpack
from cxrfeat.errors import WeightsError

__all__ = [
    "Card", "Imported", "fetch", "import_weights", "ls", "networks", "pack", "prune", "remove", "unpack", "verify",
    "where",
]  # fmt: skip

if TYPE_CHECKING:
    from cxrfeat._run import Run


class ImageOptions(TypedDict, total=False):
    """How the images were prepared that weights were trained with, as `make_recipe` takes it."""

    size: int
    preprocessing: str
    geometry: str
    resize: int
    interpolation: str


@dataclass(frozen=True)
class Imported:
    """What `import_weights` made.

    Attributes
    ----------
    card : Card
        What is known of the weights.
    run : Run or None
        The run of the checkpoint's classifier, if one was asked for.

    Examples
    --------
    >>> import cxrfeat as cxr
    >>> cxr.weights.Imported(cxr.weights.Card("mine", "densenet121", "0" * 64))
    <Imported mine: densenet121, values 00000000>
    """

    card: Card
    run: Run | None = None

    def __repr__(self) -> str:
        run = f"; {self.run!r}" if self.run else ""
        return f"<Imported {self.card.describe()}{run}>"


def import_weights(
    file: str | Path,
    name: str,
    *,
    layout: str | None = None,
    labels: Sequence[str] | None = None,
    with_head: bool = False,
    run: str | Path | None = None,
    layer: str | None = None,
    tokens: str | None = None,
    seen: str | Path | Sequence[str | Path] = (),
    trained_on: str | None = None,
    licence: str | None = None,
    overwrite: bool = False,
    **options: Unpack[ImageOptions],
) -> Imported:
    """Import the weights of another toolkit's checkpoint, or a whole network, so that `weights=name` names them.

    Nothing in the file is run, and PyTorch is not needed. A checkpoint of another network, or with a tensor too many,
    too few or of another shape, is refused whole. The weights are known by their values: the same ones from another
    file give the same recipe. An ONNX network, or a Keras model of one's own up to a `layer`, becomes a backbone of
    that name: `backbone=name`.

    Parameters
    ----------
    file : path
        A PyTorch file (a state dict or a pickled module, of any version since 0.4), a safetensors file, a Keras file
        (`.h5`, `.weights.h5`, `.keras`), or an ONNX network (`.onnx`, with the values in it or beside it).
    name : str
        What to call the weights.
    layout : str, optional
        Whose checkpoint it is, such as `xrv-nih`; it says how images were prepared and what the outputs mean. By
        default it is recognised, where the file says it.
    labels : sequence of str, optional
        Names of the classifier's outputs in order, '' or `-` for one to leave out; by default the layout's.
    with_head : bool
        Also make a run of the checkpoint's classifier, which `predict`, `evaluate`, `compare` and `explain` take.
    run : path, optional
        Folder of that run; by default `runs/<name>`.
    layer : str, optional
        Of an ONNX network: the tensor that gives the embedding, a map (n, dim, rows, columns) or (n, rows, columns,
        dim), which is averaged, tokens (n, tokens, dim), or a vector (n, dim); by default its only output. Of a
        `.keras` model: the layer whose map (n, rows, columns, dim) is averaged. Without it, or with a wrong one, the
        error lists the candidates and their shapes.
    tokens : {"class", "mean"}, optional
        Of a tensor of tokens: whether the embedding is the class token, or the mean of the patches. Registers and
        other special tokens are left out of the mean. There are maps for the mean alone.
    seen : str, path or sequence of them
        Which images the weights have seen in training: a dataset, such as `ChestX-ray14`, with `=train`, `=test` or
        `=all` where it is known which part, or a file with an image id or the SHA-256 of an image file on each line.
        `evaluate` counts and names them.
    trained_on, licence : str, optional
        What tables and the model card say of the weights.
    overwrite : bool
        Replace other weights, or a run, of the same name.
    **options
        How images are prepared, as `make_recipe` takes it: `size`, `preprocessing`, `geometry`, `resize`,
        `interpolation`; by default as the layout says, for a network `preprocessing` is `torch`.

    Returns
    -------
    Imported
        The card of the weights, and the run.

    Raises
    ------
    WeightsError
        If the file is no checkpoint, is damaged, would call something, or is of another network, or its layout must be
        named.
    OutputError
        If the name is taken by other weights, or the run's folder is taken, and not `overwrite`.
    NotFoundError
        If there is no such file.

    Examples
    --------
    >>> import cxrfeat as cxr
    >>> release = "nih-densenet121-d121-tw-lr001-rot45-tr15-sc15-seed0-best.pt"
    >>> cxr.import_weights(release, "xrv-nih", with_head=True)  # doctest: +SKIP
    <Imported xrv-nih: densenet121, layout xrv-nih, values 7070989d; <Run xrv-nih: ...>>
    >>> cxr.extract("sample", weights="xrv-nih")  # doctest: +SKIP
    >>> rad_dino = {"size": 518, "preprocessing": "rad-dino", "geometry": "crop", "interpolation": "pillow-bicubic"}
    >>> cxr.import_weights("rad-dino.onnx", "rad-dino", tokens="mean", **rad_dino)  # doctest: +SKIP
    """
    from cxrfeat._extract import make_recipe
    from cxrfeat._heads.imported import check_run, save_run

    out = Path(run) if run is not None else _project.RUNS / name
    if with_head:
        check_run(out, overwrite)
    origin = {key: value for key, value in (("trained_on", trained_on), ("licence", licence)) if value is not None}
    pretraining, listed = _pretraining.statement([seen] if isinstance(seen, str | Path) else seen)
    stated: dict[str, Any] = {**origin, **({"pretraining": pretraining} if pretraining else {})}
    stated["options"] = _imported.check_options(options)
    more = {_pretraining.LIST: listed.encode()} if listed else {}
    if layer is not None or Path(file).suffix.lower() == ".onnx":
        if with_head or layout or labels:
            raise WeightsError(
                "`layout`, `labels` and `with_head` are for checkpoints, not for a network up to a layer."
            )
        return Imported(_imported.import_network(file, name, layer or "", tokens or "", stated, more, overwrite))
    if tokens:
        raise WeightsError("`tokens` is for ONNX networks whose `layer` gives tokens.")
    card = _import_file(file, name, layout, labels, with_head, overwrite, stated, more)
    if not with_head:
        return Imported(card)
    return Imported(card, save_run(card, make_recipe(weights=card.name), out, overwrite))


def ls() -> pd.DataFrame:
    """List all weights that are known: imported ones, official ones, and published ones that can be fetched.

    Returns
    -------
    pandas.DataFrame
        One row each: `weights` (the name), `backbone`, `state` (`ok`, `missing`, `damaged`, or `none` where a backbone
        has no official weights), `usable` (whether an extraction could start now), `trained_on`, `licence`, `bytes` (0
        where they are missing), `hash`, `reference`, `file`, `folder`.

    Examples
    --------
    >>> import cxrfeat as cxr
    >>> table = cxr.weights.ls().set_index("weights")
    >>> table.loc["xrv-nih", ["backbone", "trained_on"]].tolist()
    ['densenet121', 'NIH ChestX-ray14']
    """
    return pd.DataFrame(_catalogue.rows())


def verify(names: Sequence[str] = ()) -> pd.DataFrame:
    """Check weights against their hashes.

    Parameters
    ----------
    names : sequence of str
        Names in `ls`; by default all weights that are here.

    Returns
    -------
    pandas.DataFrame
        Their rows of `ls`; `state` is `ok`, `damaged` or `missing`.

    Raises
    ------
    WeightsError
        If there are no weights of that name.

    Examples
    --------
    >>> import cxrfeat as cxr
    >>> cxr.weights.verify(["densenet121"])["state"].isin(["ok", "missing"]).all()
    np.True_
    """
    return pd.DataFrame(_catalogue.chosen(names))


def networks() -> pd.DataFrame:
    """List the networks that are kept in the cache folder, so that an extraction starts without TensorFlow.

    Returns
    -------
    pandas.DataFrame
        One row per network: `network`, `backbone`, `weights`, `size` (pixels), `bytes`, `modified` (time), `state`
        (`ok` or `damaged`), `folder`.

    Examples
    --------
    >>> import cxrfeat as cxr
    >>> cxr.weights.networks()["bytes"].sum() / 1e6  # doctest: +SKIP
    635.2
    """
    columns = ["network", "backbone", "weights", "size", "bytes", "modified", "state", "folder"]
    table = pd.DataFrame(_kept.exports(), columns=columns)
    return table.assign(modified=pd.to_datetime(table["modified"], unit="s", utc=True), folder=table["folder"].map(str))


def prune(backbone: str | None = None) -> pd.DataFrame:
    """Remove the networks that are kept in the cache folder; each is made again when it is needed, in about 20 s.

    Parameters
    ----------
    backbone : str, optional
        Only those of this backbone.

    Returns
    -------
    pandas.DataFrame
        What was removed; see `networks`.

    Examples
    --------
    >>> import cxrfeat as cxr
    >>> len(cxr.weights.prune("vgg16"))
    0
    """
    found = networks()
    found = found if backbone is None else found[found["backbone"] == backbone]
    for folder in found["folder"]:
        _kept.remove(Path(folder))
    return found
