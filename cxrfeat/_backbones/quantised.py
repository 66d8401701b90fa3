"""Networks in 8-bit integers: quantised on images by NNCF, and kept beside imported weights, by the hash of the result.

A quantised network is a card of kind `int8`: the network that OpenVINO runs, its embedding of the test image, and in
`network` what it was made of. The hash of what is run is in the recipe, so that whoever has the recipe runs this very
network; it is never made again unasked.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cxrfeat import __version__
from cxrfeat import _machine as machine
from cxrfeat._backbones import kept, library, openvino_engine
from cxrfeat._backbones.engine import Floats, Images, write_export
from cxrfeat._backbones.library import Card
from cxrfeat._backbones.pretraining import LIST
from cxrfeat._backbones.registry import Backbone
from cxrfeat._backbones.weights import Weights
from cxrfeat._recipe import Recipe
from cxrfeat.errors import EngineError, WeightsError

KIND = "int8"
BOUND = 0.15
"""Largest median over the features of rms difference over standard deviation that the gate lets pass."""

KEPT_BACK = 4
"""At most one in so many layers is kept in float32; with more, int8 is not worth its price."""

RANKED = 16
"""Images by which layers are ranked, where some must be kept back."""

_LAYERS = ("Convolution", "GroupConvolution", "MatMul")
_FILES = ("model.xml", "model.bin", "canary.npz")
_log = logging.getLogger(__name__)


def cards_of(recipe: Recipe) -> list[Card]:
    """The cards of a float32 recipe's network, quantised on whatever images, the oldest first."""
    found = [card for card in library.cards() if card.kind == KIND and _base(card) == recipe]
    return sorted(found, key=lambda card: card.created)


def card_of(recipe: Recipe) -> Card:
    """Return the card of a recipe's quantised network, its files checked; else raise a WeightsError."""
    card = library.by_values(recipe.backbone, recipe.network_sha256)
    short = recipe.network_sha256[:8]
    if card is None:
        raise WeightsError(
            f"the quantised network {recipe.backbone}-int8-{short} of this recipe is not on this machine. Two ways on: "
            f"(1) carry it: `cxrfeat weights pack {recipe.backbone}-int8-{short} -o network.zip` where it is, and "
            "`cxrfeat weights unpack network.zip` here; (2) extract anew with `precision=int8`, which quantises a "
            "network of its own and makes another recipe, so that heads are fitted anew too."
        )
    check(card)
    return card


def check(card: Card) -> None:
    """Raise a WeightsError if a file of a quantised network is missing or changed."""
    try:
        network, values, _ = (library.file_of(card, ending) for ending in _FILES)
        if hashlib.sha256(network.read_bytes() + values.read_bytes()).hexdigest() != card.values_sha256:
            raise WeightsError(f"{card.path} holds another network than its card says.")
    except WeightsError as error:
        raise WeightsError(
            f"{str(error).partition(': the weights')[0].rstrip('.')}: the quantised network {card.name} is not used. "
            f"Remove it with `cxrfeat weights remove {card.name} --yes`, and unpack it again from where it is whole."
        ) from error


def recipe_of(card: Card) -> Recipe:
    """The recipe of a quantised network, without augmented passes."""
    return replace(_base(card), precision=KIND, network_sha256=card.values_sha256)


def _base(card: Card) -> Recipe:
    return Recipe.from_json(json.dumps(card.network["recipe"]))


def write(folder: Path, card: Card) -> None:
    """Write what an engine runs of a quantised network, and its embedding of the test image."""
    for ending in _FILES:
        shutil.copyfile(library.file_of(card, ending), folder / ending)


def make(recipe: Recipe, spec: Backbone, weights: Weights, images: Images, about: dict[str, Any]) -> Card:
    """Quantise a float32 recipe's network on three quarters of the images, and keep it if the others agree.

    `images` are what the network gets, (n, size, size); `about` is what the card keeps of them. A network whose
    embeddings differ by more than the gate allows is an EngineError.
    """
    split = len(images) * 3 // 4
    with tempfile.TemporaryDirectory() as name:
        exact, reduced = Path(name, "float32"), Path(name, KIND)
        exact.mkdir()
        reduced.mkdir()
        write_export(exact, recipe, spec, weights)
        expected = _embed(exact, images[split:])
        with _quiet(), openvino_engine.signal_stack():
            model = _quantise(exact, "map" if spec.maps else "embedding", images[:split], images[split:], expected)
        layers = _layers(model)
        floats = [op for op in layers if op.input_value(1).get_node().get_type_name() == "Constant"]
        held_back = [op.get_friendly_name() for op in floats]
        _rename(model)
        openvino_engine.package().save_model(model, reduced / "model.xml", compress_to_fp16=False)
        median, worst = difference(_embed(reduced, images[split:], KIND), expected)
        facts = f"median {median:.3f}, worst {worst:.2f}, {len(held_back)} of {len(layers)} layers left in float32"
        if not median <= BOUND:
            raise EngineError(
                f"int8 is refused for {recipe.backbone}: on {len(images) - split} images that it was not quantised on, "
                f"embeddings differ from float32 by more than {BOUND} of a feature's standard deviation ({facts}). "
                "Take `precision=bfloat16` or `float32`."
            )
        kept.write_canary(reduced, recipe.size, lambda one: _embed(reduced, one, KIND))
        contents = {ending: (reduced / ending).read_bytes() for ending in _FILES}
    digest = hashlib.sha256(contents["model.xml"] + contents["model.bin"]).hexdigest()
    base = weights.card or Card("", "", "")
    if any(name.endswith(Path(LIST).suffix) for name in base.files):
        contents[LIST] = library.file_of(base, LIST).read_bytes()
    card = Card(
        name=f"{recipe.backbone}-int8-{digest[:8]}", backbone=recipe.backbone, values_sha256=digest, kind=KIND,
        layer=recipe.layer, channels=base.channels, source=recipe.weights, source_sha256=recipe.weights_sha256,
        trained_on=f"{base.trained_on or recipe.weights}; quantised on {about['study']}",
        licence=base.licence, reference=base.reference, pretraining=base.pretraining,
        network={
            **about, "recipe": json.loads(recipe.to_json()), "median": median, "worst": worst, "float32": held_back,
            "packages": {"cxrfeat": __version__, **machine.versions(("nncf", "openvino"))},
            "processor": machine.processor(),
        },
    )  # fmt: skip
    _log.info("int8: embeddings differ from float32 by this part of a feature's standard deviation: %s.", facts)
    return library.save(card, contents, overwrite=True)


