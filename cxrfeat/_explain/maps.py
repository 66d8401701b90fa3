"""`explain`: the maps of many images in one call, and the folder of panels and map files that it fills and resumes.

`settings.json` in the folder says what its files were made by. An image is not explained again where its map file is
younger than that and than the image, and its panel is the one drawn of it; with other settings, every image is.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import pandas as pd

from cxrfeat import _files as files
from cxrfeat._explain.explainer import Explainer, Failure, MethodName
from cxrfeat._explain.explanation import FORMAT_VERSION, SHOWN, Explanation, panel_html
from cxrfeat._explain.targets import Outcome, Target, choose_targets, on_image
from cxrfeat._labels import choose_known
from cxrfeat._progress import Progress, silent
from cxrfeat._remote import Place
from cxrfeat._report.heat import Per, scale
from cxrfeat._run import Run, load_run
from cxrfeat.errors import ExplainError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_log = logging.getLogger(__name__)

PAGE_ROWS = 6
AHEAD = 16
"""Panels that may wait to be drawn while the network is at the next batch."""
SETTINGS = "settings.json"
LONGEST = 150
"""Bytes of a file name without its ending; systems allow 255, and a temporary file's name is longer."""


@dataclass
class Maps(Sequence[Explanation]):
    """The maps of some images: a sequence of `Explanation`, one per image that could be explained.

    `rows` has one dict per explanation: `image_id`, the `labels` drawn with their `probabilities` and `raw_max`,
    `note`, `empty` (maps without a positive cell) `of` all maps, `resumed`, and the files `figure` and `maps` if they
    are written to `folder`. `failed` has image id -> why it could not be explained, `unknown` a sentence for each label
    that the head does not have, `pages` the grids. Explanations hold no pixels; these are read again to draw.
    """

    run: Run
    labels: tuple[str, ...] = ()
    top: int = 4
    scale: Per = "image"
    explanations: list[Explanation] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    pages: list[Path] = field(default_factory=list)
    folder: Path | None = None

    @overload
    def __getitem__(self, at: int) -> Explanation: ...
    @overload
    def __getitem__(self, at: slice) -> list[Explanation]: ...
    def __getitem__(self, at: int | slice) -> Explanation | list[Explanation]:
        return self.explanations[at]

    def __len__(self) -> int:
        return len(self.explanations)

    def __repr__(self) -> str:
        failed = f", {len(self.failed)} failed" if self.failed else ""
        images = "1 image" if len(self) == 1 else f"{len(self)} images"
        return f"<Maps of {images}{failed}: {self.run.describe()}; {self.empty_sentence()}>"

    def _repr_html_(self) -> str:
        told = "".join(f"<p>{escape(f'{image_id}: {why}')}</p>" for image_id, why in list(self.failed.items())[:SHOWN])
        return (panel_html(self.explanations, self.labels, self.top, self.scale) if len(self) else "") + told

    @property
    def empty(self) -> int:
        """Number of maps without a positive cell, over all images and labels."""
        return sum(row["empty"] for row in self.rows)

    def empty_sentence(self) -> str:
        """How many maps have no positive cell, of how many."""
        return f"{self.empty} of {sum(row['of'] for row in self.rows)} maps have no positive cell"

    def to_frame(self) -> pd.DataFrame:
        """One row per image and label: `image_id`, `label`, `truth`, `probability`, `raw_max`, `empty`."""
        rows = [
            {"image_id": e.image_id, "label": label, "truth": e.truth.get(label), "probability": p, "raw_max": top,
             "empty": not top > 0}
            for e in self.explanations
            for label, p, top in zip(e.labels, e.probabilities, scale(e.maps).raw_max, strict=True)
        ]  # fmt: skip
        return pd.DataFrame(rows, columns=["image_id", "label", "truth", "probability", "raw_max", "empty"])

    def plot(self, images: int = SHOWN) -> Figure:
        """Panels of the first `images` images below each other, as a matplotlib figure."""
        from cxrfeat._report import panels

        return panels.page(self.explanations[:images], self.labels, self.top, self.scale).figure()

    def save(self, folder: str | Path | None = None) -> Path:
        """Write a panel (PNG) and a map file (`.npz`) for each image, and return the folder.

        By default that is `figures/gradcam` in the run.
        """
        self.folder = _folder(self.run, folder)
        for k, stem in enumerate(_stems(self.folder, self.explanations)):
            _paint(self.explanations[k], stem, self)
            self.rows[k] |= _paths(stem)
        return self.folder

    def _add(self, result: Explanation, stem: Path | None, resumed: bool) -> None:
        names = self.labels or result.foremost(self.top)
        scaled, at = scale(result.maps), [result.index(name) for name in names]
        row = {
            "image_id": result.image_id,
            "labels": list(names),
            "probabilities": [float(result.probabilities[k]) for k in at],
            "raw_max": [float(scaled.raw_max[k]) for k in at],
            "note": result.note,
            "empty": int(scaled.empty.sum()),
            "of": len(result.labels),
            "resumed": resumed,
        }
        self.rows.append(row | (_paths(stem) if stem else {}))
        self.explanations.append(replace(result, grey=None))


