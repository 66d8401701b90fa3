"""The maps of one image, with everything needed to lay them on its original pixels, and their `.npz` file."""

from __future__ import annotations

import base64
import json
import struct
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cxrfeat import _files as files
from cxrfeat import _html as html
from cxrfeat._explain.geometry import Affine, compose, invert, on_pixels, resample, resized
from cxrfeat._images.decode import read_grey
from cxrfeat._remote import Place
from cxrfeat.errors import ExplainError, NotFoundError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Box = tuple[str, float, float, float, float]
"""Label, x, y, width, height, in pixels of the image; x and y are the outer edge of the first pixel."""

FORMAT, FORMAT_VERSION = "cxrfeat-maps", 2
SHOWN = 4
"""Images in the HTML of a notebook."""
LOGIT, CENTRED, PROBABILITY = "logit", "logit less the mean over labels", "probability"
_ABOUT = (
    "image_id", "method", "of", "about", "random", "smoothed", "note", "focus", "boxes", "panel_sha256", "film",
)  # fmt: skip
# What reading a damaged archive raises, on the way from its directory to its arrays and its JSON.
_DAMAGED = (
    AttributeError, EOFError, IndexError, KeyError, MemoryError, NotImplementedError, OSError, RuntimeError,
    TypeError, ValueError, struct.error, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


@dataclass(frozen=True)
class Grid:
    """Maps of one backbone: signed, float32 (labels, gh, gw), before any ReLU, and where they lie.

    `to_image` is the affine (2, 3) from (x, y) of a cell to (x, y) of a pixel of the original, centres at whole
    numbers. `seen` is what the network saw of the original: left, top, right and bottom, None for all of it.
    """

    backbone: str
    maps: npt.NDArray[np.float32]
    to_image: Affine
    seen: tuple[float, float, float, float] | None = None


@dataclass(frozen=True)
class Explanation:
    """What was found in one image.

    Labels, raw logits (of a softmax head less their mean over the labels) and calibrated probabilities are float64
    (labels,) in the head's order, NaN for labels that the head has not learnt. `image_shape` is (h, w) of the original,
    `smoothed` the number of augmented renderings averaged with the clean one, `truth` what the study knows (1.0 or
    0.0), `boxes` are in pixels of the image, `focus` are the labels it was chosen for and `note` says why, `of` is what
    the maps are evidence for. `grey` is the decoded image, uint8 (h, w), or None: then it is read again from `path` to
    draw on. Neither is saved. `film` is what the file says of the image, as `spacing_mm` of its rows and columns; `voi`
    is the rule it was decoded by.
    """

    image_id: str
    labels: tuple[str, ...]
    logits: npt.NDArray[np.float64]
    probabilities: npt.NDArray[np.float64]
    method: str
    grids: tuple[Grid, ...]
    image_shape: tuple[int, int]
    about: str = ""
    random: bool = False
    smoothed: int = 0
    truth: dict[str, float] = field(default_factory=dict)
    boxes: tuple[Box, ...] = ()
    grey: npt.NDArray[np.uint8] | None = None
    note: str = ""
    focus: tuple[str, ...] = ()
    of: str = LOGIT
    path: Place | None = None
    panel_sha256: str = ""
    film: dict[str, Any] = field(default_factory=dict)
    voi: str = "file"

    def __repr__(self) -> str:
        best = ", ".join(f"{name} {self.probabilities[self.index(name)]:.3f}" for name in self.foremost(2))
        grids = " + ".join(f"{g.backbone} {g.maps.shape[2]}x{g.maps.shape[1]}" for g in self.grids)
        return f"<Explanation of {self.image_id}: {len(self.labels)} maps by {self.method} on {grids}; {best}>"

    def _repr_html_(self) -> str:
        return panel_html([self])

    @property
    def to_image(self) -> Affine:
        """Affine from the grid of `maps` to pixels of the original."""
        return self.grids[0].to_image

    @property
    def maps(self) -> npt.NDArray[np.float64]:
        """Signed maps (labels, gh, gw): the backbone's own, or the mean over the backbones on the first one's grid."""
        first, *others = self.grids
        on_first = [first.maps.astype(np.float64)]
        for grid in others:
            affine = compose(invert(grid.to_image), first.to_image)
            # Two backbones' cells lie half a cell apart: the outermost of one may lie beyond the other's.
            sampled = resample(grid.maps, affine, first.maps.shape[1:])
            on_first.append(np.where(np.isnan(sampled), on_first[0], sampled))
        return np.mean(on_first, axis=0)

    def on_image(self, label: str, shape: tuple[int, int] | None = None) -> npt.NDArray[np.float64]:
        """The signed map of a label on the original's pixels, float64 (h, w), or on a reduced copy of `shape`."""
        return self.on_copy(self.maps[self.index(label)], shape or self.image_shape)

    def on_copy(
        self, cells: npt.NDArray[np.float64], shape: tuple[int, int], grid: Grid | None = None
    ) -> npt.NDArray[np.float64]:
        """Cells (..., gh, gw) of a grid, by default that of `maps`, on a copy of the image of `shape` (h, w), float64.

        What the network of the grid did not see is 0: it is no evidence.
        """
        affine = (grid or self.grids[0]).to_image
        found = on_pixels(cells, compose(resized(self.image_shape, shape), affine), shape)
        found[..., self.unseen(shape, grid)] = 0.0
        return found

    def unseen(self, shape: tuple[int, int], grid: Grid | None = None) -> npt.NDArray[np.bool_]:
        """What the network of a grid, by default the first, did not see of a copy of `shape` (h, w), bool (h, w)."""
        seen = (grid or self.grids[0]).seen
        unseen = np.full(shape, seen is not None)
        if seen is not None:
            corners = np.array([[*seen[:2], 1], [*seen[2:], 1]]) - [0.5, 0.5, 0]  # outer edges
            (left, top), (right, bottom) = np.rint(corners @ resized(self.image_shape, shape).T + 0.5).astype(int)
            unseen[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = False
        return unseen

    def pixels(self) -> npt.NDArray[np.uint8]:
        """The decoded image, uint8 (h, w): `grey`, or read again from `path`."""
        if self.grey is not None:
            return self.grey
        if self.path is None:
            raise ExplainError(f"{self.image_id}: these maps came from a file, which has no pixels to draw on.")
        return read_grey(self.path, self.voi)

    def plot(self, labels: Sequence[str] = (), top: int = 4) -> Figure:
        """The panel of these labels, by default the `top` most probable, as a matplotlib figure."""
        from cxrfeat._report import panels

        return panels.page([self], labels, top).figure()

    def index(self, label: str) -> int:
        """Position of a label; an ExplainError if the head does not have it."""
        if label not in self.labels:
            raise ExplainError(f"the head has no label {label!r}; it has {', '.join(self.labels)}.")
        return self.labels.index(label)

    def foremost(self, count: int) -> tuple[str, ...]:
        """The labels the image was chosen for, then those of the highest probabilities, `count` in all."""
        order = [k for k in np.argsort(-self.probabilities, kind="stable") if np.isfinite(self.probabilities[k])]
        ranked = dict.fromkeys((*self.focus, *(self.labels[k] for k in order)))
        return tuple(ranked)[: max(count, len(self.focus))]

    def save(self, path: str | Path) -> Path:
        """Write the raw maps and their geometry as `.npz`, atomically.

        No pickle is needed to read it.
        """
        path = Path(path)
        about = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "backbones": [grid.backbone for grid in self.grids],
            "seen": [grid.seen for grid in self.grids],
            **{name: getattr(self, name) for name in _ABOUT},
        }
        arrays: dict[str, Any] = {
            "about": np.array(json.dumps(about, sort_keys=True)),
            "labels": np.array(self.labels),
            "logits": self.logits,
            "probabilities": self.probabilities,
            "maps": self.maps.astype(np.float32),
            "grid_to_image": self.to_image,
            "image_shape": np.array(self.image_shape),
        }
        for k, grid in enumerate(self.grids):
            arrays[f"maps_{k}"], arrays[f"grid_to_image_{k}"] = grid.maps, grid.to_image
        with files.atomic_path(path) as part:
            np.savez_compressed(part, **arrays)
        return path

    @classmethod
    def load(cls, path: str | Path) -> Explanation:
        """Read what `save` wrote, in this version or an earlier one.

        An ExplainError if it is damaged, newer, or was not written by cxrfeat.
        """
        return _read(Path(path))


def _read(path: Path) -> Explanation:
    if not path.is_file():
        raise NotFoundError(f"there is no map file {path}.")
    try:
        with np.load(path, allow_pickle=False) as found:
            about = json.loads(str(found["about"]))
            if about["format"] != FORMAT:
                raise ValueError(f"its format is {about['format']!r}")
            if about["format_version"] not in range(1, FORMAT_VERSION + 1):
                raise ExplainError(
                    f"{path} has version {about['format_version']} of the map format, and this cxrfeat reads up to "
                    f"{FORMAT_VERSION}; upgrade cxrfeat."
                )
            seen = about.get("seen") or [None] * len(about["backbones"])
            grids = tuple(
                Grid(str(name), found[f"maps_{k}"], found[f"grid_to_image_{k}"], _box(seen[k]))
                for k, name in enumerate(about["backbones"])
            )
            labels = tuple(str(label) for label in found["labels"])
            logits, probabilities = found["logits"], found["probabilities"]
            height, width = (int(side) for side in found["image_shape"])
        if {len(grid.maps) for grid in grids} | {*logits.shape, *probabilities.shape} != {len(labels)}:
            raise ValueError("its arrays do not fit together")
        return Explanation(
            str(about["image_id"]), labels, logits, probabilities, str(about["method"]), grids, (height, width),
            str(about["about"]), bool(about["random"]), int(about["smoothed"]),
            boxes=tuple((str(n), float(x), float(y), float(w), float(h)) for n, x, y, w, h in about["boxes"]),
            note=str(about["note"]), focus=tuple(about["focus"]),
            of=str(about.get("of", LOGIT)), panel_sha256=str(about.get("panel_sha256", "")),  # version 1 has neither
            film=dict(about.get("film", {})),
        )  # fmt: skip
    except ExplainError:
        raise
    except _DAMAGED as error:
        raise ExplainError(f"{path} is not a readable map file of cxrfeat: {error}.") from error


def _box(edges: Sequence[float] | None) -> tuple[float, float, float, float] | None:
    if edges is None:
        return None
    left, top, right, bottom = (float(edge) for edge in edges)
    return left, top, right, bottom


def panel_html(
    explanations: Sequence[Explanation], labels: Sequence[str] = (), top: int = 4, scale: Any = "image"
) -> str:
    """A panel of at most `SHOWN` images as HTML with an embedded PNG; a table where the pixels are gone."""
    from cxrfeat._report import panels

    shown = list(explanations[:SHOWN])
    try:
        png = panels.page(shown, labels, top, scale).png()
    except ExplainError:
        return html.page("Maps", rows=[{"image": e.image_id, "method": e.method, "about": e.about} for e in shown])
    uri = base64.b64encode(png).decode()
    more = f"<p>and {len(explanations) - len(shown)} more</p>" if len(explanations) > len(shown) else ""
    return f'<img src="data:image/png;base64,{uri}" alt="X-rays and maps" style="max-width: 100%">{more}'
