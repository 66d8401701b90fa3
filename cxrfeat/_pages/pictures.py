"""The gallery of the HTML report: an X-ray and its heat maps as separate pictures, so that a slider can blend them."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
import numpy.typing as npt

from cxrfeat._explain.explainer import Explainer, Failure
from cxrfeat._explain.explanation import Explanation
from cxrfeat._explain.targets import Outcome, Target, choose_targets
from cxrfeat._progress import Progress, silent
from cxrfeat._report import panels
from cxrfeat._report.heat import heat, scale
from cxrfeat._report.style import pretty
from cxrfeat._run import Run
from cxrfeat.errors import CxrfeatError, ExplainError

JPEG, WEBP = 82, 70
"""Qualities: of the X-ray, to be read, and of a heat map, which is smooth."""

HEAT_SIDE = 256
TOP = 3
SHARES: tuple[tuple[Outcome, float], ...] = (("tp", 0.4), ("fp", 0.2), ("fn", 0.2))
"""Of the pictures asked for; what is left goes to images with radiologists' boxes, then to any."""


@dataclass(frozen=True)
class Layer:
    """One heat map: its label, what is known and predicted, and the picture (None where there is no evidence)."""

    label: str
    about: str
    uri: str | None


@dataclass(frozen=True)
class Picture:
    """One image of the gallery: a JPEG data URI, layers of maps, and boxes (label, x, y, width, height).

    Sizes and boxes are in pixels of the X-ray as embedded.
    """

    image_id: str
    note: str
    truth: str
    width: int
    height: int
    uri: str
    layers: list[Layer]
    boxes: list[tuple[str, float, float, float, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Pictures:
    """The gallery of a run: its pictures, how the maps were computed, and what kept others from being made."""

    shown: list[Picture] = field(default_factory=list)
    method: str = ""
    problems: list[str] = field(default_factory=list)


def explain(
    run: Run,
    images: int,
    split: str = "test",
    weights: Sequence[str] = (),
    engine: str = "auto",
    progress: Progress = silent,
) -> Pictures:
    """Explain some images of a run for its gallery.

    A head without maps, weights that are not available or images that are gone leave the gallery empty or short and are
    said in `problems`: a report is worth having without pictures.
    """
    if not images:
        return Pictures()
    shown, problems, method = [], [], ""
    try:
        targets = choose(run, images, split)
        explainer = Explainer(run, weights=weights, engine=engine)
        method = explainer.method.name
        for done, (target, result) in enumerate(zip(targets, explainer.explain(targets), strict=True), start=1):
            if isinstance(result, Failure):
                problems.append(str(result))
            else:
                shown.append(picture(result))
            progress(done, len(targets), target.image_id)
    except CxrfeatError as error:
        problems.append(str(error))
    return Pictures(shown, method, problems)


def choose(run: Run, images: int, split: str = "test") -> list[Target]:
    """The clearest hits, false alarms and misses, images with boxes, and then others of the split, `images` in all."""
    found: dict[str, Target] = {}
    for outcome, share in SHARES:
        try:
            some = choose_targets(run, show=outcome, split=split, limit=max(1, round(share * images)))
        except ExplainError:  # a head without a single miss is no reason to stop
            continue
        for target in some:
            found.setdefault(target.image_id, target)
    every = choose_targets(run, whole=True, split=split)
    boxed = [replace(t, note="Has radiologists' boxes", focus=_boxed(run, t)) for t in every if t.boxes]
    for target in (*boxed, *every):
        found.setdefault(target.image_id, target)
    return list(found.values())[:images]


def _boxed(run: Run, target: Target) -> tuple[str, ...]:
    return tuple(dict.fromkeys(box[0] for box in target.boxes if box[0] in run.labels))


def picture(explanation: Explanation, top: int = TOP) -> Picture:
    """Encode one explanation: the X-ray, the maps of its `top` foremost labels on one scale, and its boxes."""
    grey = panels.reduced(explanation)
    h, w = grey.shape
    labels = explanation.foremost(top)
    scaled = scale(np.stack([explanation.maps[explanation.index(label)] for label in labels]))
    factor = min(1.0, HEAT_SIDE / max(h, w))
    shape = (max(round(h * factor), 1), max(round(w * factor), 1))
    layers = []
    for k, label in enumerate(labels):
        p = explanation.probabilities[explanation.index(label)]
        known = panels.known_of(explanation, label)
        raw = "no positive evidence" if scaled.empty[k] else f"maximum {panels.number(scaled.raw_max[k])}"
        uri = None if scaled.empty[k] else heat_uri(heat(explanation, scaled.maps[k], shape))
        layers.append(Layer(pretty(label), f"p = {p:.3f}, {known}, {raw}", uri))
    fx, fy = w / explanation.image_shape[1], h / explanation.image_shape[0]
    boxes = [(pretty(n), x * fx, y * fy, bw * fx, bh * fy) for n, x, y, bw, bh in explanation.boxes]
    note, truth = explanation.note, panels.truth(explanation)
    return Picture(explanation.image_id, note, truth, w, h, grey_uri(grey), layers, boxes)


def grey_uri(grey: npt.NDArray[np.uint8]) -> str:
    """An X-ray, uint8 (h, w), as a JPEG data URI. It is encoded anew: nothing of the file's own header is in it."""
    return _uri("jpeg", cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, JPEG])[1])


def heat_uri(rgba: npt.NDArray[np.float32]) -> str:
    """Colours with opacity, float32 (h, w, 4) within [0, 1], as a WebP data URI."""
    bgra = np.ascontiguousarray(np.round(rgba[..., [2, 1, 0, 3]] * 255).clip(0, 255).astype(np.uint8))
    return _uri("webp", cv2.imencode(".webp", bgra, [cv2.IMWRITE_WEBP_QUALITY, WEBP])[1])


def _uri(kind: str, data: npt.NDArray[np.uint8]) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data.tobytes()).decode()}"
