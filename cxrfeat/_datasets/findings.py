"""Findings written in one cell, as `Effusion|Mass`, to one column per label."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxrfeat._labels import NIH_LABELS, NO_FINDING, canonical, nih_first
from cxrfeat.errors import StudyError


def columns_of(
    cells: pd.Series, separator: str = "|", labels: Iterable[str] | None = None, where: str = "the table"
) -> pd.DataFrame:
    """Spread cells of findings over one float64 column per label: 1 named, 0 not named, NaN in an empty cell.

    `No Finding` alone is 0 in every column. `labels` are those that may occur; by default every finding that occurs,
    the 14 NIH names first. `where` is the file and column, for messages.
    """
    codes, texts = pd.factorize(cells.fillna("").astype(str).str.strip())  # 112,120 cells are 836 different texts
    named = [{canonical(part) for part in str(text).split(separator) if part.strip()} for text in texts]
    found = set().union(*named) - {NO_FINDING}
    for label in sorted(found):
        parts = {sign: [canonical(part) for part in label.split(sign)] for sign in ",;|/&\t" if sign in label}
        if sign := next((s for s, p in parts.items() if {*NIH_LABELS, NO_FINDING, *found - {label}} & {*p}), ""):
            raise StudyError(
                f"{where}, row {_row(cells, codes, named, label)}: {label!r} looks like several findings; name what "
                f"separates them with `separator={sign}`."
            )
    if labels is None:
        order = list(nih_first(sorted(found)))
    else:
        order = [canonical(name) for name in labels]
        if unknown := sorted(found.difference(order)):
            row = _row(cells, codes, named, unknown[0])
            raise StudyError(
                f"{where}, row {row}: unknown label {unknown[0]!r}; the labels are {', '.join(order)}. "
                "Fix the table, or add the label to `labels`."
            )
    if not order:
        raise StudyError(
            f"{where} names no finding in any row. Name the column with `findings`, and what separates two findings "
            "with `separator`."
        )
    matrix = np.array([[float(label in names) if names else np.nan for label in order] for names in named])
    return pd.DataFrame(matrix[codes], columns=order, index=cells.index)


def _row(cells: pd.Series, codes: npt.NDArray[np.int64], named: list[set[str]], label: str) -> int:
    """The row of the file, whose header is row 1, that first names a finding."""
    return int(cells.index[np.isin(codes, [i for i, names in enumerate(named) if label in names])][0]) + 2
