"""How every figure of cxrfeat looks, and how it is saved: PNG and SVG for print, its data as CSV beside it.

Figures are `matplotlib.figure.Figure` objects drawn by Agg; nothing here touches pyplot or any other global state, so
that figures can be drawn from threads and inside another program's session.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from cxrfeat import _files as files

COLUMN, PAGE = 3.5, 7.0
"""Widths of a figure in inches: one column of a paper, and both."""
ACROSS = 5
"""Small panels side by side on a page."""

# After Okabe and Ito (2008), darkened to be seen on white; the same as --c0 to --c6 in templates/report.css.
COLOURS = ("#0072B2", "#C04F00", "#007A5A", "#B0558F", "#6A4FC4", "#8F6400", "#111111")
LINES: tuple[str | tuple[int, tuple[float, ...]], ...] = ("-", (0, (4, 1.4)), (0, (1, 1.1)))

RC: Any = {
    "font.size": 8.0,
    "font.family": "DejaVu Sans",
    "axes.titlesize": 8.5,
    "axes.labelsize": 8.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "xtick.labelsize": 7.0,
    "ytick.labelsize": 7.0,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "legend.fontsize": 6.6,
    "legend.frameon": False,
    "lines.linewidth": 1.25,
    "svg.fonttype": "none",
    "svg.hashsalt": "cxrfeat",
    "pdf.fonttype": 42,
}
RANDOM = "random weights: not a result"
FORMATS = ("png", "svg")
_KINDS = {"png": (b"\x89PNG", "Software"), "svg": (b"<?xml", "Date"), "pdf": (b"%PDF", "CreationDate")}
"""What a picture begins with, and the entry that would tell when or by what it was made."""


class Shown(Figure):
    """A matplotlib figure that shows itself in a notebook."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        with mpl.rc_context(RC):
            self.savefig(buffer, format="png", dpi=110, bbox_inches=_drawn(self).padded(0.06) if self.axes else None)
        return buffer.getvalue()


class Drawing(Shown):
    """A figure that has the numbers drawn in it as `data`."""

    data: pd.DataFrame

    def save(self, path: str | Path, overwrite: bool | None = None) -> list[Path]:
        """Write PNG and SVG, and `data` as CSV, beside each other; an ending such as `.pdf` adds that format.

        An earlier picture is replaced, and an earlier CSV of the same columns; a file of another kind, such as a study
        of that name, with `overwrite` only.
        """
        path = Path(path)
        ending = path.suffix.lstrip(".").lower()
        known = ending in self.canvas.get_supported_filetypes()
        stem = path.with_suffix("") if known else path
        kinds = dict.fromkeys((ending, *FORMATS) if known else FORMATS)
        pictures = {kind: stem.with_name(f"{stem.name}.{kind}") for kind in kinds}
        table = stem.with_name(f"{stem.name}.csv")
        text = files.csv_for(table, self.data, overwrite=overwrite)
        for kind, target in pictures.items():
            begins = _KINDS[kind][0] if kind in _KINDS else b""
            files.check_output(target, suffixes=[f".{kind}"], begins=begins, overwrite=overwrite)
        with mpl.rc_context(RC):
            frame = _drawn(self).padded(0.06)
            for kind, target in pictures.items():
                # No date and no version in the file: the same data give the same bytes.
                metadata = {_KINDS[kind][1]: None} if kind in _KINDS else None
                with files.atomic_path(target) as part:
                    self.savefig(part, format=kind, metadata=metadata, bbox_inches=frame)
        return [*pictures.values(), files.write_atomically(table, text)]


