"""Networks that the user imported, as entries of the registry: ONNX files and Keras models, each with its card.

A card of such a network has `kind` `onnx` or `model`, its own name as `backbone`, and in `network` what the entry needs
beside the options of a recipe. Other cards are weights of an entry that exists.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from cxrfeat import _files as files
from cxrfeat._backbones import library
from cxrfeat._backbones.library import Card
from cxrfeat._backbones.registry import BACKBONES, DEFAULT_SIZE, Backbone
from cxrfeat._images.choices import FILTERS, GEOMETRIES, NORMALISATION
from cxrfeat.errors import NotFoundError, WeightsError

if TYPE_CHECKING:
    from cxrfeat._backbones.weights import Weights
    from cxrfeat._recipe import Recipe

KINDS = ("onnx", "model")
NETWORK = "network.onnx"
_Read = tuple[dict[str, Any], dict[str, bytes]]
"""Fields of a card, and the files beside it."""
_OPTIONS = ("size", "preprocessing", "geometry", "resize", "interpolation")


def names() -> list[str]:
    return [card.name for card in library.cards() if card.kind in KINDS]


def find(name: str) -> Backbone | None:
    """The entry of the imported network of that name, or None."""
    card = library.find(name)
    return entry(card) if card is not None and card.kind in KINDS else None


def entry(card: Card) -> Backbone:
    declared = card.network
    common: dict[str, Any] = {
        "name": card.name,
        "dim": declared["dim"],
        "layer": card.layer,
        "default_weights": card.name,
        "min_size": declared["sides"][0],
        "max_size": declared["sides"][1],
        **{key: value for key, value in card.options.items() if key in _OPTIONS},
    }
    if card.kind == "onnx":
        from cxrfeat._backbones.onnx_network import Cut

        return Backbone(builder=f"onnx:{card.values_sha256}", onnx=True, maps=Cut.of(declared).mapped, **common)
    from cxrfeat._backbones.keras_model import Builder

    return Backbone(builder=Builder(card.name, card.values_sha256), **common)


def check_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of images that are given; one without such a value is a WeightsError."""
    if unknown := sorted(set(options) - set(_OPTIONS)):
        raise WeightsError(f"there is no option `{unknown[0]}`; of images there are {', '.join(_OPTIONS)}.")
    given = {key: value for key, value in options.items() if value is not None}
    for key, known in (("preprocessing", NORMALISATION), ("geometry", GEOMETRIES), ("interpolation", FILTERS)):
        if key in given and given[key] not in known:
            raise WeightsError(f"unknown `{key}` {given[key]!r}; choose one of {', '.join(known)}.")
    return given


def import_network(
    file: str | Path,
    name: str,
    layer: str = "",
    tokens: str = "",
    stated: Mapping[str, Any] = MappingProxyType({}),
    more: Mapping[str, bytes] = MappingProxyType({}),
    overwrite: bool = False,
) -> Card:
    """Keep the network of an ONNX file or a Keras model up to a layer; see `cxrfeat.import_weights`.

    `stated` has fields of the card, `more` files to keep beside it.
    """
    path = Path(file)
    library.check_name(name)
    if name in BACKBONES and library.find(name) is None:
        raise WeightsError(f"the name {name!r} is that of a backbone; take another.")
    if not path.is_file():
        raise NotFoundError(f"there is no file {path}.")
    options = {"preprocessing": "torch", **stated.get("options", {})}
    read = _read_onnx if path.suffix.lower() == ".onnx" else _read_keras
    found, contents = read(path, layer, tokens, int(options.get("size") or 0), _channels(options))
    fields = {**found, **stated, "options": {**options, **found["options"]}}
    about: dict[str, Any] = {"channels": _channels(options), "source": path.name, "source_sha256": files.sha256(path)}
    return library.save(Card(name=name, backbone=name, **about, **fields), {**contents, **more}, overwrite)


def _channels(options: Mapping[str, Any]) -> int:
    return len(NORMALISATION[options["preprocessing"]].scale)


def _read_onnx(path: Path, layer: str, tokens: str, size: int, channels: int) -> _Read:
    from cxrfeat._backbones import onnx_network

    model, cut, sha256 = onnx_network.cut(path, layer, size, tokens, channels)
    named = f"{cut.layer}:{cut.output}" if cut.output in onnx_network.TOKENS else cut.layer
    found = {"kind": "onnx", "values_sha256": sha256, "layer": named, "network": asdict(cut)}
    return {**found, "options": {"size": cut.size}}, {NETWORK: model.SerializeToString()}


def _read_keras(path: Path, layer: str, tokens: str, size: int, channels: int) -> _Read:
    import safetensors.numpy

    from cxrfeat._backbones import keras_model

    if tokens:
        raise WeightsError("`tokens` is for ONNX networks: a Keras model's layer gives a map.")
    text, values, dim, side = keras_model.read(path, layer, channels)
    if side and size not in (0, side):
        raise WeightsError(f"{path} takes {side} pixels, and `size` is {size}.")
    network = {"dim": dim, "sides": (side or Backbone.min_size, side or Backbone.max_size)}
    found = {"kind": "model", "values_sha256": library.values_sha256(values), "layer": layer, "network": network}
    contents = {library.ARRAYS: safetensors.numpy.save(values), keras_model.CONFIG: text.encode()}
    return {**found, "options": {"size": side or size or DEFAULT_SIZE}}, contents


def write(folder: Path, recipe: Recipe, weights: Weights) -> None:
    """Write what an engine runs of an ONNX network at the recipe's size, and the embedding of the test image."""
    from cxrfeat._backbones import kept, onnx_network, openvino_engine

    card = weights.card
    assert card is not None, "an ONNX network has a card"
    model, cut = _network(card)
    made = onnx_network.engine_model(model, cut, recipe.preprocessing, recipe.size)
    (folder / "model.onnx").write_bytes(made.SerializeToString())
    engine = openvino_engine.compile_model(folder, 1, ("embedding",), keep=False)
    kept.write_canary(folder, recipe.size, lambda images: engine.run(images)[0])


def place(name: str, size: int) -> tuple[float, float]:
    """Pixels of the input per cell of a map of an ONNX network, and the centre of the first cell."""
    from cxrfeat._backbones import onnx_network

    return onnx_network.place(*_network(library.load(name)), size)


def _network(card: Card) -> tuple[Any, Any]:
    from cxrfeat._backbones import onnx_network

    return onnx_network.load(library.file_of(card, NETWORK)), onnx_network.Cut.of(card.network)
