"""Training the Keras head as the reference paper does, by Keras's own `fit`, on any of its backends.

Loss of one entry with logit z and label y: w (softplus(z) - y z), with w the class weight (w_positive or w_negative)
and 0 if the label is unknown; of a batch: the mean over its known entries. A softmax head takes the same weighted
cross-entropy of its outputs.

The embeddings stay in memory, and what `fit` is given are positions in the epoch's order of rows. One of its batches is
several optimiser steps: at 16 rows a step, handing over a batch takes longer than the step itself.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from contextlib import nullcontext
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pandas as pd
from keras import ops

from cxrfeat._files import write_atomically
from cxrfeat._heads.base import CHECKPOINT, Task
from cxrfeat._progress import Progress
from cxrfeat.errors import HeadError

BEST, LATEST = "best.weights.h5", "latest.weights.h5"
LARGE = 2 << 30
"""Bytes of embeddings above which they are kept out of a graphics card's memory."""


def train(model: keras.Model, logits: str, task: Task, settings: Any, resume: bool, progress: Progress) -> pd.DataFrame:
    """Train a model in place, and return the losses of every epoch; `logits` names the layer before the activation.

    Validation decides when to stop; without it all epochs run. With `task.folder`, a checkpoint is written there after
    every epoch, and a resumed fit ends with the same bits as one without the interruption.
    """
    trainer = Trainer(keras.Model(model.input, model.get_layer(logits).output), task, settings)
    epochs = Epochs(trainer, task, settings, progress)
    kept = epochs.restore() if resume else epochs.begin()
    if not epochs.done:
        positions = np.arange(trainer.steps * trainer.batch, dtype=np.int32)
        trainer.fit(
            positions, batch_size=trainer.batch * trainer.unroll, epochs=settings.epochs, shuffle=False, verbose=0,
            callbacks=[epochs, *_callbacks(epochs, kept)],
        )  # fmt: skip
    elif kept is not None:
        trainer.set_weights(kept)
    history = pd.DataFrame(epochs.losses, columns=["loss", "val_loss"])
    if epochs.errors:
        history["accuracy"] = 1 - np.array(epochs.errors)
    history.insert(0, "epoch", np.arange(1, len(history) + 1))
    return history


def _callbacks(epochs: Epochs, kept: Any) -> list[keras.callbacks.Callback]:
    """Early stopping, the best epoch on disk, and the backup to resume from, which comes after all else is written."""
    found: list[keras.callbacks.Callback] = []
    if epochs.keeps_best or epochs.settings.monitor == "accuracy":
        found.append(Stop(epochs, kept))
    if epochs.folder is None:
        return found
    if epochs.keeps_best:
        lowest = min((val for _, val in epochs.losses), default=None)
        options: dict[str, Any] = {"save_best_only": True, "save_weights_only": True, "mode": "min"}
        best = str(epochs.folder / BEST)
        found.append(keras.callbacks.ModelCheckpoint(best, "val_loss", initial_value_threshold=lowest, **options))
    backup = {"double_checkpoint": True, "delete_checkpoint": False}
    return [*found, keras.callbacks.BackupAndRestore(str(epochs.folder), **backup)]


