"""Do the maps depend on what was learnt? Head and backbone are randomised step by step, and maps compared.

A map that stays the same when the network forgets everything shows the image, not the evidence (Adebayo et al.,
"Sanity Checks for Saliency Maps", NeurIPS 2018).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxrfeat import _html as html
from cxrfeat._explain.explainer import Films, MethodName, films_of, open_method
from cxrfeat._explain.targets import Outcome, Target, choose_targets
from cxrfeat._heads import load_head
from cxrfeat._images.prepare import View
from cxrfeat._labels import choose
from cxrfeat._progress import Progress, silent
from cxrfeat._report.heat import scale
from cxrfeat._run import Run, load_run
from cxrfeat.errors import CxrfeatError, ExplainError

if TYPE_CHECKING:
    from cxrfeat._report.style import Drawing

Floats = npt.NDArray[np.float64]

LIMIT = 16
"""At most so many images: each step is a pass of all of them through the full graph."""

UNCHANGED = 0.5
"""Mean absolute rank correlation above which maps of a fully random network count as unchanged. Absolute, since a map
turned upside down shows the same pattern, only as evidence against (both are given by Adebayo et al.)."""


@dataclass(frozen=True)
class Sanity:
    """How far maps change as the network forgets.

    `steps` are `trained`, `head`, and the backbone's stages from the last to the first: what is random from there on
    up. `rank`, float64 (steps, maps), is Spearman's rank correlation of each signed map with the trained one's; `ssim`
    the structural similarity of their positive parts, NaN where both are empty. `example`, float64 (steps, gh, gw), has
    signed maps of the label and image in `example_of`.
    """

    steps: tuple[str, ...]
    rank: Floats
    ssim: Floats
    example: Floats
    example_of: tuple[str, str]
    images: int
    method: str
    run: Run

    def __repr__(self) -> str:
        return f"<Sanity check of {self.rank.shape[1]} maps of {self.images} images: {self.verdict}>"

    def _repr_html_(self) -> str:
        facts = {"head": self.run.describe(), "method": self.method, "images": self.images, "verdict": self.verdict}
        return html.page("Sanity check of maps", facts, self.to_frame().to_dict("records"))

    def to_frame(self) -> pd.DataFrame:
        """One row per step: mean rank correlation, its 10th and 90th percentile and mean absolute value, similarity."""
        names = [n if k == 0 else f"{n} random" if k == 1 else f"down to {n}" for k, n in enumerate(self.steps)]
        return pd.DataFrame(
            {
                "step": names,
                "rank correlation": np.nanmean(self.rank, axis=1),
                "10 %": np.nanpercentile(self.rank, 10, axis=1),
                "90 %": np.nanpercentile(self.rank, 90, axis=1),
                "absolute": np.nanmean(np.abs(self.rank), axis=1),
                "ssim": [row[np.isfinite(row)].mean() if np.isfinite(row).any() else np.nan for row in self.ssim],
            }
        )

    def plot(self) -> Drawing:
        """The similarities at each step and one map at each, as a matplotlib figure."""
        from cxrfeat._report import map_checks

        return map_checks.sanity(self)

    def save(self, folder: str | Path | None = None) -> list[Path]:
        """Write the figure and its data as `gradcam-sanity.*`, by default to `figures` in the run."""
        to = Path(folder) if folder else self.run.path / "figures"
        return self.plot().save(to / "gradcam-sanity", overwrite=None if folder else True)

    @property
    def verdict(self) -> str:
        """One sentence."""
        head, whole = (float(np.nanmean(np.abs(self.rank[k]))) for k in (1, -1))
        said = "absolute rank correlation with the trained maps: "
        said += f"{head:.2f} with a random head, {whole:.2f} with all random"
        if whole > UNCHANGED:
            return f"The maps hardly depend on what was learnt ({said}); do not read them as evidence."
        if head > UNCHANGED:
            return f"The maps depend on the backbone more than on the head ({said}); they hardly differ between labels."
        return f"The maps depend on what was learnt ({said})."


def sanity_check(
    run: Run | str | Path | None = None,
    images: str | Path | Sequence[str | Path] | None = None,
    labels: str | Sequence[str] = (),
    *,
    show: Outcome | None = None,
    whole: bool = False,
    split: str = "test",
    limit: int = 4,
    method: MethodName = "auto",
    weights: str | Sequence[str] = (),
    seed: int = 0,
    progress: Progress = silent,
) -> Sanity:
    """Randomise the head, then the backbone from the top down, and compare the maps at each step with the trained ones.

    A map that stays the same when the network forgets everything shows the image, not the evidence (Adebayo et al.,
    "Sanity Checks for Saliency Maps", NeurIPS 2018).

    Parameters
    ----------
    run : Run or path, optional
        A run with a linear or Keras head, its folder, or its name under `runs/`; by default the newest.
    images, show, whole, split, limit
        As in `explain`; the first 16 images that can be read are used.
    labels : str or sequence of str
        By default all that the head has learnt.
    method : str
        As in `explain`; the closed form is computed by Grad-CAM here, which it equals.
    weights : str or sequence of str
        Weights file of each backbone, in order, if it is no longer where it was.
    seed : int
        Of what is drawn.
    progress : Progress
        Called after every step.

    Returns
    -------
    Sanity
        With a `verdict`, `to_frame`, `plot` and `save`.

    Raises
    ------
    ExplainError
        If no image can be read, or the head has no gradient.

    Examples
    --------
    >>> import cxrfeat as cxr
    >>> check = cxr.sanity_check(images="00004296_000.png", labels="Atelectasis")
    >>> check.to_frame()["step"].to_list()[:4]
    ['trained', 'head random', 'down to stride 32', 'down to stride 16']
    """
    from cxrfeat._explain.gradcam import cascade, stages_of

    run = load_run(run)
    labels = choose([labels] if isinstance(labels, str) else labels, run.labels)
    used, films = _readable(run, choose_targets(run, images, show, whole, labels, split, limit))
    head = load_head(run)
    gradients: Any = open_method(run, head, "gradcam" if method in ("auto", "cam") else method, weights)
    inputs = [
        np.stack([View.of(one[k].grey, recipe).render() for one in films]) for k, recipe in enumerate(run.recipes)
    ]
    chosen = [run.labels.index(label) for label in labels] or np.flatnonzero(head.fitted).tolist()
    total = len(stages_of(gradients)) + 1
    names, maps = ["trained"], [_maps(gradients, inputs, chosen)]
    progress(1, total, "trained")
    for name in cascade(gradients, seed + 1_000_003):  # far from the seeds that users give to random:SEED
        names.append(name)
        maps.append(_maps(gradients, inputs, chosen))
        progress(len(names), total, name)
    rank = np.array([[rank_correlation(m, t) for m, t in zip(step, maps[0], strict=True)] for step in maps])
    ssim = np.array([[similarity(m, t) for m, t in zip(step, maps[0], strict=True)] for step in maps])
    # Of the first image, the map of the label that it was chosen for.
    k = next((k for k, label in enumerate(chosen) if run.labels[label] in used[0].focus), 0)
    example, example_of = np.stack([step[k] for step in maps]), (run.labels[chosen[k]], used[0].image_id)
    return Sanity(tuple(names), rank, ssim, example, example_of, len(used), gradients.name, run)


def rank_correlation(a: Floats, b: Floats) -> float:
    """Spearman's rank correlation of two signed maps; NaN if one is constant."""
    from scipy.stats import rankdata

    x, y = (rankdata(m) - (m.size + 1) / 2 for m in (a, b))
    norm = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / norm if norm else float("nan")


