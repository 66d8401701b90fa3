"""`localize`: do the maps lie where the radiologists' boxes are? Beside three baselines, with intervals over patients.

The cut that turns a map into boxes is fixed in advance, or tuned on the boxes of another split.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxrfeat import _files as files
from cxrfeat import _html as html
from cxrfeat._datasets.boxes import boxes_of
from cxrfeat._explain.detection import NAMES, Floats
from cxrfeat._explain.explainer import Explainer, MethodName
from cxrfeat._explain.scoring import KINDS, Found, resolution, score_split
from cxrfeat._progress import Progress, silent
from cxrfeat._run import Run, load_run
from cxrfeat.errors import ExplainError, NotFoundError

if TYPE_CHECKING:
    from cxrfeat._report.style import Drawing

_log = logging.getLogger(__name__)

CUT = 0.5
"""Default cut: half the map's maximum, fixed in advance."""

CUTS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
"""What tuning chooses from."""

ALL = "all boxes"

TITLES = {
    "energy": "energy", "iobb@0.1": "IoBB .1", "iobb@0.25": ".25", "iobb@0.5": ".5", "iobb@0.75": ".75",
    "iou@0.1": "IoU .1", "iou@0.25": " .25", "iou@0.5": " .5", "false boxes": "false",
}  # fmt: skip
"""Measures in tables to read; JSON and CSV have all of them."""


@dataclass(frozen=True)
class Localization:
    """How well the maps of a run find radiologists' boxes.

    `rows` has one row per label and kind of map, and one per kind over all boxes: `label`, `kind`, `boxes`, `images`,
    `patients`, and each measure as `value`, `low`, `high` of a 95 % interval over patients. `unknown` counts boxes of
    labels that the head does not have, `left_out` others by reason, `borrowed` those whose label no other patient has a
    box of, `failed` says why an image was not scored.
    """

    run: str
    about: str
    random: bool
    method: str
    split: str
    cut: float
    cut_how: str
    tolerance: float
    boxes: int
    images: int
    patients: int
    empty_maps: int
    borrowed: int
    unknown: dict[str, int]
    left_out: dict[str, int]
    failed: dict[str, str]
    note: str
    rows: list[dict[str, Any]]
    folder: Path

    def __repr__(self) -> str:
        hits = ", ".join(f"{r['kind']} {r['pointing']['value']:.2f}" for r in self.rows if r["label"] == ALL)
        return (
            f"<Localization of run {self.run}: {self.boxes} boxes in {self.images} images of {self.patients} patients; "
            f"pointing game: {hits}>"
        )

    def _repr_html_(self) -> str:
        facts = {
            "head": self.about, "method": self.method, "split": self.split, "boxes": self.boxes, "images": self.images,
            "patients": self.patients, "note": self.note,
        }  # fmt: skip
        return html.page("Maps against radiologists' boxes", facts, self.to_read())

    def to_read(self) -> list[dict[str, Any]]:
        """The rows as people read them: the pointing game with its interval, and what `TITLES` names."""
        return [
            {"label": row["label"], "by": row["kind"], "boxes": row["boxes"], "pointing": row["pointing"]["value"],
             "95 %": _span(row["pointing"]), **{title: row[name]["value"] for name, title in TITLES.items()}}
            for row in self.rows
        ]  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Everything but the folder, as JSON holds it."""
        return {key: value for key, value in asdict(self).items() if key != "folder"}

    def to_frame(self) -> pd.DataFrame:
        """One row per label and kind of map, each measure with its interval's ends in columns `low` and `high`."""
        return pd.json_normalize(self.rows, sep=" ").rename(columns=lambda name: name.removesuffix(" value"))

    def plot(self) -> Drawing:
        """The pointing game per label, beside the baselines, as a matplotlib figure."""
        from cxrfeat._report import map_checks

        return map_checks.localization(self)

    def save(self, folder: str | Path | None = None) -> list[Path]:
        """Write `localize.json`, and the figure with its CSV under `figures/`, by default in the run's folder."""
        from cxrfeat._report import tables

        to = Path(folder) if folder else self.folder
        files.check_output(to / "localize.json", begins=b"{", overwrite=None)
        written = self.plot().save(to / "figures" / "localize", overwrite=None if folder else True)
        return [files.write_atomically(to / "localize.json", tables.json_text(self.to_dict())), *written]


