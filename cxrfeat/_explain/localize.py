"""Maps scored against the radiologists' boxes, beside three baselines and with intervals over patients.

A map that finds something must find more than a random map, a blob in the middle of the image, and the place where
the finding usually is. The cut that turns a map into boxes is fixed in advance, or tuned on boxes of another split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from cxrfeat._datasets.boxes import SIDE
from cxrfeat._explain import baselines
from cxrfeat._explain.averages import summarise
from cxrfeat._explain.baselines import KINDS, Drawn
from cxrfeat._explain.detection import NAMES, score, summit
from cxrfeat._explain.explainer import Explainer, Failure
from cxrfeat._explain.explanation import Explanation
from cxrfeat._explain.geometry import STRIDE, Affine, compose, on_pixels, resized
from cxrfeat._explain.targets import Target, of_study
from cxrfeat._progress import Progress, silent
from cxrfeat._run import Run
from cxrfeat.errors import ExplainError

CUT = 0.5
"""Default cut: half the map's maximum, fixed in advance."""

CUTS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
"""What tuning chooses from."""

FRAME = 512
"""Longer side of the frame that maps are scored in, pixels."""


@dataclass(frozen=True)
class Found:
    """The scores of every box.

    Attributes
    ----------
    rows : pandas.DataFrame
        One row per box and kind of map: `image_id`, `patient_id`, `label`, `kind`, and the columns of
        `detection.NAMES`.
    unknown : dict
        Label that the head does not have -> number of its boxes; they are not scored.
    left_out : dict
        Reason -> number of other boxes that were not scored.
    failed : dict
        Image id -> the sentence why it was not scored.
    """

    rows: pd.DataFrame
    unknown: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


