"""Scores of every box of a split: the map's, and those of what a map must beat.

A map that finds something must find more than a random map, a blob in the middle of the image, and the place where
the finding usually is. Every kind of map is scored on the same boxes.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxrfeat._explain.detection import NAMES, Floats, Point, score, summit
from cxrfeat._explain.explainer import Explainer, Failure
from cxrfeat._explain.explanation import Explanation
from cxrfeat._explain.geometry import Affine, compose, grid_to_input, on_pixels, resized
from cxrfeat._explain.targets import Target, of_study
from cxrfeat._images.prepare import View
from cxrfeat._progress import Progress, silent
from cxrfeat._recipe import Recipe
from cxrfeat._run import Run

KINDS = ("map", "random map", "centre prior", "mean box")
"""What is scored: the map, and what it must beat."""

FRAME = 512
"""Longer side of the frame that maps are scored in, pixels."""

DRAWS = 10
"""Random maps per image; their scores are averaged, so that the baseline's own noise is small."""

SPREAD = 0.25
"""Standard deviation of the centre prior, as a fraction of the image's side."""


Drawn = tuple[Floats, Point | None]
"""A map on the frame's pixels, float64 (h, w), and where it points, if its grid says so."""


@dataclass(frozen=True)
class Found:
    """The scores of every box: one row per box and kind of map.

    How many boxes of labels that the head does not have, and how many others, were left out; which images failed; how
    many maps are empty; and how many boxes borrow the mean box of all labels, since no other patient has one of theirs.
    """

    rows: pd.DataFrame
    unknown: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    empty: int = 0
    borrowed: int = 0


def score_split(
    run: Run,
    boxes: pd.DataFrame,
    explainer: Explainer,
    split: str,
    cuts: Sequence[float],
    tolerance: float = 0.0,
    seed: int = 0,
    progress: Progress = silent,
    baseline: bool = True,
) -> dict[float, Found]:
    """Score the boxed images of a split at every cut; see `localize`."""
    study = run.study()
    patients = dict(zip(study.ids, study.patients, strict=True))
    chosen, unknown, left_out = choose_boxed(run, boxes, split)
    across = boxes.groupby("image_id")["frame_width"].max()
    tables: dict[float, list[pd.DataFrame]] = {c: [] for c in cuts}
    failed: dict[str, str] = {}
    empty = borrowed = 0
    for done, result in enumerate(explainer.explain(chosen), start=1):
        if isinstance(result, Failure):
            failed[result.target.image_id] = str(result.error)
            continue
        patient, frame = patients[result.image_id], _frame(result)
        affine = compose(resized(result.image_shape, frame), result.to_image)
        maps = result.maps
        for label in dict.fromkeys(box[0] for box in result.boxes):
            cells = maps[result.index(label)]
            here = [(x, y, w, h) for name, x, y, w, h in result.boxes if name == label]
            if np.isnan(cells).any():
                reason = "the head has not learnt the label"
                left_out[reason] = left_out.get(reason, 0) + len(here)
                continue
            drawn: dict[str, list[Drawn]] = {KINDS[0]: [(result.on_copy(cells, frame), summit(cells, affine))]}
            if baseline:
                rows = boxes[boxes["patient_id"] != patient]
                same = rows[rows["label"] == label]
                drawn |= _baselines(result, affine, frame, rows if same.empty else same, seed)
                borrowed += len(here) if same.empty else 0
            empty += not cells.max() > 0
            forgiven = tolerance * frame[1] / across[result.image_id]
            fx, fy = frame[1] / result.image_shape[1], frame[0] / result.image_shape[0]
            framed = [(x * fx, y * fy, w * fx, h * fy) for x, y, w, h in here]
            for c, (kind, several) in itertools.product(cuts, drawn.items()):
                # Random maps are averaged.
                values = np.mean([score(heat, framed, c, forgiven, point) for heat, point in several], axis=0)
                # A map's false boxes are counted once, however many boxes of its label the image has.
                values[1:, NAMES.index("false boxes")] = np.nan
                table = pd.DataFrame(values, columns=list(NAMES))
                tables[c].append(table.assign(image_id=result.image_id, patient_id=patient, label=label, kind=kind))
        progress(done, len(chosen), result.image_id)
    none = pd.DataFrame(columns=["image_id", "patient_id", "label", "kind", *NAMES])
    return {
        c: Found(pd.concat(t, ignore_index=True) if t else none, unknown, left_out, failed, empty, borrowed)
        for c, t in tables.items()
    }


def choose_boxed(run: Run, boxes: pd.DataFrame, split: str) -> tuple[list[Target], dict[str, int], dict[str, int]]:
    """Targets with a box of a label that the head knows, the boxes of other labels, and those of other images."""
    known = boxes["label"].isin(run.labels)
    targets = [t for t in of_study(run, split, boxes[known]) if t.boxes]
    there = boxes["image_id"].isin([t.image_id for t in targets])
    unknown = {str(label): int(n) for label, n in boxes["label"][~known].value_counts().items()}
    elsewhere = int((known & ~there).sum())
    return targets, unknown, {f"image is not in split {split!r} of the run's study": elsewhere} if elsewhere else {}


