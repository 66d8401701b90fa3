"""Do the maps depend on what was learnt? Head and backbone are randomised step by step, and maps compared.

A map that stays the same when the network forgets everything shows the image, not the evidence (Adebayo et al.,
"Sanity Checks for Saliency Maps", NeurIPS 2018).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cxrfeat._explain.explainer import MethodName, open_method
from cxrfeat._explain.scale import scale
from cxrfeat._explain.smooth import renderings
from cxrfeat._explain.targets import Target
from cxrfeat._heads import load_head
from cxrfeat._images.decode import read_grey
from cxrfeat._labels import choose
from cxrfeat._progress import Progress, silent
from cxrfeat._run import Run
from cxrfeat.errors import CxrfeatError, ExplainError

Floats = npt.NDArray[np.float64]

LIMIT = 16
"""At most so many images: each step is a pass of all of them through the full graph."""

UNCHANGED = 0.5
"""Mean absolute rank correlation above which maps of a fully random network count as unchanged. Absolute, since a map
turned upside down shows the same pattern, only as evidence against (both are given by Adebayo et al.)."""


@dataclass(frozen=True)
class Sanity:
    """How far maps change.

    Attributes
    ----------
    steps : tuple of str
        `trained`, `head`, `conv5`, ..., `conv1`: what is random from there on up.
    rank : float64 (steps, maps)
        Spearman's rank correlation of each signed map with the trained one's.
    ssim : float64 (steps, maps)
        Structural similarity of their positive parts; NaN where both are empty.
    example : float64 (steps, gh, gw)
        Signed maps of one label in one image.
    example_of : tuple (label, Target, grey)
        Which.
    images, method : int, str
        How many images, and how maps were computed.
    """

    steps: tuple[str, ...]
    rank: Floats
    ssim: Floats
    example: Floats
    example_of: tuple[str, Target, npt.NDArray[np.uint8]]
    images: int
    method: str

    @property
    def verdict(self) -> str:
        """One sentence."""
        head, whole = (float(np.nanmean(np.abs(self.rank[k]))) for k in (1, -1))
        said = "absolute rank correlation with the trained maps: "
        said += f"{head:.2f} with a random head, {whole:.2f} with all random"
        if whole > UNCHANGED:
            return f"The maps hardly depend on what was learnt ({said}); do not read them as evidence."
        if head > UNCHANGED:
            return f"The maps depend on the backbone more than on the head ({said}); labels are poorly told apart."
        return f"The maps depend on what was learnt ({said})."


def sanity_check(
    run: Run,
    targets: Sequence[Target],
    labels: Sequence[str] = (),
    method: MethodName = "auto",
    weights: Sequence[str] = (),
    seed: int = 0,
    progress: Progress = silent,
) -> Sanity:
    """Randomise head, then backbone from the top down, and compare the maps at each step with the trained ones.

    Parameters
    ----------
    run : Run
        With a linear or Keras head.
    targets : sequence of Target
        The first `LIMIT` that can be read are used.
    labels : sequence of str
        By default all that the head has learnt.
    method : str
        A method of `Explainer`; the closed form is computed by Grad-CAM here, which it equals.
    weights : sequence of str
        Where the weights of each backbone are, if they came from a file.
    seed : int
        Of what is drawn.
    progress : Progress
        Told after every step.

    Raises
    ------
    ExplainError
        If no image can be read, or the head has no gradient.
    """
    from cxrfeat._explain.gradcam_random import cascade, stages_of

    used, greys = _readable(targets)
    gradients: Any = open_method(run, load_head(run), "gradcam" if method in ("auto", "cam") else method, weights)
    inputs = [
        np.stack([renderings(recipe, t.image_id, g, 0, 0)[0] for t, g in zip(used, greys, strict=True)])
        for recipe in run.recipes
    ]
    chosen = [run.labels.index(label) for label in choose(labels, run.labels)] if labels else _learnt(gradients, inputs)
    total = len(stages_of(gradients)) + 1
    names, maps = ["trained"], [_maps(gradients, inputs, chosen)]
    progress(1, total, "trained")
    for name in cascade(gradients, seed + 1_000_003):  # far from the seeds that users give to random:SEED
        names.append(name)
        maps.append(_maps(gradients, inputs, chosen))
        progress(len(names), total, name)
    rank = np.array([[rank_correlation(m, t) for m, t in zip(step, maps[0], strict=True)] for step in maps])
    ssim = np.array([[similarity(m, t) for m, t in zip(step, maps[0], strict=True)] for step in maps])
    example_of = (run.labels[chosen[0]], used[0], greys[0])
    return Sanity(tuple(names), rank, ssim, np.stack([step[0] for step in maps]), example_of, len(used), gradients.name)


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


def _readable(targets: Sequence[Target]) -> tuple[list[Target], list[npt.NDArray[np.uint8]]]:
    used, greys = [], []
    problem: CxrfeatError | None = None
    for target in targets[:LIMIT]:
        try:
            greys.append(read_grey(target.path))
            used.append(target)
        except CxrfeatError as error:
            problem = error
    if not used:
        raise ExplainError(f"none of the images can be read{f': the last {problem}' if problem else '.'}")
    return used, greys


def _maps(method: Any, inputs: Sequence[npt.NDArray[np.uint8]], chosen: Sequence[int]) -> list[Floats]:
    """Signed maps (gh, gw), of every backbone on its own grid, of every image, of every chosen label."""
    return [one for part in method(inputs).parts for image in part[:, list(chosen)] for one in image]


def _learnt(method: Any, inputs: Sequence[npt.NDArray[np.uint8]]) -> list[int]:
    """Labels whose maps are not the zero maps of an unlearnt label."""
    parts = method([batch[:1] for batch in inputs]).parts
    return [k for k in range(parts[0].shape[1]) if any(np.any(part[0, k] != 0) for part in parts)]
