"""Weights of backbones: which are here, and how to get them; and the networks that are kept of them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from cxrfeat._backbones import weights as _weights
from cxrfeat._backbones.registry import BACKBONES as _BACKBONES
from cxrfeat._progress import Progress, silent

__all__ = ["fetch", "ls"]


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
    ['densenet121', 'resnet50']
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