class Trainer(keras.Model):
    """A head with its loss over rows in memory; its input are positions in the order of the epoch."""

    def __init__(self, head: keras.Model, task: Task, settings: Any) -> None:
        super().__init__(name="trainer")
        self.head, self.softmax = head, settings.activation == "softmax"
        x, weights = task.x, task.weights * task.weighting.fittable
        self.rows, self.batch = len(x), min(settings.batch, len(x))
        steps = math.ceil(self.rows / self.batch)
        # The number of steps to a batch of `fit` that leaves the fewest rows to fill up the last one.
        self.unroll = 1 if steps < 16 else min(range(15, 7, -1), key=lambda k: -steps % k)
        self.steps = math.ceil(steps / self.unroll) * self.unroll
        truth = np.concatenate([np.nan_to_num(task.targets), weights], axis=1)
        truth = np.append(truth, np.zeros((1, truth.shape[1])), axis=0)  # what fills up the last steps: no weight
        with nullcontext() if x.nbytes < LARGE else keras.device("cpu:0"):
            self._x, self._truth = (ops.convert_to_tensor(a.astype(np.float32, copy=False)) for a in (x, truth))
        self.order = self.add_weight(
            shape=(self.steps * self.batch,), dtype="int32", trainable=False, initializer="zeros", name="order"
        )
        self.fingerprint = _fingerprint(task, settings, x, weights)
        backend = keras.backend.backend()
        self.compile(
            keras.optimizers.Adam(settings.learning_rate),
            steps_per_execution=1 if backend == "torch" else self.steps // self.unroll,  # Keras takes no more there
            jit_compile="auto" if backend == "jax" else False,
        )
        self(np.zeros(1, dtype=np.int32))
        self.optimizer.build(self.trainable_variables)

    def draw(self, seed: int, epoch: int) -> None:
        """Draw the order of an epoch and the seed of its dropout, from seed and epoch alone.

        Steps differ by one row at most. Keras does not save the state of dropout.
        """
        rng = np.random.default_rng([seed, epoch])
        order = np.full(self.steps * self.batch, self.rows, dtype=np.int32)
        order[: self.rows] = rng.permutation(self.rows)
        for layer in self.head.layers:
            if isinstance(layer, keras.layers.Dropout):
                state = layer.seed_generator.state
                state.assign(rng.integers(0, 2**31, tuple(state.shape)))
        self.order.assign(order.reshape(self.batch, self.steps).T.ravel())

    def call(self, positions: Any, training: bool = False) -> Any:
        """Logits of the rows at some positions."""
        rows = ops.minimum(ops.take(self.order, positions), self.rows - 1)
        return self.head(ops.take(self._x, rows, axis=0), training=training)

    def compute_loss(self, x: Any = None, y: Any = None, y_pred: Any = None, *args: Any, **rest: Any) -> Any:
        truth, weight = ops.split(ops.take(self._truth, ops.take(self.order, x), axis=0), 2, axis=1)
        return mean_loss(self.softmax, y_pred, truth, weight)

    def train_step(self, *args: Any) -> Any:
        """Several steps a call; JAX hands over its state beside the data."""
        *state, data = args
        positions = ops.reshape(data[0] if isinstance(data, tuple) else data, (self.unroll, self.batch))
        found: Any = None
        for k in range(self.unroll):
            found = super().train_step(*state, (positions[k],))
            state = [found[1]] if state else []
        return found

    def hits(self, y: npt.NDArray[np.float64]) -> float:
        """Share of rows whose largest output is their first label; that of a row without a label is the first of all.

        This is what Keras means by `accuracy` for several outputs.
        """
        largest = ops.convert_to_numpy(ops.argmax(self.head(self._x, training=False), axis=1))
        return float((largest == np.nan_to_num(y).argmax(axis=1)).mean())