def similarity(a: Floats, b: Floats) -> float:
    """Structural similarity of two maps' positive parts, each on its own scale, over the whole grid as one window.

    Wang, Bovik, Sheikh and Simoncelli, IEEE TIP 2004, equation 13, with K1 = 0.01 and K2 = 0.03. NaN where neither map
    has a positive cell: there is nothing to be similar.
    """
    if not (a > 0).any() and not (b > 0).any():
        return float("nan")
    x, y = (scale(m[None], "label").maps[0] for m in (a, b))
    c1, c2 = 0.01**2, 0.03**2
    covariance = ((x - x.mean()) * (y - y.mean())).mean()
    luminance = (2 * x.mean() * y.mean() + c1) / (x.mean() ** 2 + y.mean() ** 2 + c1)
    return float(luminance * (2 * covariance + c2) / (x.var() + y.var() + c2))


def _readable(run: Run, targets: Sequence[Target]) -> tuple[list[Target], list[Films]]:
    used, films = [], []
    problem: CxrfeatError | None = None
    for target in targets[:LIMIT]:
        try:
            films.append(films_of(target.path, run))
            used.append(target)
        except CxrfeatError as error:
            problem = error
    if not used:
        raise ExplainError(f"none of the images can be read{f': the last one {problem}' if problem else '.'}")
    return used, films


def _maps(method: Any, inputs: Sequence[npt.NDArray[Any]], chosen: Sequence[int]) -> list[Floats]:
    """Signed maps (gh, gw), of every backbone on its own grid, of every image, of every chosen label."""
    return [one for part in method(inputs).parts for image in part[:, list(chosen)] for one in image]