def localize(
    run: Run | str | Path | None = None,
    boxes: str | Path | None = None,
    *,
    split: str = "test",
    method: MethodName = "auto",
    smooth: int = 0,
    cut: float = CUT,
    tune_on: str | None = None,
    tolerance: float = 0.0,
    weights: str | Sequence[str] = (),
    engine: str = "auto",
    seed: int = 0,
    progress: Progress = silent,
) -> Localization:
    """Score where the maps lie against radiologists' boxes, beside three baselines.

    The pointing game, the energy inside the box, and boxes found at IoBB and IoU of at least T (Wang et al. 2017), each
    with a 95 % interval over patients. A random map, a centre prior and the mean box of the label (of other patients)
    are scored on the same boxes.

    Parameters
    ----------
    run : Run or path, optional
        A run, its folder, or its name under `runs/`; by default the newest.
    boxes : path, optional
        Box list; by default that of the study's dataset.
    split : str
        The split whose boxed images are scored.
    method, smooth, weights, engine
        As in `explain`.
    cut : float
        Fraction of a map's maximum above which a pixel belongs to a found box.
    tune_on : str, optional
        A split whose boxes choose the cut; not the one that is scored.
    tolerance : float
        Pixels of the original by which a map's maximum may miss a box in the pointing game.
    seed : int
        Of the random maps.
    progress : Progress
        Called after every image.

    Returns
    -------
    Localization
        With `rows`, `to_frame`, `plot` and `save`.

    Raises
    ------
    ExplainError
        If no box can be scored, or the cut would be tuned on what is scored.
    NotFoundError
        If there is no box list.

    Examples
    --------
    The newest run, on the boxes that come with the sample:

    >>> import cxrfeat as cxr
    >>> scores = cxr.localize()
    >>> scores
    <Localization of run ...: 27 boxes in 23 images of ... patients; pointing game: map 0...>
    >>> table = scores.to_frame()
    >>> table.loc[table["label"] == "all boxes", "kind"].to_list()
    ['map', 'random map', 'centre prior', 'mean box']
    """
    opened = load_run(run)
    if not 0 < cut < 1:
        raise ExplainError(f"`cut` is a fraction of the map's maximum between 0 and 1, not {cut}.")
    if tune_on == split:
        raise ExplainError(f"the cut cannot be tuned on split {split!r}, which is scored; name another, such as val.")
    table = boxes_of(opened.study(), boxes)
    if table is None:
        raise NotFoundError("the dataset of the run's study has no box list beside its images; name one by `boxes`.")
    explainer = Explainer(opened, method, weights, engine, smooth=smooth)
    return score_boxes(opened, table, explainer, split, cut, tune_on, tolerance, seed, progress)


def score_boxes(
    run: Run,
    boxes: pd.DataFrame,
    explainer: Explainer,
    split: str = "test",
    cut: float = CUT,
    tune_on: str | None = None,
    tolerance: float = 0.0,
    seed: int = 0,
    progress: Progress = silent,
) -> Localization:
    """Score with an explainer that is open, and a box table; see `localize`."""
    how = "fixed in advance"
    if tune_on:
        cut = tune(run, boxes, explainer, tune_on)
        how = f"tuned on the boxes of split {tune_on!r}"
    found = score_split(run, boxes, explainer, split, [cut], tolerance, seed, progress)[cut]
    if found.rows.empty:
        raise ExplainError(_nothing(found, f"split {split!r} of study {run.study().name!r}"))
    for label, count in found.unknown.items():
        _log.warning("%d boxes of %s were not scored: the head has no such label.", count, label)
    for image_id, why in found.failed.items():
        _log.warning("%s: %s", image_id, why)
    maps = found.rows[found.rows["kind"] == KINDS[0]]
    return Localization(
        run.name, run.describe(), run.random, explainer.method.name, split, cut, how, tolerance, len(maps),
        int(maps["image_id"].nunique()), int(maps["patient_id"].nunique()), found.empty, found.borrowed, found.unknown,
        found.left_out, found.failed, resolution(run, boxes), summarise(found.rows, run.labels), run.path,
    )  # fmt: skip