def resolution(run: Run, boxes: pd.DataFrame) -> str:
    """One sentence on what the map's grid cannot show."""
    recipe = run.recipes[0]
    stride = float(grid_to_input(recipe.backbone)[0, 0])
    across, down = boxes["frame_width"], boxes["frame_height"]
    cells = {frame: _cell(recipe, stride, *frame) for frame in {*zip(across, down, strict=True)}}
    sides = np.array([cells[frame] for frame in zip(across, down, strict=True)]).reshape(-1, 2)
    small = (boxes["width"] < sides[:, 0]) & (boxes["height"] < sides[:, 1])
    label = ""
    if small.any():
        worst = str(small.groupby(boxes["label"]).mean().idxmax())
        mine = boxes["label"] == worst
        label = f", with {int((small & mine).sum())} of {int(mine.sum())} of {worst} among them"
    w, h = float(across.median()), float(down.median())
    cell = _cell(recipe, stride, w, h)
    return (
        f"One cell of the map covers {cell[0]:.0f}x{cell[1]:.0f} pixels of a {w:.0f}x{h:.0f} original (input "
        f"{recipe.size} px, stride {stride:.0f}): {int(small.sum())} of the list's {len(boxes)} boxes are smaller than "
        f"one cell{label}, and no map on this grid can outline them."
    )


def _cell(recipe: Recipe, stride: float, width: float, height: float) -> tuple[float, float]:
    """Width and height of a map's cell in pixels of an original of that size."""
    film = np.broadcast_to(np.uint8(0), (round(height), round(width)))
    affine = View.of(film, recipe).geometry_of()
    return stride * float(affine[0, 0]), stride * float(affine[1, 1])


def random_maps(grid: tuple[int, int], affine: Affine, shape: tuple[int, int], seed: Sequence[int]) -> list[Drawn]:
    """Maps of independent uniform cells on the same grid as the method's: `DRAWS` of them, and where each points."""
    cells = np.random.default_rng(list(seed)).random((DRAWS, *grid))
    return [(heat, summit(one, affine)) for heat, one in zip(on_pixels(cells, affine, shape), cells, strict=True)]


def image_seed(image_id: str, seed: int) -> tuple[int, ...]:
    """A seed of the image's own: by a hash of its whole id, since ids share their beginnings and their endings."""
    digest = hashlib.sha256(image_id.encode(errors="surrogateescape")).digest()
    return (seed, *np.frombuffer(digest, "<u4").tolist())


def centre_prior(shape: tuple[int, int]) -> Floats:
    """A Gaussian at the middle of the image, float64 (h, w)."""
    y, x = ((np.arange(side) + 0.5) / side - 0.5 for side in shape)
    return np.exp(-(y[:, None] ** 2 + x[None] ** 2) / (2 * SPREAD**2))


def mean_box(boxes: npt.NDArray[np.float64], shape: tuple[int, int]) -> Floats:
    """How often a pixel is in one of the boxes (boxes, 4), fractions of the sides, float64 (h, w)."""
    y, x = ((np.arange(side) + 0.5) / side for side in shape)
    rows = (y >= boxes[:, 1:2]) & (y < boxes[:, 1:2] + boxes[:, 3:4])
    columns = (x >= boxes[:, 0:1]) & (x < boxes[:, 0:1] + boxes[:, 2:3])
    return rows.astype(np.float64).T @ columns.astype(np.float64) / max(len(boxes), 1)


def fractions(boxes: pd.DataFrame) -> npt.NDArray[np.float64]:
    """x, y, width, height of a box table as fractions of each frame's sides, float64 (boxes, 4)."""
    sides = boxes[["frame_width", "frame_height"]].to_numpy(dtype=float)
    return boxes[["x", "y", "width", "height"]].to_numpy(dtype=float) / np.tile(sides, 2)


def _frame(result: Explanation) -> tuple[int, int]:
    h, w = result.image_shape
    factor = min(1.0, FRAME / max(h, w))
    return round(h * factor), round(w * factor)


def _baselines(
    result: Explanation, affine: Affine, frame: tuple[int, int], rows: pd.DataFrame, seed: int
) -> dict[str, list[Drawn]]:
    grid = result.grids[0].maps.shape[1], result.grids[0].maps.shape[2]
    random, unseen = random_maps(grid, affine, frame, image_seed(result.image_id, seed)), result.unseen(frame)
    for heat, _ in random:
        heat[unseen] = 0.0
    return {
        KINDS[1]: random,
        KINDS[2]: [(centre_prior(frame), None)],
        KINDS[3]: [(mean_box(fractions(rows), frame), None)],
    }
