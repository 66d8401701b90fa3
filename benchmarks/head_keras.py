"""An epoch of the Keras head at full NIH size: Keras's `fit` as `keras_training` calls it, beside bare loops.

86,524 drawn embeddings of 1,024, 14 labels, weighted as the paper, 16 rows a step: 5,408 steps of Adam. Beside it, on
the same rows, weights and optimiser, alternating in one run: a loop over `train_on_batch`, and `fit` on the arrays
themselves, one step a batch. The ratio is theirs over ours.

    python benchmarks/head_keras.py [--rows 86524] [--epochs 5]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import head_logistic
import keras
import numpy as np
from keras import ops

from cxrfeat._heads.base import Task
from cxrfeat._heads.keras_head import LOGITS, KerasHead, build
from cxrfeat._heads.keras_training import Trainer, mean_loss
from cxrfeat._heads.solver.rows import MatrixRows
from cxrfeat._heads.weighting import weigh
from cxrfeat._labels import NIH_LABELS


def logits_of(dim: int) -> keras.Model:
    model = build(dim, len(NIH_LABELS), (), 0.0, "sigmoid", 0)
    return keras.Model(model.input, model.get_layer(LOGITS).output)


def ours(task: Task) -> Callable[[int], object]:
    trainer = Trainer(logits_of(task.rows.shape[1]), task, KerasHead.Settings())
    positions = np.arange(trainer.steps * trainer.batch, dtype=np.int32)

    def epoch(number: int) -> object:
        trainer.draw(0, number)
        return trainer.fit(positions, batch_size=trainer.batch * trainer.unroll, shuffle=False, verbose=0)

    return epoch


class Loss(keras.losses.Loss):
    def call(self, truth, logits):
        return mean_loss(False, logits, *ops.split(truth, 2, axis=1))


def peer(task: Task, on_batch: bool) -> Callable[[int], object]:
    model = logits_of(task.rows.shape[1])
    model.compile(keras.optimizers.Adam(KerasHead.Settings.learning_rate), Loss(reduction="sum"), jit_compile=False)
    x, truth = task.x, np.concatenate([task.y, task.weights], axis=1).astype(np.float32)
    batch = KerasHead.Settings.batch

    def loop(number: int) -> None:
        order = np.random.default_rng([0, number]).permutation(len(x))
        for at in range(0, len(x), batch):
            model.train_on_batch(x[order[at : at + batch]], truth[order[at : at + batch]])

    return loop if on_batch else lambda number: model.fit(x, truth, batch_size=batch, verbose=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=head_logistic.ROWS)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "head_keras.json")
    args = parser.parse_args()
    y = head_logistic.labels(None, args.rows)
    rows = MatrixRows(head_logistic.embeddings(y, head_logistic.DIM))
    task = Task(rows, y, np.arange(args.rows).astype(str), weigh(y, NIH_LABELS, "paper"), args.rows)
    ways = {"ours": ours(task), "train_on_batch": peer(task, True), "fit, a step a batch": peer(task, False)}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(args.epochs + 1):  # the first one compiles, and is not counted
        for name, epoch in ways.items():
            start = time.perf_counter()
            epoch(number)
            if number:
                seconds[name].append(time.perf_counter() - start)
    median = {name: statistics.median(found) for name, found in seconds.items()}
    table = [
        {"what": f"epoch of {args.rows} rows, {name}", "ours": median["ours"], "peer": median[name],
         "ratio": median[name] / median["ours"], "unit": "s"}
        for name in list(ways)[1:]
    ]  # fmt: skip
    result = {
        "name": "head_keras",
        "claim": "an epoch by Keras's fit costs no more than its optimiser steps",
        "rows": table,
        "seconds": seconds,
        "machine": {"cores": os.cpu_count(), "processor": platform.machine(), "backend": keras.backend.backend()},
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for row in table:
        print(f"{row['what']}: ours {row['ours']:.2f}, peer {row['peer']:.2f} {row['unit']}, ratio {row['ratio']:.2f}")


if __name__ == "__main__":
    main()