def localize(
    run: Run,
    boxes: pd.DataFrame,
    explainer: Explainer,
    split: str = "test",
    cut: float = CUT,
    tune_on: str | None = None,
    tolerance: float = 0.0,
    seed: int = 0,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Score the maps of a run on the boxed images of a split.

    Parameters
    ----------
    run : Run
        Its study says which images are in the split, and whose they are.
    boxes : pandas.DataFrame
        From `datasets.boxes.read`.
    explainer : Explainer
        Opened for the run.
    split : str
        Whose images are scored.
    cut : float
        Fraction of a map's maximum above which a pixel belongs to a found box.
    tune_on : str, optional
        A split whose boxes choose the cut from `CUTS`; not the one that is scored.
    tolerance : float
        Pixels of the 1024 x 1024 original by which the maximum may miss a box in the pointing game.
    seed : int
        Of the random maps and the bootstrap.
    progress : Progress
        Told after every image.

    Returns
    -------
    dict
        What was scored and how, the `note` on the grid's resolution, and `rows`: one per label and kind of map, and
        one over all boxes, each measure with its 95 % interval.

    Raises
    ------
    ExplainError
        If no box can be scored, or the cut would be tuned on what is scored.
    """
    if not 0 < cut < 1:
        raise ExplainError(f"the cut is a fraction of the map's maximum between 0 and 1, not {cut}.")
    if tune_on == split:
        raise ExplainError(f"the cut cannot be tuned on split {split!r}, which is scored; name another, such as val.")
    how = "fixed in advance"
    if tune_on:
        cut = tune(run, boxes, explainer, tune_on)
        how = f"tuned on the boxes of split {tune_on!r}"
    found = score_split(run, boxes, explainer, split, [cut], tolerance, seed, progress)[cut]
    if found.rows.empty:
        raise ExplainError(_nothing(found, f"split {split!r} of study {run.study().name!r}"))
    settings = {"split": split, "cut": cut, "cut_how": how, "tolerance": tolerance}
    return _result(run, explainer.method.name, settings, found, resolution(run, boxes), seed)


def _result(run: Run, method: str, settings: dict[str, Any], found: Found, note: str, seed: int) -> dict[str, Any]:
    maps = found.rows[found.rows["kind"] == KINDS[0]]
    return {
        "run": run.name,
        "about": run.describe(),
        "random": run.random,
        "method": method,
        **settings,
        "boxes": len(maps),
        "images": int(maps["image_id"].nunique()),
        "patients": int(maps["patient_id"].nunique()),
        "empty_maps": int(maps["energy"].isna().sum()),
        "unknown": found.unknown,
        "left_out": found.left_out,
        "failed": found.failed,
        "note": note,
        "rows": summarise(found.rows, run.labels, seed),
    }


def tune(run: Run, boxes: pd.DataFrame, explainer: Explainer, split: str) -> float:
    """The cut of `CUTS` with the most boxes found at IoU 0.1 and 0.25 together, on the boxes of a split.

    Raises
    ------
    ExplainError
        If the split has no box.
    """
    tried = score_split(run, boxes, explainer, split, CUTS, baseline=False)
    values = {c: found.rows[["iou@0.1", "iou@0.25"]].to_numpy().mean() for c, found in tried.items() if len(found.rows)}
    if not values:
        raise ExplainError(f"split {split!r} has no box to tune the cut on; fix it with --cut, as by default.")
    return max(values, key=lambda c: values[c])


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
    owners = [patients.get(i, i.partition("_")[0]) for i in boxes["image_id"]]
    chosen, unknown, left_out = choose_boxed(run, boxes, split)
    tables: dict[float, list[pd.DataFrame]] = {c: [] for c in cuts}
    failed: dict[str, str] = {}
    for done, result in enumerate(explainer.explain(chosen), start=1):
        if isinstance(result, Failure):
            failed[result.target.image_id] = str(result.error)
            continue
        patient = patients[result.image_id]
        for label in dict.fromkeys(box[0] for box in result.boxes):
            frame = _frame(result)
            affine = compose(resized(result.image_shape, frame), result.to_image)
            cells = result.maps[result.index(label)]
            drawn = {KINDS[0]: [Drawn(on_pixels(cells, affine, frame), summit(cells, affine))]}
            if baseline:
                rows = boxes[baselines.others(label, patient, boxes["label"].tolist(), owners)]
                drawn |= _baselines(result, affine, frame, rows, seed)
            for c in cuts:
                tables[c].append(_rows(result, patient, label, drawn, frame, c, tolerance))
        progress(done, len(chosen), result.image_id)
    empty = pd.DataFrame(columns=["image_id", "patient_id", "label", "kind", *NAMES])
    return {
        c: Found(pd.concat(t, ignore_index=True) if t else empty, unknown, left_out, failed) for c, t in tables.items()
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
    size = run.recipes[0].size
    cell = STRIDE / size * SIDE
    small = (boxes["width"] < cell) & (boxes["height"] < cell)
    label = ""
    if small.any():
        worst = str(small.groupby(boxes["label"]).mean().idxmax())
        mine = boxes["label"] == worst
        label = f", with {int((small & mine).sum())} of {int(mine.sum())} of {worst} among them"
    return (
        f"One cell of the map covers {cell:.0f}x{cell:.0f} pixels of the {SIDE}x{SIDE} original (input {size} px, "
        f"stride {STRIDE}): {int(small.sum())} of the list's {len(boxes)} boxes are smaller than one cell{label}, "
        "and no map on this grid can outline them."
    )


def _nothing(found: Found, where: str) -> str:
    why = [f"{count}: label {label} is not in the head" for label, count in found.unknown.items()]
    why += [f"{count}: {reason}" for reason, count in found.left_out.items()]
    failed = f" The first failure: {next(iter(found.failed.values()))}" if found.failed else ""
    return f"no box can be scored on {where} ({'; '.join(why) or 'the list is empty'}).{failed}"


def _frame(result: Explanation) -> tuple[int, int]:
    h, w = result.image_shape
    factor = min(1.0, FRAME / max(h, w))
    return round(h * factor), round(w * factor)


def _baselines(
    result: Explanation, affine: Affine, frame: tuple[int, int], rows: pd.DataFrame, seed: int
) -> dict[str, list[Drawn]]:
    # A seed of the image's own, so that a baseline does not depend on which images are scored beside it.
    own = int.from_bytes(result.image_id.encode()[-8:], "little") ^ seed
    grid = result.grids[0].maps.shape[1], result.grids[0].maps.shape[2]
    fractions = rows[["x", "y", "width", "height"]].to_numpy(dtype=float) / SIDE
    return {
        KINDS[1]: baselines.random_maps(grid, affine, frame, own),
        KINDS[2]: [Drawn(baselines.centre_prior(frame))],
        KINDS[3]: [Drawn(baselines.mean_box(fractions, frame))],
    }


def _rows(
    result: Explanation,
    patient: str,
    label: str,
    drawn: Mapping[str, Sequence[Drawn]],
    frame: tuple[int, int],
    cut: float,
    tolerance: float,
) -> pd.DataFrame:
    """Scores of every kind of map on the boxes of one label in one image; random maps are averaged."""
    fx, fy = frame[1] / result.image_shape[1], frame[0] / result.image_shape[0]
    boxes = [(x * fx, y * fy, w * fx, h * fy) for name, x, y, w, h in result.boxes if name == label]
    tables = []
    for kind, several in drawn.items():
        if any(
            np.isnan(one.heat).any() for one in several
        ):  # an unlearnt label, or no other patient's box: there is no such map
            continue
        values = np.mean(
            [score(one.heat, boxes, cut, tolerance * frame[1] / SIDE, one.point) for one in several], axis=0
        )
        table = pd.DataFrame(values, columns=list(NAMES))
        tables.append(table.assign(image_id=result.image_id, patient_id=patient, label=label, kind=kind))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
