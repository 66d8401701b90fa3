"""The Keras head: a small network on embeddings, saved as `.keras` and loaded in safe mode. Imports Keras late."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cxrfeat._backbones import backends
from cxrfeat._files import atomic_path
from cxrfeat._heads.base import Fitted, Floats, Head, Task
from cxrfeat._heads.linear import check_archive
from cxrfeat._heads.settings import require
from cxrfeat._progress import Progress, silent
from cxrfeat.errors import HeadError

if TYPE_CHECKING:
    import keras

FILE = "head.keras"
LOGITS, PROBABILITY = "logits", "probability"
ROWS = 8192


class KerasHead(Head):
    """A Keras model from embeddings to probabilities whose layer `logits` holds what stands before the activation.

    The model goes from embeddings (n, dim) float32 to probabilities; its last two layers are `logits` (Dense, linear)
    and `probability` (sigmoid, or softmax in the preset `paper`).
    """

    kind, soft_targets, needs_validation, resumes = "keras", True, True, True
    grid = {"learning_rate": (1e-4, 1e-3, 1e-2)}

    @dataclass(frozen=True)
    class Settings:
        """Adam with rows of a `batch` a step; training stops after `patience` epochs without a better `monitor`.

        `hidden` has the units of hidden layers; `dropout` is the share of inputs of the last layer that is dropped. The
        `activation` is `sigmoid`, or `softmax` as in the preset `paper`. `monitor` is `val_loss`: the weights of the
        best epoch are kept; or `accuracy`, as in the preset: that which Keras shows in training, for several labels the
        share of rows whose largest output is their first label, and the weights of the last epoch are kept.
        """

        epochs: int = 80
        batch: int = 16
        patience: int = 10
        learning_rate: float = 1e-3
        hidden: tuple[int, ...] = ()
        dropout: float = 0.0
        activation: str = "sigmoid"
        monitor: str = "val_loss"

        def __post_init__(self) -> None:
            require(
                "keras",
                epochs=(self.epochs, self.epochs >= 1, "at least 1"),
                batch=(self.batch, self.batch >= 1, "at least 1"),
                patience=(self.patience, self.patience >= 1, "at least 1"),
                learning_rate=(self.learning_rate, 0 < self.learning_rate < float("inf"), "above 0 and finite"),
                hidden=(self.hidden, all(0 < units <= 65536 for units in self.hidden), "numbers from 1 to 65536"),
                dropout=(self.dropout, 0 <= self.dropout < 1, "at least 0 and below 1"),
                activation=(self.activation, self.activation in ("sigmoid", "softmax"), "sigmoid or softmax"),
                monitor=(self.monitor, self.monitor in ("val_loss", "accuracy"), "val_loss or accuracy"),
            )

    def __init__(self, labels: tuple[str, ...], model: keras.Model) -> None:
        super().__init__(labels, int(model.input_shape[-1]))
        self.model = model
        self._before: keras.Model | None = None

    @classmethod
    def fit(cls, task: Task, settings: Settings, *, resume: bool = False, progress: Progress = silent) -> Fitted:
        """Train with Adam and early stopping; see `keras_training`."""
        backends.keras()
        from cxrfeat._heads.keras_training import train  # imports Keras

        dim, count = task.rows.shape[1], len(task.labels)
        model = build(dim, count, settings.hidden, settings.dropout, settings.activation, task.seed)
        history = train(model, LOGITS, task, settings, resume, progress)
        # Stopping by patience or after all epochs is how it is meant to end; there is no optimum to have missed.
        return Fitted(cls(task.labels, model), True, history, {"epochs_run": len(history), **asdict(settings)})

    @property
    def network(self) -> keras.Model:
        return self.model

    @property
    def softmax(self) -> bool:
        """Whether the labels share one softmax, as in the preset `paper`."""
        return self.model.get_layer(PROBABILITY).activation.__name__ == "softmax"

    @property
    def linear(self) -> tuple[Floats, Floats] | None:
        """Coefficients and intercepts if there is no hidden layer; None otherwise."""
        keras = backends.keras()
        dense = self.model.get_layer(LOGITS)
        if [layer for layer in self.model.layers if layer.weights] != [dense]:
            return None
        kernel, bias = (keras.ops.convert_to_numpy(w).astype(np.float64) for w in (dense.kernel, dense.bias))
        return np.where(self.fitted[:, None], kernel.T, np.nan), np.where(self.fitted, bias, np.nan)

    def from_logits(self, logits: Floats) -> Floats:
        """Calibrated sigmoids; for a softmax head, the softmax over the fitted labels."""
        if not self.softmax:
            return super().from_logits(logits)
        raised = np.exp(logits - np.nanmax(logits, axis=1, keepdims=True))
        return raised / np.nansum(raised, axis=1, keepdims=True)

    def _logits(self, x: npt.NDArray[np.float32]) -> Floats:
        keras = backends.keras()
        if self._before is None:
            self._before = keras.Model(self.model.input, self.model.get_layer(LOGITS).output)
        out = np.empty((len(x), len(self.labels)))
        for at in range(0, len(x), ROWS):
            part = np.ascontiguousarray(x[at : at + ROWS], dtype=np.float32)
            out[at : at + ROWS] = keras.ops.convert_to_numpy(self._before(part, training=False))
        return out

    def save(self, folder: Path) -> list[str]:
        with atomic_path(folder / FILE) as part:
            self.model.save(part)
        return [FILE]

    @classmethod
    def load(cls, folder: Path, labels: tuple[str, ...], state: Mapping[str, Any]) -> KerasHead:
        """Read `head.keras` in Keras's safe mode, which refuses Lambda layers and anything else that carries code."""
        path = folder / FILE
        check_archive(path)
        try:
            inspect(path)
            model = backends.keras().saving.load_model(path, compile=False, safe_mode=True)
        except HeadError:
            raise
        except Exception as error:  # Keras raises ValueError, and zipfile's and HDF5's own
            reason = str(error).strip().splitlines()[0]
            raise HeadError(f"{path} was refused by Keras in safe mode ({reason}); it was not loaded.") from error
        check(model, path, len(labels))
        return cls(labels, model)


