"""Every figure of numbers, by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxrfeat._report import bars, curves, style
from cxrfeat._report.style import Drawing
from cxrfeat.errors import EvaluationError

if TYPE_CHECKING:
    from cxrfeat._evaluate import Evaluation


def kinds(evaluation: Evaluation) -> list[str]:
    """Return the figures that an evaluation and its run have the numbers for."""
    found = ["labels", *evaluation.CURVES, "confusion"]
    return [*found, "loss"] if evaluation.run and (evaluation.run.path / "history.csv").is_file() else found


def draw(evaluation: Evaluation, kind: str) -> Drawing:
    """Draw one of `kinds`."""
    if kind == "labels":
        return bars.labels(evaluation)
    if kind == "confusion":
        return bars.confusion(evaluation.scored, evaluation.confusions())
    if kind == "loss" and evaluation.run:
        return curves.loss(evaluation.run)
    if kind not in evaluation.CURVES:
        raise EvaluationError(f"unknown figure {kind!r}; choose one of {', '.join(kinds(evaluation))}.")
    return curves.draw(evaluation.curves(kind))


def side_by_side(
    pictures: Sequence[npt.NDArray[np.uint8]], names: Sequence[str], title: str, caption: str
) -> style.Drawing:
    """Draw pictures, uint8 (h, w), with a name above each."""
    width = min(style.PAGE, 2.4 * len(pictures))
    figure, panels = style.new_figure(width, width / len(pictures) + 0.25, columns=len(pictures))
    for picture, name, axes in zip(pictures, names, panels, strict=True):
        axes.imshow(picture, cmap="gray", vmin=0, vmax=255)
        axes.set_axis_off()
        axes.set_title(name, fontsize=7.5)
    # A rendering is the same whatever weights come after it, so that there is nothing to stamp.
    style.annotate(figure, title, caption, random=False)
    means = pd.DataFrame({"rendering": list(names), "mean_grey": [float(picture.mean()) for picture in pictures]})
    return figure.having(means)
