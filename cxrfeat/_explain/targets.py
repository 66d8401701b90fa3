"""Which images to explain: files, ids of the study, or the hits and misses of a run; and the boxes on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from cxrfeat._datasets.boxes import boxes_of
from cxrfeat._explain.explanation import Box
from cxrfeat._labels import choose
from cxrfeat._remote import Place, place
from cxrfeat._run import Run
from cxrfeat._study import Study
from cxrfeat.errors import ExplainError, NotFoundError

Outcome = Literal["tp", "fp", "fn"]
OUTCOMES: dict[str, str] = {"tp": "True positive", "fp": "False positive", "fn": "False negative"}

FramedBox = tuple[str, float, float, float, float, float, float]
"""Label, x, y, width, height, and the width and height of the frame that these are pixels of."""

SLACK = 0.002
"""Share of the frame by which a box may stick out: some lists were drawn on a reduced picture."""
SQUASHED = 0.01
"""Difference of the sides' ratio up to which an image is a reduced copy of the frame."""


@dataclass(frozen=True)
class Target:
    """An image to explain: its id in the study or its file name, and its file.

    With what is known of its labels, the probabilities predicted from the cached embedding (none where there are none),
    why and for which labels it was chosen, and its boxes.
    """

    image_id: str
    path: Place
    truth: Mapping[str, float] = field(default_factory=dict)
    predicted: Mapping[str, float] = field(default_factory=dict)
    note: str = ""
    focus: tuple[str, ...] = ()
    boxes: tuple[FramedBox, ...] = ()


def choose_targets(
    run: Run,
    images: str | Path | Sequence[str | Path] | None = None,
    show: Outcome | None = None,
    whole: bool = False,
    labels: Sequence[str] = (),
    split: str = "test",
    limit: int = 4,
    boxes: str | Path | None = None,
) -> list[Target]:
    """Images named, else all of a split, else the clearest hits or misses; parameters as in `explain`."""
    table = boxes_of(run.study(), boxes)
    if isinstance(images, str | Path):
        images = [images]
    if images:
        return named(run, [str(image) for image in images], table)
    if whole:
        return of_study(run, split, table)
    return outcomes(run, show or "tp", labels, split, limit, table)


def on_image(boxes: Sequence[FramedBox], shape: tuple[int, ...]) -> tuple[Box, ...]:
    """Scale boxes from their frame to an image of `shape` (h, w), cut at its edge.

    An ExplainError if a box is outside its frame, or the image is no reduced copy of the frame.
    """
    h, w = shape[:2]
    found = []
    for label, x, y, width, height, across, down in boxes:
        if abs(w / h / (across / down) - 1) > SQUASHED:
            raise ExplainError(
                f"its boxes are in pixels of a {across:.0f}x{down:.0f} original, and the image is {w}x{h}: not a "
                "reduced copy of that."
            )
        left, top, right, bottom = max(x, 0.0), max(y, 0.0), min(x + width, across), min(y + height, down)
        out = max(-x / across, -y / down, (x + width) / across - 1, (y + height) / down - 1)
        if out > SLACK or min(width, height) <= 0:
            raise ExplainError(
                f"its box of {label} (x={x:.0f}, y={y:.0f}, width={width:.0f}, height={height:.0f}) lies outside the "
                f"{across:.0f}x{down:.0f} original; boxes are x, y, width, height in its pixels."
            )
        fx, fy = w / across, h / down
        found.append((label, left * fx, top * fy, (right - left) * fx, (bottom - top) * fy))
    return tuple(found)


def named(run: Run, images: Sequence[str], boxes: pd.DataFrame | None = None) -> list[Target]:
    """Targets for image files and ids of the run's study, in the order given.

    A file that is in the study brings its labels and prediction along. A name that is neither a file nor an id is taken
    for a file, so that the failure to read it is reported with the others.
    """
    study = run.study()
    by_path = {path.resolve(): image_id for path, image_id in zip(study.paths(), study.ids, strict=True)}
    known = set(study.ids)
    found: list[str | Place] = []
    for image in images:
        path = place(image) if image not in known else Path(image)
        if path.is_file():
            found.append(by_path.get(path.resolve(), path))
        else:
            found.append(image if image in known else path)
    rows = _from_study(run, study, [str(item) for item in found if isinstance(item, str)], boxes)
    targets = {target.image_id: target for target in rows}
    drawn = _by_image(boxes)
    return [
        targets[item] if isinstance(item, str) else Target(item.name, item, boxes=drawn.get(item.name, ()))
        for item in dict.fromkeys(found)
    ]


