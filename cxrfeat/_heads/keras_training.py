"""Training the Keras head as the reference paper does, on arrays in memory, an epoch a compiled call.

Loss of one entry with logit z and label y: w (softplus(z) - y z), with w the class weight (w_positive or w_negative)
and 0 where the label is unknown; of a batch: the mean over its known entries. A softmax head takes the same weighted
cross-entropy of its outputs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxrfeat._files import atomic_path
from cxrfeat._heads.keras_head import KerasHead, build
from cxrfeat._heads.linear import read_arrays
from cxrfeat._heads.settings import read as read_settings
from cxrfeat._heads.task import Fitted, Task
from cxrfeat._progress import Progress, silent
from cxrfeat.errors import HeadError

CHECKPOINT = "checkpoint.npz"


@dataclass(frozen=True)
class Settings:
    """How to train.

    Attributes
    ----------
    epochs, batch, patience : int
        At most so many epochs of so many rows a step; stop after `patience` epochs without a lower validation loss,
        and keep the best epoch's weights.
    learning_rate : float
        Adam's.
    hidden : tuple of int
        Units of hidden layers; none by default.
    dropout : float
        Share of inputs of the last layer dropped in training.
    activation : str
        `sigmoid`, or `softmax` as in the preset `paper`.
    """

    epochs: int = 80
    batch: int = 16
    patience: int = 10
    learning_rate: float = 1e-3
    hidden: tuple[int, ...] = ()
    dropout: float = 0.0
    activation: str = "sigmoid"

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch < 1 or self.patience < 1 or not 0 <= self.dropout < 1:
            raise HeadError("a Keras head needs epochs, batch and patience >= 1 and a dropout in [0, 1).")
        if self.activation not in ("sigmoid", "softmax"):
            raise HeadError(f"activation {self.activation!r} is neither sigmoid nor softmax.")


@dataclass
class State:
    """Where training stands after an epoch: everything that decides how it goes on."""

    epoch: int = 0
    best: float = math.inf
    waited: int = 0
    weights: list[npt.NDArray[Any]] = field(default_factory=list)
    optimizer: list[npt.NDArray[Any]] = field(default_factory=list)
    kept: list[npt.NDArray[Any]] = field(default_factory=list)
    losses: list[tuple[float, float]] = field(default_factory=list)

    def save(self, folder: Path, fingerprint: str) -> None:
        """Write the checkpoint, atomically."""
        groups = {"weight": self.weights, "optimizer": self.optimizer, "kept": self.kept}
        arrays = {f"{name}_{i}": array for name, group in groups.items() for i, array in enumerate(group)}
        with atomic_path(folder / CHECKPOINT) as part:
            np.savez(
                part,
                numbers=np.array([self.epoch, self.best, self.waited]),
                losses=np.array(self.losses, dtype=np.float64).reshape(-1, 2),
                fingerprint=np.array(fingerprint),
                sizes=np.array([len(group) for group in groups.values()]),
                **arrays,  # type: ignore[arg-type]  # numpy's stub takes them for allow_pickle
            )

    @classmethod
    def load(cls, folder: Path, fingerprint: str) -> State:
        """Read a checkpoint; a HeadError if it is of other data or settings."""
        path = folder / CHECKPOINT
        head = read_arrays(path, ("numbers", "losses", "fingerprint", "sizes"))
        if str(head["fingerprint"]) != fingerprint:
            raise HeadError(
                f"{path} was made with other data or settings; give those of the run that stopped (only epochs may "
                "be raised), or start anew without --resume."
            )
        names = [
            [f"{name}_{i}" for i in range(int(size))]
            for name, size in zip(("weight", "optimizer", "kept"), head["sizes"], strict=True)
        ]
        arrays = read_arrays(path, tuple(name for group in names for name in group))
        weights, optimizer, kept = ([arrays[name] for name in group] for group in names)
        epoch, best, waited = head["numbers"].tolist()
        losses = [(a, b) for a, b in head["losses"].tolist()]
        return cls(int(epoch), best, int(waited), weights, optimizer, kept, losses)


def fit(task: Task, settings: Mapping[str, Any], resume: bool = False, progress: Progress = silent) -> Fitted:
    """Train a Keras head.

    Parameters
    ----------
    task : Task
        Rows, labels, weights; `validation` decides when to stop, and without it all epochs run. With a `folder`, a
        checkpoint is written there after every epoch.
    settings : mapping
        Fields of `Settings`.
    resume : bool
        Go on from the checkpoint in `task.folder`, if there is one: the outcome is the same to the last bit as
        without the interruption.

    Raises
    ------
    HeadError
        If a setting is unknown or wrong, or the checkpoint is of other data or settings.
    """
    chosen = read_settings(Settings, settings, "keras")
    import keras

    trained = task.weighting.fittable
    weights = task.weights * trained
    x = task.x
    model = build(x.shape[1], len(task.labels), chosen.hidden, chosen.dropout, chosen.activation, task.seed)
    optimizer = keras.optimizers.Adam(chosen.learning_rate)
    optimizer.build(model.trainable_variables)
    fingerprint = _fingerprint(task, chosen, x, weights)
    state = State()
    if resume:
        if task.folder is None or not (task.folder / CHECKPOINT).is_file():
            raise HeadError(f"there is nothing to resume: {task.folder} has no {CHECKPOINT}. Start without --resume.")
        state = State.load(task.folder, fingerprint)
        _put(model.variables, state.weights)
        _put(optimizer.variables, state.optimizer)
    run_epoch = _compile_epoch(model, optimizer, x, np.nan_to_num(task.y), weights, chosen)
    judge = _compile_judge(model, task, chosen, trained)
    while state.epoch < chosen.epochs and state.waited < chosen.patience:
        # The order depends on seed and epoch alone, so that nothing needs to be remembered for it.
        order = np.random.default_rng([task.seed, state.epoch]).permutation(len(x)).astype(np.int32)
        loss, val_loss = run_epoch(order), judge()
        _advance(state, model, optimizer, loss, val_loss)
        if not math.isfinite(loss):
            raise HeadError(
                f"the loss became {loss} in epoch {state.epoch}; lower learning_rate ({chosen.learning_rate:g} now)."
            )
        if task.folder is not None:
            state.save(task.folder, fingerprint)
        progress(state.epoch, chosen.epochs, f"loss {loss:.4f}" + (f", val {val_loss:.4f}" if judge.known else ""))
    _put(model.variables, state.kept)
    history = pd.DataFrame(state.losses, columns=["loss", "val_loss"])
    history.insert(0, "epoch", np.arange(1, len(history) + 1))
    # Stopping by patience or after all epochs is how it is meant to end; there is no optimum to have missed.
    return Fitted(KerasHead(task.labels, model), True, history, {"epochs_run": state.epoch, **_plain(chosen)})


def _advance(state: State, model: Any, optimizer: Any, loss: float, val_loss: float) -> None:
    """Note an epoch; without validation the last epoch is the best."""
    state.epoch += 1
    state.losses.append((loss, val_loss))
    state.weights, state.optimizer = _get(model.variables), _get(optimizer.variables)
    if math.isnan(val_loss) or val_loss < state.best:
        state.best = math.inf if math.isnan(val_loss) else val_loss
        state.waited, state.kept = 0, state.weights
    else:
        state.waited += 1


def _entry_losses(model: Any, x: Any, y: Any, weights: Any, softmax: bool, training: bool) -> Any:
    """Weighted loss of every entry, (rows, labels); the activation is left out and joined with the logarithm."""
    import tensorflow as tf

    logits = _logits(model, x, training)
    if softmax:
        log_p = tf.nn.log_softmax(logits)
        rest = tf.math.log(tf.maximum(1 - tf.exp(log_p), 1e-7))
        return -weights * (y * log_p + (1 - y) * rest)
    return weights * (tf.nn.softplus(logits) - y * logits)


def _logits(model: Any, x: Any, training: bool) -> Any:
    for layer in model.layers[1:-1]:
        x = layer(x, training=training) if type(layer).__name__ == "Dropout" else layer(x)
    return x


def _compile_epoch(
    model: Any,
    optimizer: Any,
    x: npt.NDArray[np.float32],
    y: npt.NDArray[np.float64],
    weights: npt.NDArray[np.float64],
    chosen: Settings,
) -> Callable[[npt.NDArray[np.int32]], float]:
    import tensorflow as tf

    softmax = chosen.activation == "softmax"
    with _on_cpu_if_large(x):
        features, truth, weight = (tf.constant(a, dtype=tf.float32) for a in (x, y, weights))
    known = tf.constant(weights > 0)
    rows, batch = len(x), chosen.batch

    @tf.function(input_signature=[tf.TensorSpec((rows,), tf.int32)])
    def epoch(order: Any) -> Any:
        total, count = tf.constant(0.0), tf.constant(0.0)
        for start in tf.range(0, rows, batch):
            chosen_rows = order[start : start + batch]
            entries = tf.reduce_sum(tf.cast(tf.gather(known, chosen_rows), tf.float32))
            with tf.GradientTape() as tape:
                xb, yb, wb = (tf.gather(a, chosen_rows) for a in (features, truth, weight))
                summed = tf.reduce_sum(_entry_losses(model, xb, yb, wb, softmax, training=True))
                loss = summed / tf.maximum(entries, 1.0)
            optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
            total, count = total + summed, count + entries
        return total / tf.maximum(count, 1.0)

    return lambda order: float(epoch(tf.constant(order)))


@dataclass(frozen=True)
class _Judge:
    """Loss on the validation rows, NaN where there are none."""

    loss: Callable[[], float]
    known: bool

    def __call__(self) -> float:
        return self.loss()


def _compile_judge(model: Any, task: Task, chosen: Settings, trained: npt.NDArray[np.bool_]) -> _Judge:
    import tensorflow as tf

    if task.validation is None:
        return _Judge(lambda: float("nan"), False)
    x, y = task.validation
    weights = task.weighting.of(y) * trained
    entries = max(float((weights > 0).sum()), 1.0)
    features, truth, weight = (tf.constant(a, dtype=tf.float32) for a in (x, np.nan_to_num(y), weights))

    @tf.function
    def judge() -> Any:
        softmax = chosen.activation == "softmax"
        return tf.reduce_sum(_entry_losses(model, features, truth, weight, softmax, training=False)) / entries

    return _Judge(lambda: float(judge()), True)


@contextmanager
def _on_cpu_if_large(x: npt.NDArray[np.float32]) -> Iterator[None]:
    """Keep a matrix of over 2 GB out of a graphics card's memory."""
    import tensorflow as tf

    if x.nbytes < 2 << 30:
        yield
    else:
        with tf.device("/CPU:0"):
            yield


def _get(variables: Any) -> list[npt.NDArray[Any]]:
    return [v.value.numpy().copy() for v in variables]


def _put(variables: Any, values: list[npt.NDArray[Any]]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _plain(chosen: Settings) -> dict[str, Any]:
    return {**asdict(chosen), "hidden": list(chosen.hidden)}


def _fingerprint(task: Task, chosen: Settings, x: npt.NDArray[np.float32], weights: npt.NDArray[np.float64]) -> str:
    """Hash of what a checkpoint depends on; the number of epochs is free to grow."""
    import hashlib

    digest = hashlib.sha256()
    settings = {**_plain(replace(chosen, epochs=1)), "seed": task.seed, "labels": task.labels}
    digest.update(json.dumps(settings, sort_keys=True).encode())
    arrays = [x, task.y, weights, *(task.validation or ())]
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