def explain(
    run: Run | str | Path | None = None,
    images: str | Path | Sequence[str | Path] | None = None,
    labels: str | Sequence[str] = (),
    *,
    show: Outcome | None = None,
    whole: bool = False,
    split: str = "test",
    limit: int = 4,
    top: int = 4,
    method: MethodName = "auto",
    scale: Per = "image",
    smooth: int = 0,
    boxes: str | Path | None = None,
    weights: str | Sequence[str] = (),
    engine: str = "auto",
    out: str | Path | bool = False,
    grid: bool = False,
    progress: Progress = silent,
) -> Maps:
    """Compute maps of where in an image the evidence for a finding lies.

    Every image takes the way that extraction took, and the probability of the full graph must be the one predicted
    from the cached embedding. An image that cannot be explained is in the result's `failed`; the others are explained.

    Parameters
    ----------
    run : Run or path, optional
        A run, its folder, or its name under `runs/`; by default the newest.
    images : path or sequence of paths, optional
        Image files (DICOM too) and image ids of the run's study; by default the clearest true positives.
    labels : str or sequence of str
        The labels to draw; by default the `top` most probable ones of each image.
    show : {"tp", "fp", "fn"}, optional
        Choose true positives, false positives or false negatives of `labels` (or of all), the clearest first.
    whole : bool
        Choose every image of `split`.
    split : str
        The split that `show` and `whole` choose from.
    limit : int
        Images per label of `labels` that `show` chooses; without labels, images in all.
    top : int
        How many of the most probable labels are drawn.
    method : {"auto", "cam", "gradcam", "gradcam++", "hirescam", "paper"}
        `auto` is the closed form for a linear head, and Grad-CAM for others.
    scale : {"image", "label"}
        One colour scale for all maps of an image, or one for each map.
    smooth : int
        Average the maps over so many augmented renderings, each warped back.
    boxes : path, optional
        Box list to draw; by default that of the study's dataset.
    weights : str or sequence of str
        Weights file of each backbone, in order, if it is no longer where it was.
    engine : str
        Inference engine of the closed form.
    out : path or bool
        Write a panel and a map file of each image to this folder, or to the run's `figures/gradcam` if True. Images
        that are there, made in the same way, are not explained again.
    grid : bool
        With `out`: also draw all images together, six to a page.
    progress : Progress
        Called after every image.

    Returns
    -------
    Maps
        A sequence of explanations, with `plot`, `save` and `to_frame`. An explanation has `maps`, float64
        (labels, rows, columns), signed, and `on_image(label)`, float64 (height, width).

    Raises
    ------
    ExplainError
        If the head has no maps, or there is no image of that outcome.
    NotFoundError, StudyError
        If the run or the box list is not there, or none of the labels is the head's.

    Examples
    --------
    One image, by the newest run:

    >>> import cxrfeat as cxr
    >>> maps = cxr.explain(images="00004296_000.png", labels="Atelectasis")
    >>> maps
    <Maps of 1 image: logistic head on densenet121, ...; ... of 14 maps have no positive cell>
    >>> maps[0].maps.shape
    (14, 7, 7)
    >>> maps[0].on_image("Atelectasis").shape == maps[0].image_shape
    True
    >>> figure = maps.plot()
    >>> sorted(path.name for path in maps.save("maps").iterdir())
    ['00004296_000.npz', '00004296_000.png']
    """
    opened = load_run(run)
    chosen, unknown = choose_known([labels] if isinstance(labels, str) else labels, opened.labels)
    for sentence in unknown:
        _log.warning("%s", sentence)
    targets = choose_targets(opened, images, show, whole, chosen, split, limit, boxes)
    maps = Maps(opened, chosen, top, scale, unknown=unknown)
    stems: Sequence[Path | None] = [None] * len(targets)
    if out:
        maps.folder = _folder(opened, None if out is True else out)
        stems = _stems(maps.folder, targets)
        _check(maps.folder, stems, [target.path for target in targets])
        _remember(maps.folder, maps, method, smooth)
    explainer = partial(Explainer, opened, method, weights, engine, smooth=smooth)
    page: list[Explanation] = []
    results = enumerate(_explained(explainer, targets, stems, maps), start=1)
    for done, (target, stem, result, resumed) in results:
        if isinstance(result, Failure):
            maps.failed[target.image_id] = str(result.error)
            _log.warning("%s", result)
        else:
            maps._add(result, stem, resumed)
            page += [result] if stem and grid else []
        if page and (len(page) == PAGE_ROWS or done == len(targets)):
            maps.pages.append(_page(page, maps))
            page = []
        progress(done, len(targets), target.image_id)
    return maps