# What a head is made of; what Keras itself finds harmless may still not belong to a head.
LAYERS = ("InputLayer", "Dense", "Dropout", "Activation")
PARTS = (*LAYERS, "Functional", "DTypePolicy", "GlorotUniform", "HeNormal", "Zeros", "__keras_tensor__")


def inspect(path: Path) -> None:
    """Raise a HeadError unless a `.keras` file describes a head: before Keras builds anything of it."""
    with zipfile.ZipFile(path) as archive:
        if archive.getinfo("config.json").file_size > 1 << 20:
            raise HeadError(f"{path} describes a network that is no head; it was not loaded.")
        config = json.loads(archive.read("config.json"))
        weights = archive.getinfo("model.weights.h5").file_size
    if strange := sorted(name for name in _classes(config) if name not in PARTS):
        raise HeadError(
            f"{path} has a part of type {strange[0]}, which no Keras head of cxrfeat has; it was not loaded."
        )
    width = needed = 0
    for layer in config["config"]["layers"]:
        inside = layer["config"]
        units = int(inside["units"]) if "units" in inside else int(inside.get("batch_shape", (0, width))[-1])
        needed += 4 * width * units if "units" in inside else 0
        width = units
    if needed > weights:
        raise HeadError(f"{path} describes a network larger than its weights; it was not loaded.")


def _classes(config: Any) -> Iterator[str]:
    """Every class that a configuration names; one from outside Keras with its module."""
    if isinstance(config, dict):
        if "class_name" in config:
            inside = str(config.get("module") or "keras").partition(".")[0] == "keras"
            yield str(config["class_name"]) if inside else f"{config['module']}.{config['class_name']}"
        config = list(config.values())
    for item in config if isinstance(config, list) else ():
        yield from _classes(item)


def check(model: Any, path: Path, labels: int) -> None:
    """Raise a HeadError unless a loaded model is built as this project's heads are."""
    layers = list(model.layers)
    kinds = [type(layer) for layer in layers]
    if strange := [kind for kind in kinds if kind.__name__ not in LAYERS or not kind.__module__.startswith("keras.")]:
        raise HeadError(f"{path} has a layer of type {strange[0].__name__}, which no Keras head of cxrfeat has.")
    if [layer.name for layer in layers[-2:]] != [LOGITS, PROBABILITY] or model.output_shape[-1] != labels:
        raise HeadError(f"{path} is no head for {labels} labels: its last layers are not `{LOGITS}`, `{PROBABILITY}`.")


def build(dim: int, labels: int, hidden: tuple[int, ...], dropout: float, activation: str, seed: int) -> keras.Model:
    """Make an untrained head: hidden layers with ReLU, dropout before the last, Dense, activation."""
    keras = backends.keras()
    inputs = x = keras.Input((dim,), name="embedding")
    for number, units in enumerate(hidden):
        start = keras.initializers.HeNormal(seed=seed + 1 + number)
        x = keras.layers.Dense(units, activation="relu", kernel_initializer=start, name=f"hidden_{number + 1}")(x)
    if dropout:
        x = keras.layers.Dropout(dropout, seed=seed, name="dropout")(x)
    start = keras.initializers.GlorotUniform(seed=seed)
    x = keras.layers.Dense(labels, kernel_initializer=start, name=LOGITS)(x)
    return keras.Model(inputs, keras.layers.Activation(activation, name=PROBABILITY)(x), name="head")
