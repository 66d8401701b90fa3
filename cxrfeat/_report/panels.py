"""Pictures of explanations: the X-ray beside its maps, as in the reference paper's figures 7 and 8.

The X-ray stays grey and readable: a map is laid on it in one colour ramp whose opacity grows with the evidence, so
that no evidence is no colour. The colour bar gives raw values, and an empty map says that it is empty. Where a head
joins several backbones, the mean of their maps comes first and each one's own below it, all on the same scale.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cxrfeat._report.canvas import DPI, Canvas, resized
from cxrfeat._report.heat import Per, Scaled, heat, overlaid, ramp, scale
from cxrfeat._report.style import RANDOM, pretty, wrapped
from cxrfeat.errors import ExplainError

if TYPE_CHECKING:
    from cxrfeat._explain.explanation import Explanation, Grid

SIDE = 512
"""Longer side of an X-ray in the HTML report, pixels; more does not show."""
WIDTH, GAP, MARGIN = 2.75, 0.14, 0.07
"""Inches: a column, between two of them, at the page's edge."""
HEAD, FOOT = 0.42, 0.34
"""Inches above a picture for its title, and below it for its colour bar."""
SLIMMEST, TALLEST = 0.4, 2.0
"""Height of a picture by its width: a taller one is drawn narrower, a flatter one with room below."""
BOX_COLOUR, QUIET = "#35e0ff", "#444444"


@dataclass(frozen=True)
class Layer:
    """Maps to draw in one row, and their grid: of one backbone, or the mean over all (`name` is empty)."""

    name: str
    scaled: Scaled
    grid: Grid


def page(explanations: Sequence[Explanation], labels: Sequence[str] = (), top: int = 4, per: Per = "image") -> Canvas:
    """Draw one row per image, the X-ray first and then its maps of `labels`, by default its `top` most probable.

    Their pixels are read again from their files where they are not in memory.
    """
    if not explanations:
        raise ExplainError("no image was explained, so there is nothing to draw.")
    chosen = [tuple(labels) or e.foremost(top) for e in explanations]
    columns = 1 + max(map(len, chosen))
    if columns == 1:
        raise ExplainError("the head gives no probability, so there is no map to draw.")
    layers = [layers_of(e, names, per) for e, names in zip(explanations, chosen, strict=True)]
    width = columns * (WIDTH + GAP) - GAP + 2 * MARGIN
    random = any(e.random for e in explanations)
    above = MARGIN + 0.28 * random
    footer = wrapped(_footer(explanations, per), width, 7.5)
    below = 0.16 * (footer.count("\n") + 1) + 0.14
    heights = [_height(e) for e in explanations]
    height = above + below + sum(len(rows) * (HEAD + h + FOOT) for rows, h in zip(layers, heights, strict=True))
    canvas = Canvas(width, height)
    if random:
        canvas.text(width / 2, above - 0.2, RANDOM, 8, "center", colour="white", bold=True, behind="#B03A00")
    y = above
    for explanation, names, rows, tall in zip(explanations, chosen, layers, heights, strict=True):
        _image(canvas, y, tall, explanation, names, rows)
        y += len(rows) * (HEAD + tall + FOOT)
    canvas.text(MARGIN, height - 0.08, footer, 7.5, va="bottom", colour=QUIET)
    return canvas


def layers_of(explanation: Explanation, labels: Sequence[str], per: Per) -> list[Layer]:
    """The rows of one image: the maps of the head, and below them each backbone's own where it has several."""
    at = [explanation.index(label) for label in labels]
    several = explanation.grids if len(explanation.grids) > 1 else ()
    rows = [("", explanation.maps[at], explanation.grids[0])]
    rows += [(grid.backbone, grid.maps[at].astype(np.float64), grid) for grid in several]
    hottest = max(float(np.nan_to_num(maps, nan=0.0).max()) for _, maps, _ in rows)
    return [Layer(name, scale(maps, per, hottest), grid) for name, maps, grid in rows]


def _height(explanation: Explanation) -> float:
    """Inches that are kept for a picture."""
    return WIDTH * float(np.clip(explanation.image_shape[0] / explanation.image_shape[1], SLIMMEST, TALLEST))


def _image(
    canvas: Canvas, y: float, tall: float, explanation: Explanation, labels: Sequence[str], rows: Sequence[Layer]
) -> None:
    h, w = explanation.image_shape
    grey, x = resized(explanation.pixels(), min(WIDTH / w, tall / h) * DPI), MARGIN
    _name(canvas, x, y, _short(explanation.image_id), explanation.note or truth(explanation))
    _picture(canvas, x, y, grey, explanation, [box[0] for box in explanation.boxes], named=True)
    for number, layer in enumerate(rows):
        top = y + number * (HEAD + tall + FOOT)
        if layer.name:
            canvas.text(x + WIDTH / 2, top + HEAD + 0.1, layer.name, 9, "center", bold=True)
            canvas.text(x + WIDTH / 2, top + HEAD + 0.28, "its own maps", 7.5, "center", colour=QUIET)
        for k, label in enumerate(labels):
            left = x + (k + 1) * (WIDTH + GAP)
            _name(canvas, left, top, *heading(explanation, label, layer, k))
            rgba = heat(explanation, layer.scaled.maps[k], (grey.shape[0], grey.shape[1]), layer.grid)
            lit = overlaid(grey, rgba)
            _picture(canvas, left, top, lit, explanation, [label], named=False)
            _colour_bar(canvas, left, top + HEAD + grey.shape[0] / DPI + 0.06, layer.scaled, k, _unit(explanation))