def difference(found: Floats, expected: Floats) -> tuple[float, float]:
    """Median and worst feature of the rms difference over the standard deviation; constant features do not count."""
    varying, sd = _spread(expected)
    rms = np.sqrt(np.square(found[:, varying].astype(np.float64) - expected[:, varying]).mean(axis=0)) / sd
    if not rms.size or not np.isfinite(rms).all():
        return float("inf"), float("inf")
    return round(float(np.median(rms)), 4), round(float(rms.max()), 4)


def _spread(expected: Floats) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
    """Which features are not constant, and the standard deviation of these."""
    sd = expected.std(axis=0, dtype=np.float64)
    varying = sd > 1e-6 * np.abs(expected).max()
    return varying, sd[varying]


def _embed(folder: Path, images: Images, precision: str = "float32") -> Floats:
    engine = openvino_engine.compile_model(folder, 1, ("embedding",), precision, keep=False)
    return engine.run(images)[0]


def _quantise(folder: Path, output: str, images: Images, others: Images, expected: Floats) -> Any:
    """Quantise an export. Layers whose embeddings of the other images suffer most are left as they are."""
    ov, nncf = openvino_engine.package(), package()
    path = next(path for path in folder.iterdir() if path.name in ("model.onnx", "model.xml"))
    # The converter folds normalisations into convolutions, and gives these the biases that NNCF corrects.
    model = ov.convert_model(path) if path.suffix == ".onnx" else openvino_engine.core().read_model(path)
    model = ov.Model([model.output(output).node], model.get_parameters(), model.friendly_name)
    attention = any(op.get_type_name() in ("Softmax", "ScaledDotProductAttention") for op in model.get_ops())

    def batch(image: npt.NDArray[Any]) -> Floats:
        return image[None, None].astype(np.float32)

    varying, sd = _spread(expected)

    def agreement(compiled: Any, rows: Iterable[int]) -> tuple[float, list[float]]:
        """How well embeddings agree, over the rows and in each; the more the higher."""
        chosen = list(rows)
        maps = [compiled(batch(others[row]))[0][0] for row in chosen]
        found = np.stack([one if one.ndim == 1 else one.mean(axis=(1, 2)) for one in maps])
        off = (found[:, varying] - expected[chosen][:, varying]) / sd
        whole = np.median(np.sqrt(np.square(off).mean(axis=0)))
        return float(1 - whole), [float(1 - np.median(np.abs(row))) for row in off]

    return nncf.quantize_with_accuracy_control(
        model,
        calibration_dataset=nncf.Dataset(images, batch),
        validation_dataset=nncf.Dataset(range(len(others)), lambda row: batch(others[row])),
        validation_fn=agreement,
        max_drop=BOUND,
        subset_size=len(images),
        preset=nncf.QuantizationPreset.MIXED,
        model_type=nncf.ModelType.TRANSFORMER if attention else None,
        advanced_quantization_parameters=nncf.AdvancedQuantizationParameters(
            # With 7 bits in the first layer, the default, the whole embedding suffers; VNNI does not overflow.
            overflow_fix=nncf.OverflowFix.DISABLE
        ),
        advanced_accuracy_restorer_parameters=nncf.AdvancedAccuracyRestorerParameters(
            max_num_iterations=max(1, len(_layers(model)) // KEPT_BACK),
            ranking_subset_size=min(RANKED, len(others)),
            num_ranking_workers=1,
        ),
    )


def _rename(model: Any) -> None:
    """Name all by its place: OpenVINO and Keras number what a process has made, and names are part of the file."""
    for number, op in enumerate(model.get_ordered_ops()):
        op.set_friendly_name(f"{op.get_type_name()}_{number}")
        for output in op.outputs():
            output.set_names(output.get_names() & {"image", "map", "embedding"})


def _layers(model: Any) -> list[Any]:
    """The layers that have weights: their second input goes back to a constant."""
    found = []
    for op in model.get_ordered_ops():
        if op.get_type_name() in _LAYERS:
            node = op.input_value(1).get_node()
            while node.get_input_size():
                node = node.input_value(0).get_node()
            if node.get_type_name() == "Constant":
                found.append(op)
    return found


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """NNCF draws bars on standard output, where only results belong, and tells of each layer."""
    logger = logging.getLogger("nncf")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)


def package() -> Any:
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # as for OpenVINO
    try:
        import nncf
    except ImportError as error:
        raise EngineError(
            "NNCF, which quantises networks, is not installed: pip install 'cxrfeat[int8]', or take "
            "`precision=bfloat16`."
        ) from error
    return nncf
