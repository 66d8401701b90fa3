"""Runs, brought to the same images and labels before they are compared; joined by id and name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from cxrfeat._evaluate.scored import Scored
from cxrfeat.errors import EvaluationError


def align(runs: Sequence[Scored], intersection: bool = False) -> tuple[list[Scored], int]:
    """Bring runs to the same images and labels, in the order of the first, joined by id and name.

    Returns them, and how many images are not in every run; raises what `compare` raises.
    """
    if len(runs) < 2:
        raise EvaluationError("a comparison needs at least two runs.")
    first, *others = runs
    if not intersection:
        for other in others:
            _same_images(first, other)
    shared = set(first.ids).intersection(*(run.ids for run in others))
    labels = [label for label in first.labels if all(label in run.labels for run in others)]
    if not shared or not labels:
        raise EvaluationError("the runs share no " + ("images." if not shared else "labels."))
    ids = pd.Index([name for name in first.ids if name in shared])
    aligned = [run.take(pd.Index(run.ids).get_indexer(ids).astype(np.int64)).with_labels(labels) for run in runs]
    for other in aligned[1:]:
        _same_truth(aligned[0], other)
    return aligned, len(set().union(*(run.ids for run in runs))) - len(shared)


def _same_images(a: Scored, b: Scored) -> None:
    only_a, only_b = set(a.ids) - set(b.ids), set(b.ids) - set(a.ids)
    both = len(a) - len(only_a)
    if only_a or only_b:
        raise EvaluationError(
            f"{a.name} and {b.name} were evaluated on different images: {len(only_a):,} only in {a.name}, "
            f"{len(only_b):,} only in {b.name}, {both:,} in both. `intersection=True` compares them on those {both:,}."
        )
    if odd := sorted(set(a.labels) ^ set(b.labels)):
        raise EvaluationError(
            f"{a.name} and {b.name} do not have the same labels: {', '.join(odd)} only in one of them. "
            "`intersection=True` compares them on the labels they share."
        )


def _same_truth(a: Scored, b: Scored) -> None:
    differ = ~((a.y == b.y) | (np.isnan(a.y) & np.isnan(b.y)))
    if differ.any():
        row, column = np.argwhere(differ)[0]
        raise EvaluationError(
            f"{a.name} and {b.name} do not agree on the truth of {int(differ.sum()):,} labels, the first is "
            f"{a.labels[column]} of image {str(a.ids[row])!r} ({a.y[row, column]:g} and {b.y[row, column]:g}). "
            "Fit both on the same study."
        )
    if (a.patients != b.patients).any():
        row = int((a.patients != b.patients).argmax())
        raise EvaluationError(f"{a.name} and {b.name} do not agree on the patient of image {str(a.ids[row])!r}.")


def named_apart(runs: Sequence[Scored]) -> list[Scored]:
    """Give runs of the same name a number each."""
    names = [run.name or "run" for run in runs]
    return [
        replace(run, name=name if names.count(name) == 1 else f"{name} ({names[: k + 1].count(name)})")
        for k, (run, name) in enumerate(zip(runs, names, strict=True))
    ]
