"""Rows on the workers of a Ray cluster: each holds a part of them, and answers with sums over it.

A step sends the coefficients to every worker and gets a number for each label and feature back, whatever the number of
rows; a sample of fixed size comes here once, and Gram matrices where a search asks for them. Workers read the embedding
files themselves, at the paths that this process reads them at.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cxrfeat import _machine as machine
from cxrfeat._cluster import PATIENCE, sentence, told
from cxrfeat._heads.solver import rows as solver_rows
from cxrfeat._heads.solver.labels import Counts, Labels
from cxrfeat._heads.solver.rows import Bools, FileRows, Floats, Ints, MatrixRows, Moments, Rows
from cxrfeat._heads.solver.sums import Frame, LocalSums, Matrix, Sum
from cxrfeat._store import EmbeddingFile
from cxrfeat.errors import EmbeddingFileError

_log = logging.getLogger(__name__)


class Worker:
    """What runs on a worker: the sums over its part of the rows."""

    @told
    def open(self, files: list[tuple[Path, str]], parts: Any, labels: Labels, number: int, memory: int | None) -> None:
        """Open the files, which must have the content that the driver saw, and read the rows if they fit."""
        opened = [EmbeddingFile.open(path) for path, _ in files]
        for file, (path, content) in zip(opened, files, strict=True):
            if file.content_sha256 != content:
                raise EmbeddingFileError(f"{path} has another content there than here; give all nodes the same files.")
        rows: Rows = FileRows(opened, parts)
        if rows.shape[0] * rows.shape[1] * 4 <= (memory or machine.memory() // 2) // machine.cores():
            rows = MatrixRows(rows.whole())
        self.sums = LocalSums(rows, labels, seed=number, threads=1)

    @told
    def do(self, name: str, *args: Any) -> Any:
        """Call a method of the sums; what comes piece by piece is a list."""
        found = getattr(self.sums, name)(*args)
        return list(found) if isinstance(found, Iterator) else found


class ClusterSums:
    """What `LocalSums` is, over rows of embedding files in as many parts as the cluster has processors."""

    def __init__(self, ray: Any, rows: FileRows, labels: Labels, memory: int | None = None) -> None:
        self.ray, self.shape, self.dtype, self.sweeps = ray, rows.shape, rows.dtype, 0
        blocks = -(-rows.shape[0] // solver_rows.BLOCK)
        count = min(int(ray.cluster_resources().get("CPU", 1)), blocks)
        edges = np.minimum(np.arange(count + 1) * blocks // count * solver_rows.BLOCK, rows.shape[0])
        made = ray.remote(Worker).options(num_cpus=1, scheduling_strategy="SPREAD")
        self.held, self.workers = [made.remote() for _ in range(count)], count
        files = [(file.path.absolute(), file.content_sha256) for file in rows.files]
        opening = []
        for number, (worker, start, stop) in enumerate(zip(self.held, edges[:-1], edges[1:], strict=True)):
            part = np.arange(start, stop)
            opening.append(worker.open.remote(files, rows.part(part).parts, labels.part(part), number, memory))
        if waiting := ray.wait(opening, num_returns=count, timeout=PATIENCE)[1]:
            _log.info("%d of %d workers still read their rows, or wait for a free processor.", len(waiting), count)
        try:
            self._got(opening)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        for worker in self.held:
            self.ray.kill(worker)

    def counts(self) -> Counts:
        return reduce(Counts.joined, self._all("counts"))

    def choose(self, labels: Bools) -> None:
        self._all("choose", labels)

    def gathered(self) -> tuple[Matrix, Labels]:
        return _joined(self._all("gathered"))

    def survey(self, chance: Floats | None) -> tuple[Moments, tuple[Matrix, Labels] | None]:
        self.sweeps += 1
        found = self._all("survey", chance)
        moments = reduce(Moments.joined, (part[0] for part in found))
        return moments, None if chance is None else _joined([part[1] for part in found])

    def begin(self, frame: Frame, v: Matrix, offset: Matrix) -> Sum:
        return self._sum("begin", frame, v, offset)

    def ahead(self, v: Matrix, offset: Matrix) -> Sum:
        return self._sum("ahead", v, offset)

    def slopes(self, columns: Ints, lengths: Floats) -> tuple[Floats, Floats]:
        slope, bend = np.sum(self._all("slopes", columns, lengths), axis=0)
        return slope, bend

    def settle(self, columns: Ints, lengths: Floats) -> Sum | None:
        if len(columns):
            return self._sum("settle", columns, lengths)
        self._all("settle", columns, lengths)
        return None

    def keep(self, columns: Bools) -> None:
        self._all("keep", columns)

    def grams(self, columns: Ints, rows: Floats) -> Iterator[npt.NDArray[np.float32]]:
        """Gram matrices; of the rows drawn, each part has its share of the whole curvature."""
        self.sweeps += 1
        curvature = np.array(self._all("curvature", columns))
        shares = rows * curvature / np.maximum(curvature.sum(axis=0), 1e-300)
        asked = [worker.do.remote("grams", columns, share) for worker, share in zip(self.held, shares, strict=True)]
        total = self._got(asked[:1])[0]
        total = [gram.copy(order="F") for gram in total]  # what Ray gives is read-only
        for one in asked[1:]:  # fetched one after another, since all of them may not fit here
            for gram, part in zip(total, self._got([one])[0], strict=True):
                gram += part
        yield from total

    def _sum(self, name: str, *args: Any) -> Sum:
        self.sweeps += 1
        return reduce(Sum.joined, self._all(name, *args))

    def _all(self, name: str, *args: Any) -> list[Any]:
        """What the method gives on every worker, in the order of the rows."""
        kept = [self.ray.put(arg) for arg in args]
        return self._got([worker.do.remote(name, *kept) for worker in self.held])

    def _got(self, asked: list[Any]) -> list[Any]:
        try:
            return list(self.ray.get(asked))
        except self.ray.exceptions.RayError as error:
            raise sentence(error) from error


def _joined(parts: list[tuple[Matrix, Labels]]) -> tuple[Matrix, Labels]:
    return np.concatenate([x for x, _ in parts]), reduce(Labels.joined, (labels for _, labels in parts))