def line_style(index: int) -> dict:
    """Colour and dash of the curve with this index: the first 21 all differ, neighbours in colour and then in dash."""
    return {"color": COLOURS[index % len(COLOURS)], "linestyle": LINES[index // len(COLOURS) % len(LINES)]}


def new_figure(
    width: float, height: float, rows: int = 1, columns: int = 1, layout: Any = "constrained"
) -> tuple[Drawing, list[Axes]]:
    """Return an empty figure of this size in inches and its axes, row by row."""
    with mpl.rc_context(RC):
        figure = Drawing(figsize=(width, height), dpi=200, layout=layout)
        FigureCanvasAgg(figure)
        axes = figure.subplots(rows, columns, squeeze=False)
    return figure, list(axes.ravel())


def panels(count: int, page: float = PAGE) -> tuple[Drawing, list[Axes]]:
    """Return a figure of small square axes that share their scales, one for each of `count`; `page` inches wide."""
    columns = min(max(round(ACROSS * page / PAGE), 2), count)
    rows = -(-count // columns)
    side, room = min(PAGE / ACROSS, page / columns), (0.45, 0.5)  # inches; room for the scales on the left and below
    width, height = side * columns + room[0], rows * (side + 0.2) + room[1]
    # All panels are alike, so that the layout is known; finding it would take longer than drawing.
    figure, axes = new_figure(width, height, rows, columns, layout=None)
    figure.subplots_adjust(
        left=room[0] / width, bottom=room[1] / height, right=1, top=1 - 0.3 / height, wspace=0.14, hspace=0.36
    )
    for extra in axes[count:]:
        extra.remove()
    for k, one in enumerate(axes[:count]):
        # Scales are written once a column and once a row: at this size the numbers would fill the page.
        one.tick_params(labelleft=k % columns == 0, labelbottom=k + columns >= count, labelsize=6)
    return figure, axes[:count]


def panel_title(axes: Axes, label: str, note: str) -> None:
    """Write a label's name above a small axes, and a few numbers under the name."""
    axes.set_title(f"{pretty(label)}\n{note}", fontsize=6.6, linespacing=1.2, pad=3)


def outer_labels(figure: Figure, across: str, up: str) -> None:
    """Name the two directions once for all small axes."""
    width, height = (float(x) for x in figure.get_size_inches())
    bottom = figure.subplotpars.bottom
    figure.text(0.5, bottom - 0.22 / height, across, ha="center", va="top", fontsize=8)
    figure.text(0.06 / width, (1 + bottom) / 2, up, ha="right", va="center", rotation=90, fontsize=8)


def pretty(label: str) -> str:
    """Return a label as it is written in a figure."""
    return label.replace("_", " ")


def legend_below(figure: Figure, handles: Sequence, names: Sequence[str], title: str = "", columns: int = 2) -> None:
    """Put a legend under all that is drawn, where it covers nothing, as `annotate` does with its lines."""
    with mpl.rc_context(RC):
        bottom = (_drawn(figure).y0 - 0.04) / float(figure.get_size_inches()[1])
        # Anchored to transFigure and not to the figure's box, which savefig moves when it widens the picture.
        figure.legend(
            handles, names, loc="upper center", bbox_to_anchor=(0.5, bottom), bbox_transform=figure.transFigure,
            ncols=columns, title=title or None, title_fontsize=7.5, columnspacing=1.4, handlelength=2.6,
            borderaxespad=0.0,
        )  # fmt: skip


def annotate(figure: Drawing, title: str, caption: str, random: bool, data: pd.DataFrame) -> Drawing:
    """Write the title above, what the figure was computed from below, and the stamp where weights were random.

    Both stand outside of all that is drawn, which is measured first, and `save` widens the picture to hold them:
    whatever the layout does inside, nothing can run into them. Call it last: the figure is complete, with its `data`.
    """
    width, height = (float(x) for x in figure.get_size_inches())
    with mpl.rc_context(RC):
        drawn = _drawn(figure)
        top, bottom = drawn.y1 + 0.06, drawn.y0 - 0.08
        look: dict[str, Any] = {"ha": "center", "va": "bottom"}
        if random:
            box = {"facecolor": "#B03A00", "edgecolor": "none", "boxstyle": "round,pad=0.3"}
            stamp = look | {"fontsize": 7.0, "color": "white", "weight": "bold", "bbox": box}
            figure.text(0.5, (top + 0.02) / height, RANDOM, **stamp)
            top += 0.22
        figure.text(0.5, top / height, wrapped(title, width, 9.0), fontsize=9.0, **look)
        text = wrapped(caption, width, 6.0)
        figure.text(0.5, bottom / height, text, ha="center", va="top", fontsize=6.0, color="0.3", linespacing=1.3)
    figure.data = data
    return figure


def _drawn(figure: Figure) -> Bbox:
    """Measure what is drawn, in inches, and keep the layout as it is from here on."""
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
        figure.set_layout_engine("none")
    return figure.get_tightbbox()


def wrapped(text: str, width: float, size: float) -> str:
    """Break lines so that text of this size (points) fits a figure of this width (inches)."""
    # 0.58 em is the mean width of a DejaVu letter, a little rounded up.
    return "\n".join(textwrap.wrap(text, max(20, int(width * 72 / (size * 0.58))), break_on_hyphens=False))
