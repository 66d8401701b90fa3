"""A folder of explanations: for each image a panel (PNG) and its raw maps (`.npz`), made in one go and resumed.

What the pictures were made by stands in the folder's `settings.json`. An image whose two files are younger than that
and than the image itself is not made again; with other settings, everything is.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from cxrfeat import _files as files
from cxrfeat._datasets import boxes as boxes_room
from cxrfeat._explain import targets as targets_room
from cxrfeat._explain.boxes import on_original
from cxrfeat._explain.explainer import Explainer, Failure, MethodName
from cxrfeat._explain.explanation import Explanation
from cxrfeat._explain.scale import Per, scale
from cxrfeat._explain.targets import Outcome, Target
from cxrfeat._labels import choose
from cxrfeat._progress import Progress, silent
from cxrfeat._report import panels
from cxrfeat._run import Run
from cxrfeat.errors import ExplainError

PAGE_ROWS = 6
AHEAD = 16
"""Panels that may wait to be drawn while the network is at the next batch."""
SETTINGS = "settings.json"


@dataclass(frozen=True)
class Style:
    """How panels are drawn: labels named or the `top` most probable, one scale per image or label, a grid as well.

    Attributes
    ----------
    labels : tuple of str
        The labels to draw; by default the most probable.
    top : int
        How many of the most probable.
    per : {'image', 'label'}
        What shares one colour scale.
    grid : bool
        Whether to draw all images together as well, six to a page.
    title : str
        What stands above.
    """

    labels: tuple[str, ...] = ()
    top: int = 4
    per: Per = "image"
    grid: bool = False
    title: str = ""


@dataclass
class Gallery:
    """What was made.

    Attributes
    ----------
    folder : pathlib.Path
        Where.
    rows : list of dict
        One per image: `image_id`, `figure`, `maps`, `labels`, `probabilities`, `raw_max`, `empty` (maps without a
        positive cell, of all labels); `resumed` if it was there already.
    failed : dict
        Image id -> the sentence why it could not be explained.
    pages : list of pathlib.Path
        The grids.
    """

    folder: Path
    rows: list[dict] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    pages: list[Path] = field(default_factory=list)

    @property
    def empty(self) -> int:
        """Number of maps without a positive cell, over all images and labels."""
        return sum(row["empty"] for row in self.rows)

    @property
    def maps(self) -> int:
        """Number of maps, over all images and labels."""
        return sum(row["of"] for row in self.rows)


def choose_targets(
    run: Run,
    images: Sequence[str] = (),
    show: Outcome | None = None,
    whole: bool = False,
    labels: Sequence[str] = (),
    split: str = "test",
    limit: int = 4,
    boxes: str | Path | None = None,
) -> list[Target]:
    """Images named, else all of a split, else the clearest hits or misses; see `explain.targets`.

    Parameters
    ----------
    run : Run
        An opened run.
    images : sequence of str
        Paths of image files, or image ids of the run's study.
    show : {"tp", "fp", "fn"}, optional
        True positives, false positives or false negatives.
    whole : bool
        Every image of the split.
    labels : sequence of str
        Of which labels; by default all.
    split : str
        Where `show` and `whole` choose from.
    limit : int
        Images per label named; without labels, images in all.
    boxes : path, optional
        Box list to draw; by default `BBox_List_2017.csv` beside the folder of the study's images, where it lies.
    """
    path = Path(boxes) if boxes else find_boxes(run)
    table = None if path is None else boxes_room.read(path)
    if images:
        return targets_room.named(run, images, table)
    if whole:
        return targets_room.of_study(run, split, table)
    return targets_room.outcomes(run, show or "tp", labels, split, limit, table)


def find_boxes(run: Run) -> Path | None:
    """The box list beside the folder of the study's images, as the release is laid out; None if there is none."""
    beside = run.study().paths()[0].parent.parent / boxes_room.FILE
    return beside if beside.is_file() else None


def make(
    run: Run,
    targets: Sequence[Target],
    folder: str | Path | None = None,
    style: Style | None = None,
    method: MethodName = "auto",
    weights: Sequence[str] = (),
    engine: str = "auto",
    smooth: int = 0,
    progress: Progress = silent,
) -> Gallery:
    """Explain images and write a panel and a map file for each.

    Parameters
    ----------
    run : Run
        The head.
    targets : sequence of Target
        From `explain.targets`.
    folder : path, optional
        By default `figures/gradcam` in the run.
    style : Style, optional
        How they are drawn.
    method, weights, engine, smooth
        See `explain.explainer.Explainer`.
    progress : Progress
        Told after every image.

    Returns
    -------
    Gallery
        Images that cannot be explained are in its `failed`; the others are made all the same.

    Raises
    ------
    ExplainError
        If no image is named, or the head has no maps.
    StudyError
        If a label is not among the head's.
    """
    if not targets:
        raise ExplainError("name at least one image to explain.")
    style = style or Style()
    style = Style(choose(style.labels, run.labels), style.top, style.per, style.grid, style.title)
    gallery = Gallery(Path(folder) if folder else run.path / "figures" / "gradcam")
    _remember(gallery.folder, run, style, method, smooth)
    names = _names(targets)
    page: list[Explanation] = []
    explainer = partial(Explainer, run, method, weights, engine, smooth=smooth)
    results = _results(explainer, targets, names, gallery.folder, resume=not style.grid)
    painted = _painted(results, lambda target, result: _paint(result, gallery.folder / names[id(target)], style))
    for done, (target, result) in enumerate(painted, start=1):
        if isinstance(result, Failure):
            gallery.failed[target.image_id] = str(result.error)
        else:
            gallery.rows.append(_row(result, gallery.folder / names[id(target)], style))
            page += [result] if style.grid else []
        if page and (len(page) == PAGE_ROWS or done == len(targets)):
            gallery.pages.append(_page(gallery, page, style))
            page = []
        progress(done, len(targets), target.image_id)
    return gallery


