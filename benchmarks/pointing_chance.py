"""What knowing nothing scores in the pointing game on the full list of boxes, under each rule one might play by.

A random map is uniform noise on the map's grid: its maximum is each cell with the same probability, so that its score
is counted exactly, cell by cell; one row plays it with the library's own random maps. Where any box of an image counts,
a cell hits if it hits one of them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import harness
import numpy as np
import pandas as pd

from cxrfeat._datasets.boxes import read_boxes
from cxrfeat._datasets.nih import SIDE
from cxrfeat._explain import scoring
from cxrfeat._explain.detection import NAMES, score
from cxrfeat._explain.geometry import compose, grid_to_input
from cxrfeat._images import prepare

SIZE, GRID, FRAME = 224, 7, 256


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--boxes", type=Path, default=harness.DATA / "nih-tables", help="folder of BBox_List_2017.csv")
    boxes = read_boxes(options.parse_args().boxes)
    step, first = (float(v) for v in _cells((SIDE, SIDE))[0, [0, 2]])
    at = first + step * np.arange(GRID) + 0.5  # as the boxes are: the first pixel's outer edge is 0
    half = step / 2
    rows = [
        _row(boxes, "random map: its cell's centre lies in the box (as localize plays it)", _random(boxes, at, 0)),
        _row(boxes, "the same, played with the library's random maps", _played(boxes)),
        _row(boxes, "random map, centre within 15 px of the 1024 px original (--tolerance 15)", _random(boxes, at, 15)),
        _row(boxes, "random map, centre within 15 px of the 224 px input", _random(boxes, at, 15 * SIDE / SIZE)),
        _row(boxes, f"random map: its cell touches the box (--tolerance {half:.0f})", _random(boxes, at, half)),
        _row(
            boxes,
            "the middle of the image, always (centre prior)",
            _inside(boxes, np.array([SIDE / 2]), np.array([SIDE / 2])),
        ),
        _row(boxes, "mean box of the label, of other patients", _mean_box(boxes)),
    ]
    claim = "what a map must beat is measured under the same rule as the map"
    notes = (
        f"{len(boxes)} boxes of ChestX-ray14, DenseNet121 at {SIZE} px ({GRID}x{GRID} cells). Per image: a hit in any "
    )
    notes += "box of the image counts."
    harness.save("pointing_chance", claim, rows, notes)


def _cells(shape: tuple[int, int]) -> np.ndarray:
    return compose(prepare.View(np.zeros(shape, np.uint8), SIZE).geometry_of(), grid_to_input("densenet121"))


def _inside(boxes: pd.DataFrame, x: np.ndarray, y: np.ndarray, tolerance: float = 0.0) -> np.ndarray:
    """Which points hit which box, bool (boxes, points)."""
    left, top = boxes["x"].to_numpy()[:, None], boxes["y"].to_numpy()[:, None]
    right, bottom = left + boxes["width"].to_numpy()[:, None], top + boxes["height"].to_numpy()[:, None]
    across = (x >= left - tolerance) & (x <= right + tolerance)
    return across & (y >= top - tolerance) & (y <= bottom + tolerance)


def _random(boxes: pd.DataFrame, at: np.ndarray, tolerance: float) -> np.ndarray:
    """Every cell's centre, each as likely as the others."""
    x, y = (grid.ravel() for grid in np.meshgrid(at, at))
    return _inside(boxes, x, y, tolerance)


def _played(boxes: pd.DataFrame) -> np.ndarray:
    affine, scale = _cells((FRAME, FRAME)), FRAME / SIDE
    hits = []
    for image_id, box in zip(boxes["image_id"], boxes[["x", "y", "width", "height"]].to_numpy() * scale, strict=True):
        drawn = scoring.random_maps((GRID, GRID), affine, (FRAME, FRAME), scoring.image_seed(image_id, 0))
        scores = [score(heat, [tuple(box)], 0.5, point=point) for heat, point in drawn]
        hits.append([found[0, NAMES.index("pointing")] > 0 for found in scores])
    return np.array(hits)


def _mean_box(boxes: pd.DataFrame) -> np.ndarray:
    fractions, hits = scoring.fractions(boxes), []
    for k, (label, patient) in enumerate(zip(boxes["label"], boxes["patient_id"], strict=True)):
        others = (boxes["label"] == label) & (boxes["patient_id"] != patient)
        heat = scoring.mean_box(fractions[others.to_numpy()], (FRAME, FRAME))
        hits.append([score(heat, [tuple(fractions[k] * FRAME)], 0.5)[0, NAMES.index("pointing")] > 0])
    return np.array(hits)


def _row(boxes: pd.DataFrame, rule: str, hits: np.ndarray) -> dict:
    """Means of hits, bool (boxes, points): over boxes, over labels' means, and over images where any box counts."""
    scores = pd.Series(hits.mean(axis=1), index=boxes.index)
    return {
        "rule": rule,
        "over boxes": round(float(scores.mean()), 3),
        "mean over labels": round(float(scores.groupby(boxes["label"]).mean().mean()), 3),
        "over images": round(
            float(pd.DataFrame(hits).groupby(boxes["image_id"].to_numpy()).any().mean(axis=1).mean()), 3
        ),
    }


if __name__ == "__main__":
    main()
