"""Weights of backbones: which are here, and how to get them; and the networks that are kept of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from cxrfeat import _project
from cxrfeat._backbones import kept as _kept
from cxrfeat._backbones import weights as _weights
from cxrfeat._backbones.checkpoints.importing import import_file as _import_file
from cxrfeat._backbones.library import Card
from cxrfeat._backbones.registry import BACKBONES as _BACKBONES
from cxrfeat._progress import Progress, silent

__all__ = ["Card", "Imported", "fetch", "import_weights", "ls", "networks", "prune"]

if TYPE_CHECKING:
    from cxrfeat._run import Run


@dataclass(frozen=True)
class Imported:
    """What `import_weights` made.

    Attributes
    ----------
    card : Card
        What is known of the weights.
    run : Run or None
        The run of the checkpoint's classifier, if one was asked for.
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
    overwrite: bool = False,
) -> Imported:
    """Import the weights of another toolkit's checkpoint, so that `weights=name` names them from now on.

    Nothing in the file is run, and PyTorch is not needed. A checkpoint of another network, or with a tensor too many,
    too few or of another shape, is refused whole. The weights are known by their values: the same ones from another
    file give the same recipe.

    Parameters
    ----------
    file : path
        A PyTorch file (a state dict or a pickled module, of any version since 0.4), a safetensors file, or a Keras
        file (`.h5`, `.weights.h5`, `.keras`).
    name : str
        What to call the weights.
    layout : str, optional
        Whose checkpoint it is, such as `xrv-nih`; it says how images were prepared and what the outputs mean. By
        default it is recognised, where the file says it.
    labels : sequence of str, optional
        Names of the classifier's outputs in order, '' for one to leave out; by default the layout's.
    with_head : bool
        Also make a run of the checkpoint's classifier, which `predict`, `evaluate`, `compare` and `explain` take.
    run : path, optional
        Folder of that run; by default `runs/<name>`.
    overwrite : bool
        Replace other weights, or a run, of the same name.

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
    """
    from cxrfeat._extract import make_recipe
    from cxrfeat._heads.imported import check_run, save_run

    out = Path(run) if run is not None else _project.RUNS / name
    if with_head:
        check_run(out, overwrite)
    card = _import_file(file, name, layout, labels, with_head, overwrite)
    if not with_head:
        return Imported(card)
    return Imported(card, save_run(card, make_recipe(weights=card.name), out, overwrite))


def ls() -> pd.DataFrame:
    """List the official ImageNet weights of every backbone.

    Returns
    -------
    pandas.DataFrame
        One row per backbone: `backbone`, `weights`, `state` (`ok`, `missing`, `damaged`, or `none` where there are no
        official weights), `file`, `folder`, `hash`.

    Examples
    --------
    >>> import cxrfeat as cxr
    >>> list(cxr.weights.ls()["backbone"])[:2]
    ['densenet121', 'densenet169']
    """
    return pd.DataFrame(_weights.listing())


def fetch(backbone: str, *, progress: Progress = silent) -> Path:
    """Download the official ImageNet weights of a backbone into Keras's own folder, and check them.

    Parameters
    ----------
    backbone : str
        Its name.
    progress : callable
        Called with the bytes downloaded, the total, and a note.

    Returns
    -------
    pathlib.Path
        The file. One that is there already is checked and not downloaded again.

    Raises
    ------
    WeightsError
        If there is no connection, the file is not the official one, or there are no official weights.

    Examples
    --------
    >>> import cxrfeat as cxr
    >>> cxr.weights.fetch("densenet121")  # doctest: +SKIP
    PosixPath('/home/me/.keras/models/densenet121_weights_tf_dim_ordering_tf_kernels_notop.h5')
    """
    found = _weights.find(_BACKBONES[backbone], "imagenet", progress=progress).path
    assert found is not None, "ImageNet weights are a file"
    return found


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