def outcomes(
    run: Run,
    outcome: Outcome,
    labels: Sequence[str] = (),
    split: str = "test",
    limit: int = 4,
    boxes: pd.DataFrame | None = None,
) -> list[Target]:
    """The clearest true positives, false positives or false negatives: `limit` of each label named, else in all.

    True and false positives come with the highest probability first, false negatives with the lowest. A label without a
    threshold is cut at 0.5, and the note says so.
    """
    if outcome not in OUTCOMES:
        raise ExplainError(f"no outcome {outcome!r}; choose {', '.join(OUTCOMES)}.")
    chosen = choose(labels, run.labels) if labels else run.labels
    predictions = run.predictions(split)
    study = run.study().join(predictions.index.to_numpy(dtype=str))
    rows = pd.concat([_hits(run, study, predictions, label, outcome) for label in chosen], ignore_index=True)
    if labels:
        rows = rows.groupby("label", sort=False).head(limit)
    else:
        rows = rows.sort_values("sureness", ascending=False, kind="stable")
        rows = rows.drop_duplicates("image_id").drop_duplicates("label").head(limit)
    if rows.empty:
        what = f"{OUTCOMES[outcome].lower()}s of {', '.join(chosen) if labels else 'any label'}"
        raise ExplainError(f"run {run.name} has no {what} in split {split!r}.")
    # An image may be chosen for two labels: it is drawn once, with both reasons.
    reasons = rows.groupby("image_id", sort=False)[["label", "cut"]].agg(tuple)
    found = _from_study(run, study, [str(image_id) for image_id in reasons.index], boxes)
    return [
        replace(target, note=_note(outcome, names, cuts), focus=names)
        for target, names, cuts in zip(found, reasons["label"], reasons["cut"], strict=True)
    ]


def _hits(run: Run, study: Study, predictions: pd.DataFrame, label: str, outcome: Outcome) -> pd.DataFrame:
    p = predictions[label].to_numpy()
    y = study.table[label].to_numpy(dtype=float)
    threshold = run.thresholds[label]
    cut = 0.5 if np.isnan(threshold) else threshold
    wanted = {"tp": (y == 1) & (p >= cut), "fp": (y == 0) & (p >= cut), "fn": (y == 1) & (p < cut)}[outcome]
    sureness = np.where(outcome == "fn", cut - p, p - cut)
    where = np.flatnonzero(wanted)
    where = where[np.argsort(-sureness[where], kind="stable")]
    said = f"{cut:.2f}" + (", none was chosen" if np.isnan(threshold) else "")
    return pd.DataFrame({"image_id": study.ids[where], "label": label, "sureness": sureness[where], "cut": said})


def _note(outcome: str, labels: Sequence[str], cuts: Sequence[str]) -> str:
    named = ", ".join(label.replace("_", " ") for label in labels)
    return f"{OUTCOMES[outcome]}: {named} (threshold{'s' if len(cuts) > 1 else ''} {', '.join(cuts)})"


def of_study(run: Run, split: str | None = None, boxes: pd.DataFrame | None = None) -> list[Target]:
    """Every image of the run's study, or of one split of it."""
    study = run.study()
    study = study.split(split) if split else study
    return _from_study(run, study, list(study.ids), boxes)


def _from_study(run: Run, study: Study, image_ids: Sequence[str], boxes: pd.DataFrame | None) -> list[Target]:
    if not image_ids:
        return []
    rows = study.join(list(dict.fromkeys(image_ids)))
    predicted = _predicted(run).reindex(rows.ids)
    targets, drawn = {}, _by_image(boxes)
    for image_id, path, y, p in zip(rows.ids, rows.paths(), rows.y, predicted.to_numpy(dtype=float), strict=True):
        targets[str(image_id)] = Target(
            str(image_id),
            path,
            {label: float(v) for label, v in zip(rows.labels, y, strict=True) if np.isfinite(v)},
            {label: float(v) for label, v in zip(run.labels, p, strict=True) if np.isfinite(v)},
            boxes=drawn.get(str(image_id), ()),
        )
    return [targets[image_id] for image_id in image_ids]


def _predicted(run: Run) -> pd.DataFrame:
    """The cached probabilities that the full graph must give again."""
    none = pd.DataFrame(columns=list(run.labels))
    if run.options.tta:  # a mean over augmented passes belongs to no single image
        return none
    try:
        return run.predictions()
    except NotFoundError:  # a run without predictions has nothing to be compared with
        return none


def _by_image(boxes: pd.DataFrame | None) -> dict[str, tuple[FramedBox, ...]]:
    if boxes is None:
        return {}
    numbers = ("x", "y", "width", "height", "frame_width", "frame_height")
    return {
        str(image_id): tuple(zip(rows["label"], *(rows[c].tolist() for c in numbers), strict=True))
        for image_id, rows in boxes.groupby("image_id")
    }
