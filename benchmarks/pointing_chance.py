"""What knowing nothing scores in the pointing game on the full list of boxes, under each rule one might play by.

A random map is uniform noise on the map's grid: its maximum is each cell with the same probability, so that its score
is counted exactly; one row plays it with the library's own random maps.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import harness
import numpy as np
import pandas as pd

from cxrfeat._datasets import read_boxes
from cxrfeat._datasets.nih import SIDE
from cxrfeat._explain import baselines
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
        _row(boxes, "the middle of the image, always (centre prior)", _inside(boxes, SIDE / 2, SIDE / 2)),
        _row(boxes, "mean box of the label, of other patients", _mean_box(boxes)),
    ]
    claim = "what a map must beat is measured under the same rule as the map"
    notes = (
        f"{len(boxes)} boxes of ChestX-ray14, DenseNet121 at {SIZE} px ({GRID}x{GRID} cells). Per image: a hit in any "
    )
    notes += "box of the image counts."
    harness.save("pointing_chance", claim, rows, notes)


def _cells(shape: tuple[int, int]) -> np.ndarray:
    return compose(prepare.geometry(shape, SIZE), grid_to_input("densenet121"))


def _inside(boxes: pd.DataFrame, x, y, tolerance: float = 0.0) -> np.ndarray:
    left, top = boxes["x"].to_numpy()[:, None], boxes["y"].to_numpy()[:, None]
    right, bottom = left + boxes["width"].to_numpy()[:, None], top + boxes["height"].to_numpy()[:, None]
    x, y = np.atleast_1d(x), np.atleast_1d(y)
    across = ((x >= left - tolerance) & (x <= right + tolerance)).mean(axis=1)
    return across * ((y >= top - tolerance) & (y <= bottom + tolerance)).mean(axis=1)


def _random(boxes: pd.DataFrame, at: np.ndarray, tolerance: float) -> np.ndarray:
    """Share of the cells, whose columns and rows are independent."""
    return _inside(boxes, at, at, tolerance)


def _played(boxes: pd.DataFrame) -> np.ndarray:
    affine, scale = _cells((FRAME, FRAME)), FRAME / SIDE
    hits = []
    for seed, box in enumerate(boxes[["x", "y", "width", "height"]].to_numpy() * scale):
        drawn = baselines.random_maps((GRID, GRID), affine, (FRAME, FRAME), seed)
        scores = [score(one.heat, [tuple(box)], 0.5, point=one.point) for one in drawn]
        hits.append(np.mean([found[0, NAMES.index("pointing")] for found in scores]))
    return np.array(hits)


def _mean_box(boxes: pd.DataFrame) -> np.ndarray:
    patients, labels = boxes["image_id"].str.partition("_")[0].to_list(), boxes["label"].to_list()
    fractions = boxes[["x", "y", "width", "height"]].to_numpy() / SIDE
    hits = []
    for k, (label, patient) in enumerate(zip(labels, patients, strict=True)):
        heat = baselines.mean_box(fractions[baselines.others(label, patient, labels, patients)], (FRAME, FRAME))
        box = tuple(fractions[k] * FRAME)
        hits.append(score(heat, [box], 0.5)[0, NAMES.index("pointing")])
    return np.array(hits)


def _row(boxes: pd.DataFrame, rule: str, hits: np.ndarray) -> dict:
    scores = pd.Series(hits, index=boxes.index)
    return {
        "rule": rule,
        "over boxes": round(float(scores.mean()), 3),
        "mean over labels": round(float(scores.groupby(boxes["label"]).mean().mean()), 3),
        "over images": round(float(scores.groupby(boxes["image_id"]).max().mean()), 3),
    }


if __name__ == "__main__":
    main()
