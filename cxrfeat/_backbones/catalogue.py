"""All weights that are known or were imported, one row each whatever their kind; and how to get, check and remove them.

Official ImageNet weights go by their backbone's name, published checkpoints by that of their layout, imported weights
and networks by the name that the user gave them. What is public here is a name of `cxrfeat.weights`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from cxrfeat import _machine as machine
from cxrfeat._backbones import kept, library, registry
from cxrfeat._backbones import weights as official
from cxrfeat._backbones.checkpoints.importing import import_file
from cxrfeat._backbones.checkpoints.layouts import LAYOUTS, Layout
from cxrfeat._backbones.download import MIRROR, DownloadError, digest, download
from cxrfeat._backbones.library import Card
from cxrfeat._backbones.registry import BACKBONES, Backbone
from cxrfeat._progress import Progress, silent
from cxrfeat.errors import WeightsError

_log = logging.getLogger(__name__)

IMAGENET_LICENCE = "keras.io/api/applications"


def rows() -> Iterator[dict[str, Any]]:
    """What is here first: imported weights, official ones, published ones that were not fetched."""
    cards = {card.name: card for card in library.cards()}
    for card in cards.values():
        yield _of_card(card)
    for backbone in BACKBONES:
        if backbone.default_weights == "imagenet":
            yield _of_backbone(backbone)
    for layout in LAYOUTS.values():
        if layout.url and layout.name not in cards:
            yield _of_layout(layout)


def fetch(name: str, *, progress: Progress = silent) -> Path:
    """Download official ImageNet weights, or a published checkpoint, and check them.

    An interrupted download goes on where it stopped. A file whose hash nobody has published is taken with a warning,
    and its hash is pinned: a later one must be the same.

    Parameters
    ----------
    name : str
        A backbone's name for its ImageNet weights, which go to Keras's own folder; or the name of published weights in
        `ls`, which are imported under that name.
    progress : callable
        Called with the bytes downloaded, the total, and a note.

    Returns
    -------
    pathlib.Path
        The file, or the folder of imported weights. What is there already is checked and not downloaded again.

    Raises
    ------
    WeightsError
        If there is no connection, the server is silent or too slow, the file is not the official one, or there is
        nothing to download under that name.

    Examples
    --------
    >>> import cxrfeat as cxr
    >>> cxr.weights.fetch("densenet121")  # doctest: +SKIP
    PosixPath('/home/me/.keras/models/densenet121_weights_tf_dim_ordering_tf_kernels_notop.h5')
    """
    if card := library.find(name):
        return card.path
    if name in LAYOUTS and LAYOUTS[name].url:
        return _fetch_layout(LAYOUTS[name], progress)
    return official.fetch(_backbone(name), progress)


def where(name: str) -> Path:
    """Return the file or folder of weights, also where they are missing.

    Parameters
    ----------
    name : str
        A name in `ls`.

    Examples
    --------
    >>> import cxrfeat as cxr
    >>> cxr.weights.where("resnet50").name
    'resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5'
    """
    if card := library.find(name):
        return card.path
    if name in LAYOUTS:
        return library.folder() / name
    return official.keras_folder() / _backbone(name).weights_file


def remove(name: str) -> list[Path]:
    """Remove weights from this machine, with the networks that are kept of them.

    Parameters
    ----------
    name : str
        A name in `ls`.

    Returns
    -------
    list of pathlib.Path
        What was removed.

    Raises
    ------
    WeightsError
        If they are not here.

    Examples
    --------
    >>> import cxrfeat as cxr
    >>> cxr.weights.remove("chexnet")  # doctest: +SKIP
    [PosixPath('/home/me/.local/share/cxrfeat/weights/chexnet')]
    """
    if (library.folder() / name / library.CARD).is_file():
        place = library.folder() / name
        try:
            values = library.load(name).values_sha256
        except WeightsError:  # a damaged card is removed too
            values = ""
        library.remove(name)
        exports = [row["folder"] for row in kept.exports() if values and values[:16] in row["folder"].name]
    else:
        place = where(name)
        if not place.is_file():
            raise WeightsError(f"the weights {name!r} are not here: there is no {place}.")
        place.unlink()
        exports = [r["folder"] for r in kept.exports() if (r["backbone"], r["weights"]) == (name, "imagenet")]
    for folder in exports:
        kept.remove(folder)
    return [place, *exports]


def chosen(names: Iterable[str]) -> list[dict[str, Any]]:
    """The rows of these names; without any, of all weights that are here. Unknown names are a WeightsError."""
    found = {row["weights"]: row for row in rows()}
    wanted = list(names)
    if unknown := [name for name in wanted if name not in found]:
        raise WeightsError(f"there are no weights {unknown[0]!r}; `cxrfeat weights ls` lists what is known.")
    return [found[name] for name in wanted] or [row for row in found.values() if row["state"] in ("ok", "damaged")]


def _row(name: str, backbone: str, state: str, path: Path, **more: Any) -> dict[str, Any]:
    return {
        "weights": name,
        "backbone": backbone,
        "state": state,
        "usable": state == "ok",
        "trained_on": more.get("trained_on", ""),
        "licence": more.get("licence", ""),
        "bytes": more.get("size", 0),
        "hash": more.get("sha", ""),
        "reference": more.get("reference", ""),
        "file": path.name,
        "folder": str(path.parent),
    }


def _of_card(card: Card) -> dict[str, Any]:
    try:
        for name in card.files:
            library.check_file(card, name)
        state = "ok"
    except WeightsError:
        state = "damaged"
    return _row(
        card.name, card.backbone, state, card.path, trained_on=card.trained_on or "not stated",
        licence=card.licence or "not stated", size=card.bytes, sha=f"values:{card.values_sha256}",
        reference=card.reference,
    )  # fmt: skip


def _of_backbone(backbone: Backbone) -> dict[str, Any]:
    path = official.keras_folder() / backbone.weights_file
    state, size = "missing" if backbone.weights_url else "none", 0
    if backbone.weights_url and path.is_file():
        expected = backbone.weights_hash or official.pinned(path.name)
        state, size = "ok" if digest(path, expected) == expected else "damaged", path.stat().st_size
    known = bool(backbone.weights_url)
    return _row(
        backbone.name, backbone.name, state, path, trained_on="ImageNet" if known else "", size=size,
        licence=IMAGENET_LICENCE if known and "keras" in backbone.weights_url else "", sha=backbone.weights_hash,
    )  # fmt: skip


def _of_layout(layout: Layout) -> dict[str, Any]:
    return _row(
        layout.name, layout.backbone, "missing", library.folder() / layout.name, trained_on=layout.trained_on,
        licence=layout.licence, sha=layout.sha256 or official.pinned(_file(layout)), reference=layout.reference,
    )  # fmt: skip


def _fetch_layout(layout: Layout, progress: Progress) -> Path:
    """Download a published checkpoint and import it under its layout's name."""
    target = machine.cache_folder() / "downloads" / _file(layout)
    expected = layout.sha256 or official.pinned(target.name)
    _log.info("downloading %s into %s.", layout.name, target.parent)
    try:
        download(layout.url, target, expected, progress)
    except DownloadError as error:
        raise WeightsError(
            f"the weights {layout.name} are not available: {error}. On a machine with internet download {layout.url}, "
            f"copy the file here, and run `cxrfeat weights import {target.name} --as {layout.name}`; or run `cxrfeat "
            f"weights fetch {layout.name}` there, `cxrfeat weights pack`, and `cxrfeat weights unpack` here. {MIRROR} "
            "names a mirror."
        ) from error
    if not expected:
        official.pin(target.name, target)
    card = import_file(target, layout.name, layout.name)
    target.unlink()  # the card has all of it
    return card.path


def _file(layout: Layout) -> str:
    return layout.url.rpartition("/")[2]


def _backbone(name: str) -> Backbone:
    if name not in BACKBONES:
        raise WeightsError(f"there are no weights {name!r}; `cxrfeat weights ls` lists what is known.")
    return registry.get(name)
