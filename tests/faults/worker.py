"""An extraction in all but the network: the calls that `cxrfeat extract` makes, over embeddings that cost nothing.

Run as a program it is the process that the tests kill: `python worker.py FILE STUDY`. It says `ready` when its imports
are done, so that kills fall into the work.
"""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cxrfeat._recipe import Recipe
from cxrfeat._store import Writer

DIM, PASSES, BATCH = 16, 1, 16
RECIPE = Recipe("densenet121", "random:0", "0" * 64, "relu", "torch", 224, passes=PASSES, augmentation={"name": "x"})


@dataclass(frozen=True)
class Study:
    """`n` images, of which every `every`-th cannot be read; those below `changed` are as they were changed later."""

    n: int
    changed: int = 0
    every: int = 97
    segment_rows: int = 64

    @property
    def order(self) -> list[str]:
        return [f"{i:06d}.png" for i in np.random.default_rng(1).permutation(self.n).tolist()]

    def version(self, image_id: str) -> int:
        return int(int(image_id[:6]) < self.changed)

    def unreadable(self, image_id: str) -> bool:
        return int(image_id[:6]) % self.every == self.every - 1

    def hashes(self, image_ids: list[str]) -> np.ndarray:
        texts = [f"{i} {self.version(i)}".encode() for i in image_ids]
        return np.frombuffer(b"".join(hashlib.sha256(t).digest() for t in texts), dtype=np.uint8).reshape(-1, 32)

    def embeddings(self, image_ids: list[str]) -> np.ndarray:
        rows = self.hashes(image_ids).astype(np.float32)[:, None, :]
        return np.ascontiguousarray(np.moveaxis(rows.reshape(len(rows), PASSES + 1, DIM), 1, 0) / 7)


SMALL, GROWN = Study(300), Study(420, changed=20)
STUDIES = {"small": SMALL, "grown": GROWN, "long": Study(2500), "longer": Study(3000, changed=200)}


def extract(path: Path, study: Study, durable: set[str] | None = None) -> None:
    """Bring the file at `path` up to `study`; ids whose rows were promised to be durable are put into `durable`."""
    with Writer.open(path, RECIPE, DIM, {"engine": "none"}, segment_rows=study.segment_rows) as writer:
        readable = [i for i in study.order if not study.unreadable(i)]
        hashes = dict(zip(readable, map(bytes, study.hashes(readable)), strict=True))
        writer.drop([i for i in readable if i in writer.done and writer.done[i] != hashes[i]])
        todo = [i for i in readable if i not in writer.done]
        if durable is not None:
            durable.update(i for i in readable if i in writer.done)
        for start in range(0, len(todo), BATCH):
            batch = todo[start : start + BATCH]
            writer.append(batch, study.hashes(batch), study.embeddings(batch))
            if durable is not None and start % 64 == 0:
                writer.flush()
                durable.update(todo[: start + BATCH])
        for image_id in study.order:
            if study.unreadable(image_id):
                writer.fail(image_id, f"images/{image_id}", "not an image")
        writer.publish(study.order)


if __name__ == "__main__":
    print("ready", flush=True)
    extract(Path(sys.argv[1]), STUDIES[sys.argv[2]])
