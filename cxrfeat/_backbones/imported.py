"""Networks that the user imported, as entries of the registry: ONNX files and Keras models, each with its card.

A card of such a network has `kind` `onnx` or `model`, its own name as `backbone`, and in `network` what the entry needs
beside the options of a recipe. Other cards are weights of an entry that exists.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxrfeat._backbones import library
from cxrfeat._backbones.library import Card
from cxrfeat._backbones.registry import BACKBONES, Backbone
from cxrfeat._images.choices import NORMALISATION
from cxrfeat.errors import WeightsError

if TYPE_CHECKING:
    from cxrfeat._backbones.weights import Weights
    from cxrfeat._recipe import Recipe

KINDS = ("onnx", "model")
NETWORK = "network.onnx"


def names() -> list[str]:
    """Names of imported networks."""
    return [card.name for card in library.cards() if card.kind in KINDS]


def find(name: str) -> Backbone | None:
    """The entry of the imported network of that name, or None."""
    card = library.find(name)
    return entry(card) if card is not None and card.kind in KINDS else None


def entry(card: Card) -> Backbone:
    """The entry of an imported network."""
    declared, options = card.network, card.options
    common: dict[str, Any] = {
        "name": card.name,
        "dim": declared["dim"],
        "layer": card.layer,
        "default_weights": card.name,
        "min_size": declared["sides"][0],
        "max_size": declared["sides"][1],
        **{
            key: options[key]
            for key in ("size", "preprocessing", "geometry", "resize", "interpolation")
            if key in options
        },
    }
    if card.kind == "onnx":
        from cxrfeat._backbones.onnx_network import Cut

        return Backbone(builder=f"onnx:{card.values_sha256}", onnx=True, maps=Cut.of(declared).mapped, **common)
    from cxrfeat._backbones.keras_model import Builder

    return Backbone(builder=Builder(card.name, card.values_sha256), **common)


def import_network(
    path: Path, card: Card, layer: str = "", tokens: str = "", more: Mapping[str, bytes] = {}, overwrite: bool = False
) -> Card:
    """Keep the network of an ONNX file or a Keras model up to a layer.

    `card` has its name, options and origin, `more` the files that are kept beside it.
    """
    if card.name in BACKBONES and library.find(card.name) is None:
        raise WeightsError(f"the name {card.name!r} is that of a backbone; take another.")
    options = {"preprocessing": "torch", **card.options}
    channels = len(NORMALISATION[options["preprocessing"]].scale)
    size = int(options.get("size") or 0)
    if path.suffix.lower() == ".onnx":
        from cxrfeat._backbones import onnx_network

        model, cut, sha256 = onnx_network.cut(path, layer, size, tokens, channels)
        kind, network, size, contents = "onnx", asdict(cut), cut.size, {NETWORK: model.SerializeToString()}
        layer = f"{cut.layer}:{cut.output}" if cut.output in onnx_network.TOKENS else cut.layer
    else:
        import safetensors.numpy

        from cxrfeat._backbones import keras_model

        if tokens:
            raise WeightsError("`tokens` is for ONNX networks: a Keras model's layer gives a map.")
        text, values, dim, side = keras_model.read(path, layer, channels)
        if side and size not in (0, side):
            raise WeightsError(f"{path} takes {side} pixels, and `size` is {size}.")
        size, sides = size or side or 224, (side or 32, side or 8192)
        kind, network, sha256 = "model", {"dim": dim, "sides": sides}, library.values_sha256(values)
        contents = {library.ARRAYS: safetensors.numpy.save(values), keras_model.CONFIG: text.encode()}
    made = replace(
        card, backbone=card.name, values_sha256=sha256, kind=kind, layer=layer, channels=channels,
        options={**options, "size": size}, network=network,
    )  # fmt: skip
    return library.save(made, {**contents, **more}, overwrite)


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
