"""A run, opened to explain images: the right method for its head, batches, smoothing, and the check against the cache.

Every image goes through the same `_images.prepare` that extraction used, and the probability of the full graph must be
the one predicted from the cached embedding: a map of another network explains nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from cxrfeat._backbones import open_engine, weights_for
from cxrfeat._backbones.weights import Weights
from cxrfeat._explain.cam import ClosedForm, Method
from cxrfeat._explain.explanation import CENTRED, LOGIT, PROBABILITY, Explanation, Grid
from cxrfeat._explain.geometry import average, check_shape, compose, grid_to_input, rendering
from cxrfeat._explain.targets import Target, on_image
from cxrfeat._heads import Head, load_head
from cxrfeat._images.choices import FILTERS
from cxrfeat._images.decode import Film, decode_film, read_bytes
from cxrfeat._images.prepare import View
from cxrfeat._precision import PRECISIONS
from cxrfeat._remote import Place
from cxrfeat._run import Run
from cxrfeat.errors import CxrfeatError, ExplainError, WeightsError

MethodName = Literal["auto", "cam", "gradcam", "gradcam++", "hirescam", "paper"]
METHODS: tuple[str, ...] = get_args(MethodName)
BATCH, SEED = 16, 0
"""Images in memory at a time, and the seed of the renderings that `smooth` averages."""

Films: TypeAlias = Sequence[Film]
"""One image, decoded as the recipe of each backbone says."""


@dataclass(frozen=True)
class Failure:
    """An image that could not be explained, and why."""

    target: Target
    error: CxrfeatError

    def __str__(self) -> str:
        return f"{self.target.image_id}: {self.error}"


class Explainer:
    """Explains images by the head of one run, `BATCH` of them in memory at a time; parameters as in `explain`."""

    def __init__(
        self,
        run: Run,
        method: MethodName = "auto",
        weights: str | Sequence[str] = (),
        engine: str = "auto",
        smooth: int = 0,
    ) -> None:
        self.run, self.smooth = run, smooth
        self.head = load_head(run)
        self.method = open_method(run, self.head, method, weights, engine)
        self.of = what(self.head, self.method.name)

    def explain(self, targets: Iterable[Target]) -> Iterator[Explanation | Failure]:
        """Explain images in order; one that cannot be explained is returned as a Failure."""
        with ThreadPoolExecutor(2) as readers:
            waiting = iter(targets)
            ahead = [readers.submit(self._decoded, target) for target in islice(waiting, BATCH)]
            while ahead:
                # The next batch is decoded while this one is in the network.
                following = islice(waiting, BATCH)
                now, ahead = ahead, [readers.submit(self._decoded, target) for target in following]
                decoded = [future.result() for future in now]
                good = [one for one in decoded if not isinstance(one, Failure)]
                made = iter(self._explained(good) if good else ())
                yield from (one if isinstance(one, Failure) else next(made) for one in decoded)

    def _decoded(self, target: Target) -> tuple[Target, Films] | Failure:
        """An image as every backbone's recipe decodes it."""
        try:
            films = films_of(target.path, self.run)
            check_shape(films[0].grey.shape)
            return target, films
        except CxrfeatError as error:
            return Failure(target, error)

    def _explained(self, decoded: Sequence[tuple[Target, Films]]) -> list[Explanation | Failure]:
        recipes, targets = self.run.recipes, [target for target, _ in decoded]
        views = [[View.of(f.grey, r) for f, r in zip(films, recipes, strict=True)] for _, films in decoded]
        clean, *others = (self._evidence(targets, views, number) for number in range(self.smooth + 1))
        parts = [clean.parts, *(evidence.parts for evidence in others)]
        logits = self._known(clean)
        probabilities = self.head.from_logits(logits)
        for one in parts:
            for part in one:
                part[np.isnan(logits)] = np.nan
        results: list[Explanation | Failure] = []
        for row, (target, (film, *_)) in enumerate(decoded):
            grey = film.grey
            try:
                self._check(target, probabilities[row])
                grids = self._grids(target, views[row], [[part[row] for part in one] for one in parts])
                results.append(
                    Explanation(
                        target.image_id, self.run.labels, logits[row], probabilities[row], self.method.name, grids,
                        (grey.shape[0], grey.shape[1]), self.run.describe(), self.run.random, self.smooth,
                        dict(target.truth), on_image(target.boxes, grey.shape), grey, target.note, target.focus,
                        self.of, target.path, film={**film.facts, "voi": film.voi}, voi=recipes[0].voi,
                    )
                )  # fmt: skip
            except CxrfeatError as error:
                results.append(Failure(target, error))
        return results

    def _evidence(self, targets: Sequence[Target], views: Sequence[Sequence[View]], number: int) -> Any:
        """One forward pass over all images, clean (0) or in their augmented rendering of that number."""
        ids = [target.image_id for target in targets]
        return self.method(
            [
                np.stack([rendering(r, i, one[k], SEED, number) for i, one in zip(ids, views, strict=True)])
                for k, r in enumerate(self.run.recipes)
            ]
        )

    def _known(self, clean: Any) -> npt.NDArray[np.float64]:
        """Logits of the full graph, NaN for unlearnt labels, once they are found equal to the head's own.

        Of a softmax head only differences between labels are known: the logits less their mean over the labels.
        """
        own = self.head.logits(clean.embedding)
        graph = np.where(np.isnan(own), np.nan, clean.logits)
        if self.head.softmax:
            own, graph = (z - np.nanmean(z, axis=1, keepdims=True) for z in (own, graph))
        difference = np.abs(graph - own)
        allowed = 1e-3 * np.maximum(1.0, np.abs(own))
        if np.nanmax(np.where(np.isnan(own), 0.0, difference - allowed)) > 0:
            row, label = np.unravel_index(np.nanargmax(np.where(np.isnan(own), -1.0, difference)), own.shape)
            raise ExplainError(
                f"the full graph's logit of {self.run.labels[label]} is {graph[row, label]:.6f} and the head's own is "
                f"{own[row, label]:.6f}: they are not the same head."
            )
        return graph

    def _check(self, target: Target, probabilities: npt.NDArray[np.float64]) -> None:
        """Compare with the probabilities predicted from the cached embedding."""
        allowed = max(PRECISIONS[recipe.precision].probability for recipe in self.run.recipes)
        for label, cached in target.predicted.items():
            full = float(probabilities[self.run.labels.index(label)])
            if not abs(full - cached) <= allowed:
                raise ExplainError(
                    f"{label} has p={full:.4f} on the full graph and p={cached:.4f} from the cached embedding: the "
                    "weights or the image are not those of the run. Name the run's weights by `weights`, or extract "
                    "again."
                )

    def _grids(
        self, target: Target, views: Sequence[View], passes: Sequence[Sequence[npt.NDArray[np.float64]]]
    ) -> tuple[Grid, ...]:
        grids = []
        for k, (recipe, view) in enumerate(zip(self.run.recipes, views, strict=True)):
            maps = average(recipe, target.image_id, view, SEED, [one[k] for one in passes])
            to_image = compose(view.geometry_of(), grid_to_input(recipe.backbone, recipe.size))
            grids.append(Grid(recipe.backbone, maps.astype(np.float32), to_image, view.seen))
        return tuple(grids)


