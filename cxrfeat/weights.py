"""Weights of backbones: which are here, and how to get them; and the networks that are kept of them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from cxrfeat._backbones import kept as _kept
from cxrfeat._backbones import weights as _weights
from cxrfeat._backbones.registry import BACKBONES as _BACKBONES
from cxrfeat._progress import Progress, silent

__all__ = ["fetch", "ls", "networks", "prune"]


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