def _explained(
    explainer: Callable[[], Explainer], targets: Sequence[Target], stems: Sequence[Path | None], maps: Maps
) -> Iterator[tuple[Target, Path | None, Explanation | Failure, bool]]:
    """Each target and its files, with its result and whether that was found in the folder, in order.

    For those that are not there a network is opened, and it works while panels are drawn.
    """
    found = [_found(stem, target) if stem else None for stem, target in zip(stems, targets, strict=True)]
    missing = [target for target, earlier in zip(targets, found, strict=True) if earlier is None]
    made = iter(explainer().explain(missing)) if missing else iter(())
    paintings: deque[Future[None]] = deque()
    with ThreadPoolExecutor(2) as painters:
        for target, stem, earlier in zip(targets, stems, found, strict=True):
            result = next(made) if earlier is None else earlier
            if stem and earlier is None and isinstance(result, Explanation):
                paintings.append(painters.submit(_paint, result, stem, maps))
            if len(paintings) > AHEAD:
                paintings.popleft().result()
            yield target, stem, result, earlier is not None
        for painting in paintings:
            painting.result()


def _paint(result: Explanation, stem: Path, maps: Maps) -> None:
    """Write the two files of an explanation."""
    from cxrfeat._report import panels

    png = panels.page([result], maps.labels, maps.top, maps.scale).png()
    files.write_atomically(f"{stem}.png", png)
    # Last: it says that the image is done.
    replace(result, panel_sha256=hashlib.sha256(png).hexdigest()).save(f"{stem}.npz")


def _page(page: Sequence[Explanation], maps: Maps) -> Path:
    from cxrfeat._report import panels

    assert maps.folder is not None
    drawn = panels.page(page, maps.labels, maps.top, maps.scale)
    return drawn.save(maps.folder / f"grid-{len(maps.pages) + 1:02d}.png")


def _found(stem: Path, target: Target) -> Explanation | None:
    """The explanation made earlier, if both its files are whole and younger than the image and the settings."""
    figure, maps = Path(f"{stem}.png"), Path(f"{stem}.npz")
    if not (figure.is_file() and maps.is_file() and isinstance(target.path, Path) and target.path.is_file()):
        return None  # nothing at an address says whether it is older
    if maps.stat().st_mtime_ns < max(p.stat().st_mtime_ns for p in (target.path, stem.with_name(SETTINGS))):
        return None
    try:
        found = Explanation.load(maps)
        boxes = on_image(target.boxes, found.image_shape)
    except ExplainError:  # a damaged file is made again, and a bad box is reported then
        return None
    same = (found.image_id, found.note, found.boxes) == (target.image_id, target.note, boxes)
    same = same and files.sha256(figure) == found.panel_sha256
    return replace(found, path=target.path, truth=dict(target.truth)) if same else None


def _folder(run: Run, named: str | Path | None) -> Path:
    return Path(named) if named else run.path / "figures" / "gradcam"


def _check(folder: Path, stems: Sequence[Path], images: Sequence[Place]) -> None:
    """Raise an OutputError if a panel or a map file would replace an image, or what was not made here earlier.

    A panel has the name of its image: in the folder of the images themselves that would be the image.
    """
    made_here = (folder / SETTINGS).is_file()
    for stem, image in zip(stems, images, strict=True):
        written = list(_paths(stem).values())
        own = made_here or all(Path(file).is_file() for file in written)
        for file in written:
            files.check_output(file, own=own, inputs=[image], overwrite=None)


def _remember(folder: Path, maps: Maps, method: str, smooth: int) -> None:
    """Write what this folder is made by, unless it is there already; older files are made again."""
    settings = {
        "format_version": FORMAT_VERSION,
        "head_sha256": files.sha256(maps.run.path / "head.json"),
        "labels": list(maps.labels),
        "top": maps.top,
        "per": maps.scale,
        "method": method,
        "smooth": smooth,
    }
    text, path = (json.dumps(settings, indent=1) + "\n").encode(), folder / SETTINGS
    if not path.is_file() or path.read_bytes() != text:
        files.write_atomically(path, text)


def _stems(folder: Path, images: Iterable[Target | Explanation]) -> list[Path]:
    """A path without ending for each image: its id, or its id and a hash where that is taken or too long."""
    seen: set[str] = set()
    stems = []
    for image in images:
        name = Path(image.image_id).stem or "image"
        short = name.encode(errors="surrogateescape")[:LONGEST].decode(errors="ignore")
        if short != name or name in seen or name.startswith("grid-"):
            whole = f"{image.image_id} {image.path}".encode(errors="surrogateescape")
            name = f"{short}-{hashlib.sha256(whole).hexdigest()[:8]}"
        seen.add(name)
        stems.append(folder / name)
    return stems


def _paths(stem: Path) -> dict[str, str]:
    return {"figure": f"{stem}.png", "maps": f"{stem}.npz"}