def films_of(path: Place, run: Run) -> Films:
    """Decode an image as the recipe of each of a run's backbones says."""
    data = read_bytes(path)
    films = {voi: decode_film(data, voi) for voi in {recipe.voi for recipe in run.recipes}}
    return [films[recipe.voi] for recipe in run.recipes]


def open_method(
    run: Run, head: Head, method: str = "auto", weights: str | Sequence[str] = (), engine: str = "auto"
) -> Method:
    """Open the method for a head: engines for the closed form, the full Keras graph for gradients."""
    if method not in METHODS:
        raise ExplainError(f"unknown `method` {method!r}; choose {', '.join(METHODS)}.")
    linear, network = head.linear, head.network
    if linear is None and network is None:
        raise ExplainError(
            f"the {run.kind} head of run {run.name} has no gradient, so it has no maps. Linear heads (such as "
            "logistic) and Keras heads have."
        )
    if method == "cam" and linear is None:
        raise ExplainError(
            f"the closed form needs a linear head, and the {run.kind} head of run {run.name} has hidden layers; use "
            "`method=gradcam`."
        )
    found = weights_of(run, weights)
    if linear is not None and method in ("auto", "cam"):
        engines = [
            open_engine(recipe, weights, engine, ("embedding", "map"))
            for recipe, weights in zip(run.recipes, found, strict=True)
        ]
        coef, intercept = linear
        if head.softmax:
            coef, intercept = coef - np.nanmean(coef, axis=0), intercept - np.nanmean(intercept)
        return ClosedForm(engines, coef, intercept)
    if reduced := next((recipe.precision for recipe in run.recipes if recipe.precision != "float32"), ""):
        raise ExplainError(
            f"run {run.name} has {reduced} embeddings, and gradients are computed in float32: they would explain "
            "another network. `method=cam` explains a linear head in every precision."
        )
    from cxrfeat._backbones import registry
    from cxrfeat._backbones.graph import keras_graph
    from cxrfeat._explain.gradcam import Gradients, dense, flat, score_of

    graphs = [
        keras_graph(registry.get(r.backbone), weights, r.preprocessing, r.size, FILTERS[r.interpolation].dtype)
        for r, weights in zip(run.recipes, found, strict=True)
    ]
    name = "gradcam" if method == "auto" else method
    join = dense(*linear) if linear is not None else flat(network)
    return Gradients(name, graphs, join, score_of(what(head, name), head.softmax, head.fitted))


def what(head: Head, method: str) -> str:
    """What the maps of a head are evidence for.

    The paper differentiates the network's output. One vector added to the weights of every label changes no probability
    of a softmax head, and every map of its logits: less their mean over the labels, logits and maps are determined.
    """
    return PROBABILITY if method == "paper" else CENTRED if head.softmax else LOGIT


def weights_of(run: Run, named: str | Sequence[str] | None) -> list[Weights]:
    """The weights of each recipe: from the files named, else by the recipe's own name for them."""
    given = [named] if isinstance(named, str) else named
    places: Sequence[str | None] = given or [None] * len(run.recipes)
    if len(places) != len(run.recipes):
        raise WeightsError(f"run {run.name} has {len(run.recipes)} backbones; name the `weights` of each, in order.")
    return [weights_for(recipe, place) for recipe, place in zip(run.recipes, places, strict=True)]
