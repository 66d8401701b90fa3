"""The maps of one image, with everything needed to lay them on its original pixels, and their `.npz` file."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cxrfeat import _files as files
from cxrfeat._explain.boxes import Box
from cxrfeat._explain.geometry import Affine, compose, invert, on_pixels, resample, resized
from cxrfeat.errors import ExplainError, NotFoundError

FORMAT, FORMAT_VERSION = "cxrfeat-maps", 1


@dataclass(frozen=True)
class Grid:
    """Maps of one backbone.

    Attributes
    ----------
    backbone : str
        Its name.
    maps : float32 (labels, gh, gw)
        Signed, before any ReLU.
    to_image : float64 (2, 3)
        From (x, y) of a grid cell to (x, y) of a pixel of the original image, centres at whole numbers.
    """

    backbone: str
    maps: npt.NDArray[np.float32]
    to_image: Affine


@dataclass(frozen=True)
class Explanation:
    """What was found in one image.

    Attributes
    ----------
    image_id : str
        The id in the study, or the file's name.
    labels : tuple of str
        In the head's order.
    logits, probabilities : float64 (labels,)
        Raw logits and calibrated probabilities; NaN for labels the head has not learnt.
    method : str
        How the maps were computed.
    grids : tuple of Grid
        One per backbone.
    image_shape : (int, int)
        Height and width of the original, pixels.
    about : str
        Head, backbone and weights, for titles.
    random : bool
        Whether a backbone has random weights.
    smoothed : int
        Number of augmented renderings averaged with the clean one.
    truth : dict
        Label -> 1.0 or 0.0, where the study knows.
    boxes : tuple of (label, x, y, width, height)
        Known boxes, in pixels of the original image at hand.
    grey : uint8 (h, w) or None
        The decoded image, to draw on; it is not saved.
    note : str
        Why it was chosen, for the figure.
    focus : tuple of str
        The labels it was chosen for.
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
        """The signed map of a label on the original's pixels, float64 (h, w); or on a reduced copy of `shape`.

        Parameters
        ----------
        label : str
            One of `labels`.
        shape : (int, int), optional
            Height and width of a reduced copy of the image; by default the original's.
        """
        to = shape or self.image_shape
        affine = compose(resized(self.image_shape, to), self.to_image)
        return on_pixels(self.maps[self.index(label)], affine, to)

    def index(self, label: str) -> int:
        """Position of a label.

        Parameters
        ----------
        label : str
            One of `labels`.

        Raises
        ------
        ExplainError
            If the head does not know it.
        """
        if label not in self.labels:
            raise ExplainError(f"the head has no label {label!r}; it has {', '.join(self.labels)}.")
        return self.labels.index(label)

    def foremost(self, count: int) -> tuple[str, ...]:
        """The labels the image was chosen for, then those of the highest probabilities, `count` in all.

        Parameters
        ----------
        count : int
            How many labels.
        """
        order = [k for k in np.argsort(-self.probabilities, kind="stable") if np.isfinite(self.probabilities[k])]
        ranked = dict.fromkeys((*self.focus, *(self.labels[k] for k in order)))
        return tuple(ranked)[: max(count, len(self.focus))]

    def save(self, path: str | Path) -> Path:
        """Write the raw maps and their geometry as `.npz`, atomically. No pickle is needed to read it.

        Parameters
        ----------
        path : str or Path
            The file to write.
        """
        path = Path(path)
        about = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "image_id": self.image_id,
            "method": self.method,
            "about": self.about,
            "random": self.random,
            "smoothed": self.smoothed,
            "note": self.note,
            "focus": self.focus,
            "boxes": self.boxes,
            "backbones": [grid.backbone for grid in self.grids],
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
        """Read what `save` wrote.

        Parameters
        ----------
        path : str or Path
            The `.npz` file.

        Raises
        ------
        NotFoundError
            If it is not there.
        ExplainError
            If it is damaged or was not written by cxrfeat.
        """
        path = Path(path)
        if not path.is_file():
            raise NotFoundError(f"there is no map file {path}.")
        try:
            with np.load(path, allow_pickle=False) as found:
                about = json.loads(str(found["about"]))
                if about["format"] != FORMAT or about["format_version"] != FORMAT_VERSION:
                    raise ValueError(f"format {about['format']} version {about['format_version']}")
                grids = tuple(
                    Grid(name, found[f"maps_{k}"], found[f"grid_to_image_{k}"])
                    for k, name in enumerate(about["backbones"])
                )
                height, width = (int(side) for side in found["image_shape"])
                return cls(
                    about["image_id"],
                    tuple(str(label) for label in found["labels"]),
                    found["logits"],
                    found["probabilities"],
                    about["method"],
                    grids,
                    (height, width),
                    about["about"],
                    about["random"],
                    about["smoothed"],
                    boxes=tuple((str(n), float(x), float(y), float(w), float(h)) for n, x, y, w, h in about["boxes"]),
                    note=about["note"],
                    focus=tuple(about["focus"]),
                )
        except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise ExplainError(f"{path} is no readable cxrfeat map file ({error}).") from error