class Epochs(keras.callbacks.Callback):
    """Sets the order of each epoch, judges it, and keeps the losses for whoever resumes."""

    FILE = "epochs.json"

    def __init__(self, trainer: Trainer, task: Task, settings: Any, progress: Progress) -> None:
        super().__init__()
        self.trainer, self.task, self.settings, self.progress = trainer, task, settings, progress
        self.losses: list[tuple[float, float]] = []
        self.errors: list[float] = []
        self.keeps_best = task.validation is not None and settings.monitor == "val_loss"
        self.folder = None if task.folder is None else task.folder / CHECKPOINT

    def begin(self) -> Any:
        """Remove the checkpoint of another fit; there are no weights to go on from."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
        return None

    @property
    def judged(self) -> list[float]:
        """What decides when to stop, of every epoch; lower is better."""
        return self.errors if self.settings.monitor == "accuracy" else [val for _, val in self.losses]

    @property
    def done(self) -> bool:
        values = self.judged
        waited = len(values) - 1 - int(np.argmin(values)) if values and not math.isnan(values[0]) else 0
        return len(values) >= self.settings.epochs or waited >= self.settings.patience

    def restore(self) -> Any:
        """Read the losses of the epochs before the interruption, and return the weights of the best one."""
        folder = self.folder
        if folder is None or not (folder / self.FILE).is_file():
            raise HeadError(f"there is nothing to resume: {folder} has no checkpoint. Start without `resume`.")
        try:
            found = json.loads((folder / self.FILE).read_text())
            epoch = json.loads((folder / "training_metadata.json").read_text())["epoch"]
            self.losses = [(float(a), math.nan if b is None else float(b)) for a, b in found["losses"]][:epoch]
            self.errors = [float(error) for error in found.get("errors", ())][:epoch]
            if found["fingerprint"] != self.trainer.fingerprint:
                raise HeadError(
                    f"{folder} was made with other data or settings; give those of the run that stopped (only epochs "
                    "may be raised), or start without `resume`."
                )
            best = folder / (BEST if self.keeps_best else LATEST)
            self.trainer.load_weights(str(best))
        except HeadError:
            raise
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise HeadError(f"{folder} is damaged ({error}); start without `resume`.") from error
        return self.trainer.get_weights()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Draw; the backup has been restored by now."""
        if int(self.trainer.optimizer.iterations) != epoch * self.trainer.steps or len(self.losses) != epoch:
            raise HeadError(f"{self.folder} is damaged: it is of different epochs; start without `resume`.")
        self.trainer.draw(self.task.seed, epoch)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Add the loss on validation to the logs, where the callbacks after this one find it."""
        loss, val_loss = float(logs["loss"]), self._validation()
        if not math.isfinite(loss):
            raise HeadError(
                f"the loss became {loss} in epoch {epoch + 1}; lower learning_rate ({self.settings.learning_rate:g} "
                "now)."
            )
        self.losses.append((loss, val_loss))
        if self.settings.monitor == "accuracy":
            self.errors.append(1 - self.trainer.hits(self.task.y))
        logs |= {"val_loss": val_loss, "judged": self.judged[-1]}
        if self.folder is not None:
            losses = [(a, None if math.isnan(b) else b) for a, b in self.losses]
            content = {"fingerprint": self.trainer.fingerprint, "losses": losses, "errors": self.errors}
            write_atomically(self.folder / self.FILE, json.dumps(content))
        known = "" if math.isnan(val_loss) else f", val {val_loss:.4f}"
        self.progress(epoch + 1, self.settings.epochs, f"loss {loss:.4f}{known}")

    def _validation(self) -> float:
        if self.task.validation is None:
            return math.nan
        x, y = self.task.validation
        weights = self.task.weighting.of(y) * self.task.weighting.fittable
        arrays = [a.astype(np.float32) for a in (np.nan_to_num(y), weights)]
        logits = self.trainer.head(x, training=False)
        loss = mean_loss(self.trainer.softmax, logits, *map(ops.convert_to_tensor, arrays))
        return float(ops.convert_to_numpy(loss))


class Stop(keras.callbacks.EarlyStopping):
    """Early stopping that knows of the epochs before an interruption."""

    def __init__(self, epochs: Epochs, kept: Any) -> None:
        patience = epochs.settings.patience
        super().__init__("judged", patience=patience, mode="min", restore_best_weights=epochs.keeps_best)
        self.before, self.kept = list(epochs.judged), kept

    def on_train_begin(self, logs: Any = None) -> None:
        """Take up the count where it was."""
        super().on_train_begin(logs)
        if self.before:
            self.best_epoch = int(np.argmin(self.before))
            self.best, self.wait = self.before[self.best_epoch], len(self.before) - 1 - self.best_epoch
            self.best_weights = self.kept


def mean_loss(softmax: bool, logits: Any, y: Any, weight: Any) -> Any:
    """Mean weighted loss of the entries of known weight; the activation is joined with the logarithm."""
    if softmax:
        log_p = ops.log_softmax(logits)
        rest = ops.log(ops.maximum(1 - ops.exp(log_p), 1e-7))
        losses = -weight * (y * log_p + (1 - y) * rest)
    else:
        losses = weight * (ops.softplus(logits) - y * logits)
    return ops.sum(losses) / ops.maximum(ops.sum(ops.cast(weight > 0, "float32")), 1.0)


def _fingerprint(task: Task, settings: Any, x: npt.NDArray[np.float32], weights: npt.NDArray[np.float64]) -> str:
    """Hash of what a checkpoint depends on; the number of epochs is free to grow."""
    digest = hashlib.sha256()
    free = {**vars(settings), "epochs": None, "seed": task.seed, "labels": task.labels}
    digest.update(json.dumps(free, sort_keys=True).encode())
    for array in (x, task.targets, weights, *(task.validation or ())):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
