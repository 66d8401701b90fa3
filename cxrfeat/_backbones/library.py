"""The user's own weights: what was imported, by name, each a folder with a card and the arrays.

A card says all that is known of one set of weights. Its arrays are a safetensors file by variable name of the
backbone's graph, so nothing in a folder can run code. The hash of their values identifies the weights, whatever file
they came from. A card is written last and atomically, and every file that it names is checked when it is read.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

from cxrfeat import _files as files
from cxrfeat import _machine as machine
from cxrfeat._backbones import registry
from cxrfeat._backbones.registry import Backbone
from cxrfeat._typed import typed
from cxrfeat.errors import OutputError, WeightsError

if TYPE_CHECKING:  # names of cards are choices of help texts, which import no numpy
    import numpy as np
    import numpy.typing as npt

FORMAT, VERSION = "cxrfeat-weights", 1
CARD, ARRAYS = "card.json", "arrays.safetensors"
CLASSIFIER = "classifier/"
"""What the names of a classifier's arrays begin with, beside those of the backbone."""

Arrays: TypeAlias = "Mapping[str, npt.NDArray[np.float32]]"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_TAKEN = ("auto", "imagenet", "random", "sample")
_ENDINGS = (".h5", ".hdf5", ".keras", ".onnx", ".pt", ".pth", ".tar", ".safetensors", ".bin", ".npz", ".json")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Card:
    """What is known of one imported set of weights.

    Attributes
    ----------
    name : str
        What users type as `weights`.
    backbone : str
        The entry of the registry that the weights are of.
    values_sha256 : str
        Hash of the backbone's arrays; see `values_sha256`.
    files : mapping of str to str
        The files of its folder and the SHA-256 of each.
    kind : str
        What the folder holds: `arrays`, or what another reader declares.
    layer : str
        The layer that gives the embedding; empty: the entry's own.
    channels : int
        Input channels.
    options : mapping
        Options of `make_recipe` that the weights were trained with, taken where none are given.
    layout : str
        The layout of the file that they came from.
    labels : tuple of str
        The classifier's outputs in its own order, '' for one that was not trained; empty without a classifier.
    op_threshs : tuple of float or None
        The classifier's operating points, one for each output, where the file has them.
    source, source_sha256 : str
        Name and hash of the file that was imported.
    trained_on, licence, reference : str
        What is known of their origin.
    pretraining : mapping
        Which images they have seen, where it is known; see `pretraining`.
    network : mapping
        What the entry of an imported network needs; see `imported`.
    created : str
        When, ISO 8601, UTC.

    Examples
    --------
    >>> import cxrfeat as cxr
    >>> card = cxr.weights.Card("mine", "densenet121", "0" * 64, trained_on="films of our ward")
    >>> card.describe()
    'mine: densenet121, values 00000000'
    """

    name: str
    backbone: str
    values_sha256: str
    files: Mapping[str, str] = field(default_factory=dict)
    kind: str = "arrays"
    layer: str = ""
    channels: int = 3
    options: Mapping[str, Any] = field(default_factory=dict)
    layout: str = ""
    labels: tuple[str, ...] = ()
    op_threshs: tuple[float | None, ...] = ()
    source: str = ""
    source_sha256: str = ""
    trained_on: str = ""
    licence: str = ""
    reference: str = ""
    pretraining: Mapping[str, Any] = field(default_factory=dict)
    network: Mapping[str, Any] = field(default_factory=dict)
    created: str = ""

    def describe(self) -> str:
        """The weights in one line."""
        layout = f", layout {self.layout}" if self.layout else ""
        return f"{self.name}: {self.backbone}{layout}, values {self.values_sha256[:8]}"

    @property
    def path(self) -> Path:
        """Its folder."""
        return folder() / self.name

    @property
    def bytes(self) -> int:
        """Size of its files."""
        return sum((self.path / name).stat().st_size for name in self.files if (self.path / name).is_file())


def spec_of(card: Card) -> Backbone:
    """The entry of a card's backbone, with what its weights were trained with as its defaults."""
    return replace(registry.get(card.backbone), **{**card.options, **({"layer": card.layer} if card.layer else {})})


def folder() -> Path:
    """The folder of all imported weights; `CXRFEAT_WEIGHTS` names another."""
    if named := os.environ.get("CXRFEAT_WEIGHTS"):
        return Path(named)
    from platformdirs import user_data_path

    usual = user_data_path("cxrfeat", appauthor=False)
    # Without a home there is nothing that lasts: beside what else is kept of this machine.
    return (usual if usual.is_absolute() else machine.cache_folder()) / "weights"


def check_name(name: str) -> str:
    """Return a name that weights may have; any that could be taken for something else is a WeightsError."""
    if not _NAME.fullmatch(name) or name.lower() in _TAKEN or name.lower().endswith(_ENDINGS):
        raise WeightsError(
            f"{name!r} cannot be the name of weights: a name has letters, digits, `-`, `_` and `.`, is not "
            f"{', '.join(_TAKEN[:-1])} or {_TAKEN[-1]}, and does not end as a file's does."
        )
    return name