def _painted(
    results: Iterator[tuple[Target, Explanation | Failure]], paint: Callable[[Target, Explanation | Failure], None]
) -> Iterator[tuple[Target, Explanation | Failure]]:
    """Results in their order, each once it is painted; the network goes on while panels are drawn."""
    waiting: deque[tuple[Target, Explanation | Failure, Future[None]]] = deque()
    with ThreadPoolExecutor(2) as painters:
        for target, result in results:
            waiting.append((target, result, painters.submit(paint, target, result)))
            while waiting and (len(waiting) > AHEAD or waiting[0][2].done()):
                target, result, painting = waiting.popleft()
                painting.result()
                yield target, result
        for target, result, painting in waiting:
            painting.result()
            yield target, result


def _paint(result: Explanation | Failure, stem: Path, style: Style) -> None:
    """Write the two files of an explanation made just now, not found from an earlier go."""
    if isinstance(result, Failure) or result.grey is None:
        return
    panels.draw([result], stem.with_name(f"{stem.name}.png"), style.labels, style.top, style.per, style.title)
    result.save(stem.with_name(f"{stem.name}.npz"))  # last: it says that the image is done


def _results(
    explainer: Callable[[], Explainer], targets: Sequence[Target], names: dict[int, str], folder: Path, resume: bool
) -> Iterator[tuple[Target, Explanation | Failure]]:
    """Results in the order of the targets; those found in the folder are read, and the network is opened for others."""
    found = {id(t): _found(folder / names[id(t)], t) for t in targets} if resume else {}
    missing = [t for t in targets if found.get(id(t)) is None]
    made = iter(explainer().explain(missing)) if missing else iter(())
    for target in targets:
        earlier = found.get(id(target))
        yield target, earlier if earlier is not None else next(made)


def _found(stem: Path, target: Target) -> Explanation | None:
    """The explanation of an earlier go, if both its files are there and younger than the image."""
    figure, maps = stem.with_name(f"{stem.name}.png"), stem.with_name(f"{stem.name}.npz")
    if not (figure.is_file() and maps.is_file() and target.path.is_file()):
        return None
    if maps.stat().st_mtime_ns < max(p.stat().st_mtime_ns for p in (target.path, stem.with_name(SETTINGS))):
        return None
    try:
        found = Explanation.load(maps)
        drawn = (target.image_id, target.note, on_original(target.boxes, found.image_shape))
    except ExplainError:  # a damaged file is made again, and a bad box is told when it is
        return None
    return found if (found.image_id, found.note, found.boxes) == drawn else None


def _remember(folder: Path, run: Run, style: Style, method: str, smooth: int) -> None:
    """Write what this gallery is made by, unless it stands there; files older than that are not taken over."""
    settings = {
        "head_sha256": files.sha256(run.path / "head.json"),
        "labels": list(style.labels),
        "top": style.top,
        "per": style.per,
        "title": style.title,
        "method": method,
        "smooth": smooth,
    }
    text = json.dumps(settings, indent=1) + "\n"
    path = folder / SETTINGS
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        files.write_atomically(path, text)


def _names(targets: Sequence[Target]) -> dict[int, str]:
    """A file name for each target, without folder or ending; two images of one name are told apart by their folder."""
    seen: set[str] = set()
    names = {}
    for target in targets:
        name = Path(target.image_id).stem or "image"
        if name in seen:
            name += "-" + hashlib.sha256(str(target.path.absolute()).encode()).hexdigest()[:8]
        seen.add(name)
        names[id(target)] = name
    return names


def _row(result: Explanation, stem: Path, style: Style) -> dict:
    labels = style.labels or result.foremost(style.top)
    scaled = scale(result.maps)
    at = [result.index(label) for label in labels]
    return {
        "image_id": result.image_id,
        "figure": str(stem.with_name(f"{stem.name}.png")),
        "maps": str(stem.with_name(f"{stem.name}.npz")),
        "labels": list(labels),
        "probabilities": [float(result.probabilities[k]) for k in at],
        "raw_max": [float(scaled.raw_max[k]) for k in at],
        "note": result.note,
        "empty": int(scaled.empty.sum()),
        "of": len(result.labels),
        "resumed": result.grey is None,
    }


def _page(gallery: Gallery, page: Sequence[Explanation], style: Style) -> Path:
    path = gallery.folder / f"grid-{len(gallery.pages) + 1:02d}.png"
    return panels.draw(page, path, style.labels, style.top, style.per, style.title)
