"""A heat map of numbers between 0.5 and 1, each written in its cell."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxrfeat._report import style


def heat(
    values: npt.NDArray[np.float64], rows: Sequence[str], columns: Sequence[str], title: str, caption: str, random: bool
) -> style.Drawing:
    """Draw values, float64 (rows, columns); NaN is a dash. Colours run from 0.5 (chance) to 1."""
    longest = max(len(name) for name in rows)
    width = min(style.PAGE, 1.2 + 0.06 * longest + 0.95 * len(columns))
    figure, (axes,) = style.new_figure(width, 0.7 + 0.24 * len(rows))
    axes.imshow(values, cmap="YlGnBu", vmin=0.5, vmax=1.05, aspect="auto")
    for (y, x), value in np.ndenumerate(values):
        colour = "white" if value > 0.85 else "black"
        axes.text(x, y, "-" if np.isnan(value) else f"{value:.3f}", ha="center", va="center", fontsize=7, color=colour)
    axes.set_xticks(range(len(columns)), [style.wrapped(name, 1.3, 7.0) for name in columns])
    axes.set_yticks(range(len(rows)), [style.pretty(name) for name in rows])
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.axvline(0.5, color="white", linewidth=3)
    if rows[-1] == "macro":
        axes.axhline(len(rows) - 1.5, color="white", linewidth=3)
    for side in axes.spines.values():
        side.set_visible(False)
    style.annotate(figure, title, caption, random)
    data = pd.DataFrame(values, columns=list(columns))
    data.insert(0, "row", list(rows))
    return figure.having(data)
