"""What an uncertain label, -1 in a table, means: unknown, positive, negative, or a probability."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from cxrfeat._labels import canonical
from cxrfeat.errors import StudyError

Policy = str | float | Mapping[str, str | float] | Iterable[str]

MEANINGS = {"unknown": np.nan, "positive": 1.0, "negative": 0.0}


def decide(
    table: pd.DataFrame, labels: Sequence[str], uncertain: Policy | None, soft: bool
) -> tuple[pd.DataFrame, dict[str, object]]:
    """Put a value for every -1, and return what was done, for the study's provenance."""
    usual, own = _policies(uncertain, labels)
    usual = ("0.5" if soft else "unknown") if usual is None else usual
    counts = {}
    for label in labels:
        marked = (table[label] == -1).to_numpy()
        if marked.any():
            counts[label] = int(marked.sum())
            table[label] = table[label].mask(marked, _value(own.get(label, usual)))
    about: dict[str, object] = {}
    if counts or uncertain is not None:
        about["uncertain"] = usual if not own else {"others": usual, **own}
    y = table[list(labels)].to_numpy(dtype=float)
    if between := [label for label, column in zip(labels, y.T, strict=True) if ((column > 0) & (column < 1)).any()]:
        about["soft"] = between
    return table, about


def _policies(uncertain: Policy | None, labels: Sequence[str]) -> tuple[str | None, dict[str, str]]:
    """The policy of all labels, and those of single ones."""
    if uncertain is None or isinstance(uncertain, (str, float, int)):
        parts = [] if uncertain is None else [("", str(uncertain))]
    elif isinstance(uncertain, Mapping):
        parts = [(name, str(policy)) for name, policy in uncertain.items()]
    else:
        parts = [(text.rpartition("=")[0], text.rpartition("=")[2]) for text in uncertain]
    usual, own = None, {}
    for name, policy in parts:
        _value(policy)
        if not name:
            usual = policy
        elif (label := name if name in labels else canonical(name)) in labels:
            own[label] = policy
        else:
            raise StudyError(f"`uncertain` names the label {name!r}; the labels are {', '.join(labels)}.")
    return usual, own


def _value(policy: str) -> float:
    if policy in MEANINGS:
        return MEANINGS[policy]
    try:
        value = float(policy)
    except ValueError:
        value = np.nan
    if not 0 < value < 1:
        raise StudyError(
            f"`uncertain` is {', '.join(MEANINGS)} or a probability between 0 and 1, for all labels or as "
            f"LABEL=POLICY, not {policy!r}."
        )
    return value
