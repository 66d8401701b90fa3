"""Pictures of explanations: the X-ray beside its maps, as in the reference paper's figures 7 and 8.

The X-ray stays grey and readable: a map is laid on it in one colour ramp whose opacity grows with the evidence, so
that no evidence is no colour. The colour bar gives raw values, and an empty map says that it is empty.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt

from cxrfeat import files
from cxrfeat.errors import ExplainError
from cxrfeat.explain.explanation import Explanation
from cxrfeat.explain.scale import Per, Scaled, scale
from cxrfeat.report.style import RANDOM, pretty

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIDE = 512
"""Longer side of an X-ray in a panel, pixels; more does not show in print."""
OPACITY = 0.7
WIDTH, BETWEEN = 2.75, 0.82
"""Inches: a column, and what stands between two rows of pictures (colour bar, title)."""
COLOURS = "inferno"
BOX_COLOUR = "#35e0ff"


def draw(
    explanations: Sequence[Explanation],
    path: str | Path,
    labels: Sequence[str] = (),
    top: int = 4,
    per: Per = "image",
    title: str = "",
) -> Path:
    """Draw one row per image, the X-ray first and then its maps, and save it as PNG (or what the ending says).

    Parameters
    ----------
    explanations : sequence of Explanation
        With their pixels.
    path : str or Path
        Where to.
    labels : sequence of str
        The labels to draw; by default each image's `top` most probable ones.
    top : int
        How many.
    per : {"image", "label"}
        One colour scale for all maps of an image, or one for each map.
    title : str
        Above everything.

    Raises
    ------
    ExplainError
        If there is nothing to draw.
    """
    if not explanations:
        raise ExplainError("there is no explanation to draw.")
    chosen = [tuple(labels) or e.foremost(top) for e in explanations]
    if not max(map(len, chosen)):
        raise ExplainError("the head gives no probability, so there is no map to draw.")
    figure = _figure(explanations, chosen, per, title)
    with files.atomic_path(path) as part:
        figure.savefig(part, dpi=110)
    return Path(path)


def _figure(explanations: Sequence[Explanation], chosen: Sequence[Sequence[str]], per: Per, title: str) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as NewFigure

    columns = 1 + max(map(len, chosen))
    heights = [WIDTH * float(np.clip(e.image_shape[0] / e.image_shape[1], 0.4, 2.0)) for e in explanations]
    random = any(e.random for e in explanations)
    top, bottom = (0.42 if title else 0.08) + 0.3 * random, 0.62
    height = sum(heights) + BETWEEN * len(heights) + top + bottom
    figure = NewFigure(figsize=(WIDTH * columns + 0.15, height))
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        len(explanations),
        columns,
        left=0.008,
        right=0.992,
        top=1 - (top + 0.42) / height,
        bottom=bottom / height,
        wspace=0.06,
        hspace=BETWEEN / float(np.mean(heights)),
        height_ratios=heights,
    )
    for row, (explanation, labels) in enumerate(zip(explanations, chosen, strict=True)):
        _row(figure, [grid[row, column] for column in range(columns)], explanation, labels, per)
    if title:
        figure.text(0.5, 1 - 0.1 / height, title, ha="center", va="top", fontsize=13, weight="bold")
    if random:
        at = 1 - (top - 0.3) / height
        box = {"facecolor": "#B03A00", "edgecolor": "none", "boxstyle": "round,pad=0.3"}
        figure.text(0.5, at, RANDOM, ha="center", va="top", fontsize=8, color="white", weight="bold", bbox=box)
    figure.text(0.008, 0.1 / height, _footer(explanations, per), ha="left", va="bottom", fontsize=7.5, color="#444444")
    return figure


def _row(figure: Figure, cells: Sequence[Any], explanation: Explanation, labels: Sequence[str], per: Per) -> None:
    grey = reduced(explanation)
    maps = np.stack([explanation.maps[explanation.index(label)] for label in labels])
    scaled = scale(maps, per)
    axes = figure.add_subplot(cells[0])
    _show(axes, explanation, grey)
    _name(axes, _short(explanation.image_id), explanation.note or truth(explanation))
    _draw_boxes(axes, explanation, grey.shape, [box[0] for box in explanation.boxes], named=True)
    for k, label in enumerate(labels):
        axes = figure.add_subplot(cells[k + 1])
        _show(axes, explanation, grey)
        _overlay(axes, explanation, scaled.maps[k], grey.shape)
        _name(axes, *_heading(explanation, label, scaled, k))
        _draw_boxes(axes, explanation, grey.shape, [label], named=False)
        _colour_bar(axes, scaled, k, _unit(explanation))


def _unit(explanation: Explanation) -> str:
    # The closed form of one backbone averages to the logit; other maps have no unit of their own.
    return "evidence (logit)" if explanation.method == "cam" and len(explanation.grids) == 1 else "evidence"


def _heading(explanation: Explanation, label: str, scaled: Scaled, k: int) -> tuple[str, str]:
    """`Name: p=0.763`, and below it what is known and the raw maximum."""
    p = explanation.probabilities[explanation.index(label)]
    name = f"{pretty(label)}: " + (f"p={p:.3f}" if math.isfinite(p) else "not learnt")
    known = {1.0: "labelled present", 0.0: "labelled absent"}.get(
        explanation.truth.get(label, math.nan), "label unknown"
    )
    raw = "no positive evidence" if scaled.empty[k] else f"max {scaled.raw_max[k]:.3g}"
    return name, f"{known}, {raw}"


def _show(axes: Axes, explanation: Explanation, grey: npt.NDArray[np.uint8]) -> None:
    axes.imshow(grey, cmap="gray", vmin=0, vmax=255, interpolation="antialiased")
    axes.set_axis_off()
    # Reserved below every image, so that the one without a colour bar is as large as the others.
    axes.set_anchor("N")


def _overlay(axes: Axes, explanation: Explanation, scaled_map: npt.NDArray[np.float64], shape: tuple[int, ...]) -> None:
    rgba = heat(explanation, scaled_map, (shape[0], shape[1]))
    rgba[..., 3] *= OPACITY
    axes.imshow(rgba, interpolation="nearest")


def heat(
    explanation: Explanation, scaled_map: npt.NDArray[np.float64], shape: tuple[int, int]
) -> npt.NDArray[np.float64]:
    """One map, scaled to [0, 1] on its grid, as colours on a copy of the image of `shape` (h, w).

    Returns
    -------
    float64 (h, w, 4)
        Red, green, blue and opacity within [0, 1]; opacity is the map itself, so that no evidence is no colour.
    """
    from matplotlib import colormaps

    from cxrfeat.explain.geometry import compose, on_pixels, resized

    on_copy = on_pixels(scaled_map, compose(resized(explanation.image_shape, shape), explanation.to_image), shape)
    rgba = np.array(colormaps[COLOURS](_ramp(on_copy)), dtype=np.float64)
    rgba[..., 3] = on_copy
    return rgba


def _ramp(heat: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    # Inferno starts black, which on a dark lung cannot be told from no colour: its lower fifth is left out.
    return 0.2 + 0.8 * heat


def _colour_bar(axes: Axes, scaled: Scaled, k: int, unit: str) -> None:
    bar = axes.inset_axes((0.0, -0.075, 1.0, 0.035))
    if scaled.top[k] <= 0:
        bar.set_axis_off()
        return
    from matplotlib import colormaps

    ramp = np.linspace(0, 1, 128)
    colours = colormaps[COLOURS](_ramp(ramp))
    # On the grey of a mid-bright lung, since that is what the colours are seen on.
    alpha = (OPACITY * ramp)[:, None]
    colours[:, :3] = alpha * colours[:, :3] + (1 - alpha) * 0.35
    bar.imshow(colours[None], aspect="auto", extent=(0, scaled.top[k], 0, 1))
    bar.set_yticks([])
    own = max(scaled.raw_max[k], 0.0)
    bar.axvline(own, color="#222222", linewidth=1.2, clip_on=False)
    bar.set_xticks([0, scaled.top[k]], labels=["0", f"{scaled.top[k]:.3g}"])
    bar.set_xlabel(unit, fontsize=6.5, labelpad=-7)
    bar.tick_params(labelsize=6.5, length=2, pad=1)
    first, last = bar.get_xticklabels()
    first.set_horizontalalignment("left")
    last.set_horizontalalignment("right")


def _draw_boxes(
    axes: Axes, explanation: Explanation, shape: tuple[int, ...], labels: Sequence[str], named: bool
) -> None:
    from matplotlib.patches import Rectangle

    fx, fy = shape[1] / explanation.image_shape[1], shape[0] / explanation.image_shape[0]
    for label, x, y, width, height in explanation.boxes:
        if label not in labels:
            continue
        corner = (x * fx - 0.5, y * fy - 0.5)
        axes.add_patch(Rectangle(corner, width * fx, height * fy, fill=False, edgecolor=BOX_COLOUR, linewidth=1.3))
        if named:
            axes.text(corner[0] + 3, corner[1] - 4, pretty(label), color=BOX_COLOUR, fontsize=7)


def _name(axes: Axes, name: str, below: str) -> None:
    axes.set_title(name, fontsize=10.5, weight="bold", pad=17)
    size = 7.5 if len(below) <= 46 else 7.5 * 46 / len(below)
    # Offset in points, so that it stands as near to a tall picture as to a wide one.
    axes.annotate(below, (0.5, 1.0), (0, 4), "axes fraction", "offset points", ha="center", va="bottom", fontsize=size,
                  color="#444444")  # fmt: skip


def truth(explanation: Explanation) -> str:
    """What the image is labelled with, in a few words."""
    if not explanation.truth:
        return "in no study"
    present = [pretty(label) for label, value in explanation.truth.items() if value == 1]
    text = "labelled " + (", ".join(present) or "with none of the findings")
    return text if len(text) <= 52 else f"labelled {present[0]} and {len(present) - 1} more"


def _short(image_id: str) -> str:
    return image_id if len(image_id) <= 30 else image_id[:14] + "…" + image_id[-15:]


def _footer(explanations: Sequence[Explanation], per: Per) -> str:
    first = explanations[0]
    gh, gw = first.grids[0].maps.shape[1:]
    smooth = f", averaged over {first.smoothed + 1} renderings" if first.smoothed else ""
    empty = sum(int(scale(e.maps).empty.sum()) for e in explanations)
    total = sum(len(e.labels) for e in explanations)
    boxes = " Boxes: radiologists'." if any(e.boxes for e in explanations) else ""
    return (
        f"{first.about}\n{first.method} on a {gw}x{gh} grid{smooth}, positive part, one colour scale per {per}; "
        f"the mark on a bar is the map's own maximum.\n{empty} of {total} maps have no positive cell."
        f"{boxes} Not a medical device."
    )


def reduced(explanation: Explanation) -> npt.NDArray[np.uint8]:
    """The image with its longer side at most `SIDE` pixels, uint8 (h, w)."""
    if explanation.grey is None:
        raise ExplainError(f"{explanation.image_id}: the explanation carries no pixels to draw on.")
    h, w = explanation.grey.shape
    factor = SIDE / max(h, w)
    if factor >= 1:
        return explanation.grey
    size = (max(round(w * factor), 1), max(round(h * factor), 1))
    return np.asarray(cv2.resize(explanation.grey, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