def tune(run: Run, boxes: pd.DataFrame, explainer: Explainer, split: str) -> float:
    """The cut of `CUTS` with the most boxes found at IoU 0.1 and 0.25 together, on the boxes of a split."""
    tried = score_split(run, boxes, explainer, split, CUTS, baseline=False)
    values = {c: found.rows[["iou@0.1", "iou@0.25"]].to_numpy().mean() for c, found in tried.items() if len(found.rows)}
    if not values:
        raise ExplainError(f"split {split!r} has no box to tune the cut on; fix it by `cut`, as by default.")
    return max(values, key=lambda c: values[c])


def summarise(rows: pd.DataFrame, labels: Iterable[str]) -> list[dict[str, Any]]:
    """Means over boxes with intervals over patients, per label and over all boxes."""
    groups: list[tuple[str, pd.DataFrame]] = [(label, rows[rows["label"] == label]) for label in labels]
    groups = [(label, part) for label, part in groups if len(part)] + [(ALL, rows)]
    out = []
    for label, part in groups:
        for kind in dict.fromkeys(part["kind"]):
            mine = part[part["kind"] == kind]
            row: dict[str, Any] = {"label": label, "kind": kind, "boxes": len(mine)}
            row |= {"images": int(mine["image_id"].nunique()), "patients": int(mine["patient_id"].nunique())}
            for name in NAMES:
                value, low, high = interval(mine[name].to_numpy(dtype=float), mine["patient_id"].to_numpy())
                row[name] = {"value": value, "low": low, "high": high}
            out.append(row)
    return out


def interval(values: Floats, patients: npt.NDArray[Any]) -> tuple[float, float, float]:
    """Mean of the known values and its 95 % interval, boxes of one patient counting as one cluster.

    By the linearised variance of a ratio and Student's t over patients; for shares by Wilson's interval of the
    effective number of boxes, since a percentile bootstrap of few patients covers far less than it says and has no
    width where every box is found. NaN for fewer than 2 patients.
    """
    from scipy.stats import t

    known = ~np.isnan(values)
    values, cluster = values[known], np.unique(patients[known], return_inverse=True)[1]
    counts, sums = np.bincount(cluster), np.bincount(cluster, weights=values)
    n, total = len(counts), int(known.sum())
    if n < 2:
        return float(values.mean()) if total else math.nan, math.nan, math.nan
    mean = float(values.mean())
    variance, z = float(n / (n - 1) * ((sums - mean * counts) ** 2).sum() / total**2), float(t.ppf(0.975, n - 1))
    if variance > 0 and not np.isin(values, (0, 1)).all():
        half = z * math.sqrt(variance)
        return mean, max(mean - half, 0.0), mean + half
    if not 0 <= mean <= 1:
        return mean, math.nan, math.nan
    size = min(mean * (1 - mean) / variance, total) if variance > 0 else n
    middle, scale = mean + z**2 / (2 * size), 1 + z**2 / size
    half = z * math.sqrt(mean * (1 - mean) / size + z**2 / (4 * size**2))
    return mean, max((middle - half) / scale, 0.0), min((middle + half) / scale, 1.0)


def _span(measure: dict[str, float]) -> str:
    return "-" if math.isnan(measure["low"]) else f"{measure['low']:.2f}-{measure['high']:.2f}"


def _nothing(found: Found, where: str) -> str:
    why = [f"{count}: label {label} is not in the head" for label, count in found.unknown.items()]
    why += [f"{count}: {reason}" for reason, count in found.left_out.items()]
    failed = f" The first failure: {next(iter(found.failed.values()))}" if found.failed else ""
    return f"no box can be scored on {where} ({'; '.join(why) or 'the list is empty'}).{failed}"
