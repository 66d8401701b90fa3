"""Findings written in one cell, as `Effusion|Mass`, to one column per label."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from cxrfeat._labels import NIH_LABELS, NO_FINDING, canonical
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
    if labels is None:
        order = [name for name in NIH_LABELS if name in found] + sorted(found.difference(NIH_LABELS))
    else:
        order = [canonical(name) for name in labels]
        if unknown := sorted(found.difference(order)):
            row = int(np.isin(codes, [i for i, names in enumerate(named) if unknown[0] in names]).argmax())
            raise StudyError(
                f"{where}, row {row + 2}: unknown label {unknown[0]!r}; the labels are {', '.join(order)}. "
                "Fix the table, or add the label to `labels`."
            )
    if not order:
        raise StudyError(
            f"{where} names no finding in any row. Name the column with `findings`, and what separates two findings "
            "with `separator`."
        )
    matrix = np.array([[float(label in names) if names else np.nan for label in order] for names in named])
    return pd.DataFrame(matrix[codes], columns=order, index=cells.index)
