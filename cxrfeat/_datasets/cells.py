"""Cells of a table to labels: codes, findings named in one cell as `Effusion|Mass`, and what uncertain means."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxrfeat._labels import NIH_LABELS, NO_FINDING, canonical, nih_first
from cxrfeat.errors import StudyError

Policy = str | float | Mapping[str, str | float] | Iterable[str]
"""What an uncertain label, -1, means; of all labels, or of single ones."""

MEANINGS = {"unknown": np.nan, "positive": 1.0, "negative": 0.0}

_CODES = {"": np.nan, "0": 0.0, "0.0": 0.0, "1": 1.0, "1.0": 1.0, "-1": -1.0, "-1.0": -1.0}


def coded(
    raw: pd.DataFrame, findings: Iterable[str], path: Path, words: dict[str, float] | None = None
) -> pd.DataFrame:
    """Columns of codes as float64 labels under their usual names: 1, 0, -1 for uncertain, NaN for an empty cell.

    `words` are other codes, such as YES and NO.
    """
    codes, columns = words or _CODES, {}
    for name in findings:
        where, texts = pd.factorize(raw[name].fillna(""))
        values = [codes.get(str(text).strip()) for text in texts]
        if None in values:
            place = int((where == values.index(None)).argmax())
            raise StudyError(
                f"{path}, row {place + 2}, column {name!r}: {raw[name].iloc[place]!r} is not one of "
                f"{', '.join(filter(None, codes))}."
            )
        columns[canonical(name)] = np.array(values, dtype=float)[where]
    return pd.DataFrame(columns, index=raw.index)


def named(cells: pd.Series, separator: str, labels: Iterable[str], where: str) -> pd.DataFrame:
    """Spread cells of findings over one float64 column per label: 1 named, 0 not named, NaN in an empty cell.

    `No Finding` alone is 0 in every column. `labels` are those that may occur; without any, every finding that does,
    the 14 NIH names first. `where` is the file and column, for messages.
    """
    codes, texts = pd.factorize(cells.fillna("").astype(str).str.strip())  # 112,120 cells are 836 different texts
    sets = [{canonical(part) for part in str(text).split(separator) if part.strip()} for text in texts]
    found = set().union(*sets) - {NO_FINDING}
    for label in sorted(found):
        parts = {sign: [canonical(part) for part in label.split(sign)] for sign in ",;|/&\t" if sign in label}
        if sign := next((s for s, p in parts.items() if {*NIH_LABELS, NO_FINDING, *found - {label}} & {*p}), ""):
            raise StudyError(
                f"{where}, row {_row(cells, codes, sets, label)}: {label!r} looks like several findings; name what "
                f"separates them with `separator={sign}`."
            )
    order = [canonical(name) for name in labels] or list(nih_first(sorted(found)))
    if unknown := sorted(found.difference(order)):
        raise StudyError(
            f"{where}, row {_row(cells, codes, sets, unknown[0])}: unknown label {unknown[0]!r}; the labels are "
            f"{', '.join(order)}. Fix the table, or add the label to `labels`."
        )
    if not order:
        raise StudyError(
            f"{where} names no finding in any row. Name the column with `findings`, and what separates two findings "
            "with `separator`."
        )
    matrix = np.array([[float(label in names) if names else np.nan for label in order] for names in sets])
    return pd.DataFrame(matrix[codes], columns=order, index=cells.index)


def _row(cells: pd.Series, codes: npt.NDArray[np.int64], sets: list[set[str]], label: str) -> int:
    """The row of the file, whose header is row 1, that first names a finding."""
    return int(cells.index[np.isin(codes, [i for i, names in enumerate(sets) if label in names])][0]) + 2


def decide(
    table: pd.DataFrame, labels: Sequence[str], uncertain: Policy | None, soft: bool
) -> tuple[pd.DataFrame, dict[str, object]]:
    """Put a value for every -1, and return what was done, for the study's provenance."""
    usual, own = _policies(uncertain, labels, "0.5" if soft else "unknown")
    marked = [label for label in labels if (table[label] == -1).any()]
    for label in marked:
        table[label] = table[label].replace(-1.0, _value(own.get(label, usual)))
    about: dict[str, object] = {}
    if marked or uncertain is not None:
        about["uncertain"] = {"others": usual, **own} if own else usual
    if soft_ones := [label for label in labels if table[label].between(0, 1, inclusive="neither").any()]:
        about["soft"] = soft_ones
    return table, about


def _policies(uncertain: Policy | None, labels: Sequence[str], usual: str) -> tuple[str, dict[str, str]]:
    """The policy of all labels, by default `usual`, and those of single ones."""
    if isinstance(uncertain, Mapping):
        parts = [(name, str(policy)) for name, policy in uncertain.items()]
    else:
        texts = [str(uncertain)] if isinstance(uncertain, (str, float, int)) else uncertain or ()
        parts = [(name, policy) for name, _, policy in (text.rpartition("=") for text in texts)]
    own = {}
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