def save(card: Card, contents: Mapping[str, bytes], overwrite: bool = False) -> Card:
    """Keep a card and its files under its name, and return it with their hashes and the time.

    Until the new card is in its place, what was there stays whole. The same weights again replace their card. Others
    under a name that is taken are an OutputError without `overwrite`.
    """
    target = folder() / check_name(card.name)
    if not overwrite:
        raise_if_other(card)
    named = {}
    for name, data in contents.items():
        sha256 = hashlib.sha256(data).hexdigest()
        stem, dot, ending = name.partition(".")
        place = f"{stem}-{sha256[:12]}{dot}{ending}"  # beside what the old card names, never over it
        files.write_atomically(target / place, data)
        named[place] = sha256
    card = replace(card, files=named, created=datetime.now(UTC).isoformat(timespec="seconds"))
    content = {"format": FORMAT, "version": VERSION, **asdict(card)}
    files.write_atomically(target / CARD, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    for left in target.iterdir():
        if left.name not in named and left.name != CARD and not left.name.startswith("."):
            left.unlink()
    return card


def raise_if_other(card: Card) -> None:
    """Raise an OutputError if the name of a card is taken by other weights."""
    there = find(card.name) or card
    if (there.backbone, there.values_sha256, there.layer) != (card.backbone, card.values_sha256, card.layer):
        raise OutputError(
            f"the name {card.name!r} is taken by other weights ({there.backbone}, values {there.values_sha256[:12]}…). "
            "Take another name, or use `overwrite=True`."
        )


def load(name: str) -> Card:
    """Return the card of that name; an unknown or damaged one is a WeightsError."""
    file = folder() / name / CARD
    if not _NAME.fullmatch(name) or not file.is_file():
        raise WeightsError(
            f"there are no weights called {name!r} in {folder()}; `cxrfeat weights ls` lists what there is."
        )
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        if found.pop("format") != FORMAT:
            raise ValueError("its format is another")
        if found.pop("version") not in range(1, VERSION + 1):
            raise ValueError("it is of a newer version; upgrade cxrfeat")
        card: Card = typed(Card, found)
        if card.name != name:
            raise ValueError(f"it is the card of {card.name!r}")
        if elsewhere := [name for name in card.files if Path(name).name != name]:
            raise ValueError(f"{elsewhere[0]!r} is no file of its folder")
        return card
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError, OSError) as error:
        raise WeightsError(f"{file} is not a card of weights: {error}. Import the weights again.") from error


def find(name: str) -> Card | None:
    """Return the card of that name, or None if there is none; a damaged one is a WeightsError."""
    return load(name) if _NAME.fullmatch(name) and (folder() / name / CARD).is_file() else None


def cards() -> Iterator[Card]:
    """Every card, by name; a damaged one is left out with a warning."""
    for file in sorted(folder().glob(f"[!.]*/{CARD}")):
        try:
            yield load(file.parent.name)
        except WeightsError as error:
            _log.warning("%s", error)


def by_values(backbone: str, sha256: str, name: str = "") -> Card | None:
    """Return a card of these values, the one of that name first, or None."""
    found = [card for card in cards() if (card.backbone, card.values_sha256) == (backbone, sha256)]
    return min(found, key=lambda card: card.name != name, default=None)


def file_of(card: Card, ending: str = ARRAYS) -> Path:
    """Return one file of a card, by its ending, after checking its hash; else raise a WeightsError."""
    suffix = ending[ending.index(".") :]
    for name in card.files:
        if name.endswith(suffix):
            return check_file(card, name)
    raise WeightsError(f"the weights {card.name!r} have no {suffix} file: they are {card.kind}. Import them again.")


def check_file(card: Card, name: str) -> Path:
    """Return a file of a card if it has its hash; else raise a WeightsError."""
    path = card.path / name
    if path.is_file() and files.sha256(path) == card.files[name]:
        return path
    state = "was changed" if path.is_file() else "is missing"
    raise WeightsError(f"{path} {state}: the weights {card.name!r} are not used. Import them again.")


def arrays(card: Card, classifier: bool = False) -> dict[str, npt.NDArray[np.float32]]:
    """Return the backbone's arrays by variable name, or the classifier's (`kernel`, `bias`), after all checks."""
    import safetensors.numpy

    path = file_of(card)
    try:
        found = safetensors.numpy.load_file(path)
    except Exception as error:  # the package's own kind derives from Exception
        raise WeightsError(f"{path} is not a safetensors file: {error}. Import the weights again.") from error
    mine = {name: values for name, values in found.items() if not name.startswith(CLASSIFIER)}
    if values_sha256(mine) != card.values_sha256:
        raise WeightsError(f"{path} holds other values than its card says. Import the weights again.")
    if classifier:
        return {name.removeprefix(CLASSIFIER): v for name, v in found.items() if name.startswith(CLASSIFIER)}
    return mine


def save_arrays(
    card: Card,
    backbone: Arrays,
    classifier: Arrays | None = None,
    more: Mapping[str, bytes] = MappingProxyType({}),
    overwrite: bool = False,
) -> Card:
    """Keep a card with the arrays of a backbone and of its classifier; its hash is that of the backbone's values.

    `more` are files to keep beside them.
    """
    import numpy as np
    import safetensors.numpy

    content = {
        name: np.ascontiguousarray(values, np.float32)
        for name, values in [*backbone.items(), *((CLASSIFIER + n, v) for n, v in (classifier or {}).items())]
    }
    contents = {ARRAYS: safetensors.numpy.save(content), **more}
    return save(replace(card, values_sha256=values_sha256(backbone)), contents, overwrite)


def remove(name: str) -> None:
    """Remove the weights of that name; a damaged card can be removed too."""
    file = folder() / name / CARD
    if not _NAME.fullmatch(name) or not file.exists():
        load(name)  # says what there is
    file.unlink()
    shutil.rmtree(file.parent, ignore_errors=True)


def values_sha256(arrays: Mapping[str, Any]) -> str:
    """Hash of arrays: names, shapes and little-endian float32 values, by name. It identifies weights."""
    import numpy as np

    digest = hashlib.sha256()
    for name, values in sorted(arrays.items()):
        values = np.ascontiguousarray(values, dtype="<f4")
        digest.update(f"{name}{values.shape}".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()