def reduced(explanation: Explanation) -> npt.NDArray[np.uint8]:
    """The image with its longer side at most `SIDE` pixels, uint8 (h, w)."""
    grey = explanation.pixels()
    return resized(grey, min(SIDE / max(grey.shape), 1.0))


def _picture(
    canvas: Canvas,
    x: float,
    y: float,
    picture: npt.NDArray[np.uint8],
    explanation: Explanation,
    labels: Sequence[str],
    named: bool,
) -> None:
    """One picture under its title, in the middle of its column, with the boxes of these labels."""
    h, w = picture.shape[0] / DPI, picture.shape[1] / DPI
    left, top = x + (WIDTH - w) / 2, y + HEAD
    canvas.picture(left, top, picture)
    fy, fx = h / explanation.image_shape[0], w / explanation.image_shape[1]
    for label, bx, by, width, height in explanation.boxes:
        if label in labels:
            canvas.rectangle(left + bx * fx, top + by * fy, width * fx, height * fy, BOX_COLOUR)
            if named:
                # Above the box, or below its upper edge where there is no picture above it.
                room = by * fy > 0.16
                at = top + by * fy + (-0.04 if room else 0.04)
                canvas.text(
                    left + bx * fx + 0.03, at, pretty(label), 7, va="bottom" if room else "top", colour=BOX_COLOUR
                )


def _unit(explanation: Explanation) -> str:
    # The closed form of one backbone averages to the logit; other maps have no unit of their own.
    return "evidence (logit)" if explanation.method == "cam" and len(explanation.grids) == 1 else "evidence"


def heading(explanation: Explanation, label: str, layer: Layer, k: int) -> tuple[str, str]:
    """`Name: p=0.763`, and below it what is known and the raw maximum; of one backbone of several, the maximum."""
    p = explanation.probabilities[explanation.index(label)]
    name = f"{pretty(label)}: " + (f"p={p:.3f}" if math.isfinite(p) else "not learnt")
    known = known_of(explanation, label)
    raw = "no positive evidence" if layer.scaled.empty[k] else f"max {number(layer.scaled.raw_max[k])}"
    if layer.name:
        return f"{pretty(label)}, {layer.name}", raw
    return name, f"{known}, {'mean map, ' if len(explanation.grids) > 1 else ''}{raw}"


def known_of(explanation: Explanation, label: str) -> str:
    """What an image is labelled with regarding one label."""
    return {1.0: "labelled present", 0.0: "labelled absent"}.get(explanation.truth.get(label, 0.5), "label unknown")


def _colour_bar(canvas: Canvas, x: float, y: float, scaled: Scaled, k: int, unit: str) -> None:
    if scaled.top[k] <= 0:
        return
    bar = 0.09
    canvas.picture(x, y, np.repeat(ramp(round(WIDTH * DPI))[None], round(bar * DPI), axis=0))
    own = x + WIDTH * max(float(scaled.raw_max[k]), 0.0) / float(scaled.top[k])
    canvas.rectangle(own - 0.01, y - 0.03, 0.02, bar + 0.06, "#222222", filled=True)
    words = (("left", x, "0"), ("center", x + WIDTH / 2, unit), ("right", x + WIDTH, number(scaled.top[k])))
    for ha, at, said in words:
        canvas.text(at, y + bar + 0.03, said, 6.5, ha)


def number(value: float) -> str:
    """Return a raw maximum as a picture has it."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _name(canvas: Canvas, x: float, y: float, name: str, below: str) -> None:
    canvas.text(x + WIDTH / 2, y + 0.24, name, 10.5, "center", "baseline", bold=True)
    size = 7.5 if len(below) <= 46 else 7.5 * 46 / len(below)
    canvas.text(x + WIDTH / 2, y + HEAD - 0.05, below, size, "center", "baseline", QUIET)


def truth(explanation: Explanation) -> str:
    """What the image is labelled with."""
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
        f"{first.about}; maps of the {first.of} by {first.method} on a {gw}x{gh} grid{smooth}, positive part, one "
        f"colour scale per {per}; the mark on a bar is the map's own maximum. {empty} of {total} maps have no "
        f"positive cell.{boxes} Not a medical device."
    )
