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
    labels = [label for label in first.labels if all(label in run.labels for run in others)]
    indices = [pd.Index(run.ids) for run in runs]
    aligned, left_out = list(runs), 0
    if not all(index.equals(indices[0]) for index in indices[1:]):
        places = [index.get_indexer(indices[0]) for index in indices]
        shared = np.min(places, axis=0) >= 0
        if not shared.any():
            raise EvaluationError("the runs share no images.")
        aligned = [run.take(place[shared]) for run, place in zip(runs, places, strict=True)]
        left_out = indices[0].append(indices[1:]).nunique() - int(shared.sum())
    if not labels:
        raise EvaluationError("the runs share no labels.")
    aligned = [run.with_labels(labels) for run in aligned]
    for other in aligned[1:]:
        _same_truth(aligned[0], other)
    return aligned, left_out


def _same_images(a: Scored, b: Scored) -> None:
    ids, others = pd.Index(a.ids), pd.Index(b.ids)
    both = len(ids) if ids.equals(others) else int((others.get_indexer(ids) >= 0).sum())
    only_a, only_b = len(ids) - both, len(others) - both
    if only_a or only_b:
        raise EvaluationError(
            f"{a.name} and {b.name} were evaluated on different images: {only_a:,} only in {a.name}, "
            f"{only_b:,} only in {b.name}, {both:,} in both. `intersection=True` compares them on those {both:,}."
        )
    if odd := sorted(set(a.labels) ^ set(b.labels)):
        raise EvaluationError(
            f"{a.name} and {b.name} do not have the same labels: {', '.join(odd)} only in one of them. "
            "`intersection=True` compares them on the labels they share."
        )


def _same_truth(a: Scored, b: Scored) -> None:
    differ = a.truth != b.truth
    if differ.any():
        row, column = divmod(int(differ.argmax()), len(a.labels))
        one, other = ("unknown" if t[row, column] < 0 else str(t[row, column]) for t in (a.truth, b.truth))
        raise EvaluationError(
            f"{a.name} and {b.name} do not agree on the truth of {int(differ.sum()):,} labels, the first is "
            f"{a.labels[column]} of image {str(a.ids[row])!r} ({one} and {other}). "
            "Fit both on the same study."
        )
    # The place of each patient of the one among those of the other.
    same = pd.Index(b.names).get_indexer(pd.Index(a.names))[a.patients] == b.patients
    if not same.all():
        row = int((~same).argmax())
        raise EvaluationError(f"{a.name} and {b.name} do not agree on the patient of image {str(a.ids[row])!r}.")


def named_apart(runs: Sequence[Scored]) -> list[Scored]:
    """Give runs of the same name a number each."""
    names = [run.name or "run" for run in runs]
    return [
        replace(run, name=name if names.count(name) == 1 else f"{name} ({names[: k + 1].count(name)})")
        for k, (run, name) in enumerate(zip(runs, names, strict=True))
    ]
