"""Two embedding files of the same images: how far apart their values are, and what that does to a head."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cxrfeat._evaluate.bootstrap import REPLICATES
from cxrfeat._evaluate.comparison import Comparison, compare
from cxrfeat._evaluate.scored import Scored
from cxrfeat._heads.base import Fitted, Head
from cxrfeat._heads.features import Features, Joined, prepare
from cxrfeat._heads.registry import head_class
from cxrfeat._heads.search import FOLDS, out_of_fold
from cxrfeat._heads.solver.rows import sigmoid
from cxrfeat._heads.weighting import weigh
from cxrfeat._progress import Progress, silent
from cxrfeat._recipe import Recipe
from cxrfeat._report import tables
from cxrfeat._run import Options
from cxrfeat._store import EmbeddingFile
from cxrfeat._study import Study
from cxrfeat.errors import EmbeddingFileError, HeadError

BLOCK = 4096  # rows held at a time
NEIGHBOURS, QUERIES = 10, 1000
KIND = "logistic"

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Distances:
    """How far apart pass 0 of two files is; the standard deviations and the lengths are those of each file's own.

    `over_sd` and `over_sd_worst` are the root mean square of a feature's difference over its standard deviation in the
    first file: the median over features, and the largest. `cosine` and `cosine_least` are between the two embeddings of
    an image: the median over images, and the least. `neighbours` is the share of the `k` nearest neighbours, by cosine,
    that both files give an image; the mean over `queries` images. `constant` features have no standard deviation.
    """

    over_sd: float
    over_sd_worst: float
    cosine: float
    cosine_least: float
    neighbours: float
    k: int
    queries: int
    constant: int


@dataclass(frozen=True, repr=False)
class Agreement(tables.Result):
    """What `cache.compare` returns: two embedding files of the same images. It prints as tables.

    Attributes
    ----------
    files : tuple of pathlib.Path
        The two files.
    recipes : tuple of Recipe
        Theirs.
    images, left_out : int
        Images in both files, and in only one of them.
    distances : Distances
        `over_sd`, `over_sd_worst`, `cosine`, `cosine_least` and `neighbours`.
    heads : Comparison or None
        With a study: heads on the second file against heads on the first, on the same images.
    """

    files: tuple[Path, Path]
    recipes: tuple[Recipe, Recipe]
    images: int
    left_out: int
    distances: Distances
    heads: Comparison | None

    @property
    def random(self) -> bool:
        """Whether a backbone had random weights, so that no AUROC here is a result."""
        return any(recipe.random for recipe in self.recipes)

    def title(self) -> str:
        """The files, the images, and in what their recipes differ."""
        a, b = self.files
        left = f" ({self.left_out:,} that are in one only left out)" if self.left_out else ""
        other = self.recipes[0].difference(self.recipes[1]) or "the recipes are the same"
        return f"{b} against {a}: pass 0 of {self.images:,} images{left}; {other}."

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """The distances, and what the heads compare to."""
        found = self.distances
        measures = {
            "difference over sd, median feature": f"{found.over_sd:.4g}",
            "difference over sd, worst feature": f"{found.over_sd_worst:.4g}",
            "cosine, median image": f"{found.cosine:.6f}",
            "cosine, worst image": f"{found.cosine_least:.6f}",
            f"same among {found.k} nearest neighbours": f"{found.neighbours:.1%}",
        }
        parts = {"": [{"measure": name, "value": text} for name, text in measures.items()]}
        return parts | ({self.heads.title(): self.heads.tables()[""]} if self.heads else {})

    def notes(self) -> list[str]:
        """What was left out, and the sentence on the heads."""
        constant = f"{self.distances.constant:,} features are constant in the first file and left out."
        return [constant] * bool(self.distances.constant) + (self.heads.notes() if self.heads else [])

    def problems(self) -> list[str]:
        """What the backbones have seen in pretraining."""
        return self.heads.problems() if self.heads else []

    def records(self) -> list[dict[str, Any]]:
        """Every number: one row for the distances, then those of the heads."""
        return [{"images": self.images} | asdict(self.distances), *(self.heads.records() if self.heads else [])]

    def to_dict(self) -> dict[str, Any]:
        return {
            "format": "cxrfeat-embeddings-comparison",
            "format_version": 1,
            "files": [str(path) for path in self.files],
            "recipes": [asdict(recipe) for recipe in self.recipes],
            "difference": self.recipes[0].difference(self.recipes[1]),
            "images": self.images,
            "left_out": self.left_out,
            "random_weights": self.random,
            "distances": asdict(self.distances),
            "heads": self.heads.to_dict() if self.heads else None,
        }


def agreement(
    a: Path, b: Path, study: Study | None, replicates: int = REPLICATES, seed: int = 0, progress: Progress = silent
) -> Agreement:
    """Compare two files; see `cxrfeat.cache.compare`."""
    with EmbeddingFile.open(a) as one, EmbeddingFile.open(b) as other:
        if one.dim != other.dim:
            raise EmbeddingFileError(
                f"{a} has embeddings of length {one.dim} and {b} of length {other.dim}: of two networks. Fit a head on "
                "each, and compare the runs with `cxrfeat compare`."
            )
        ids = one.image_ids[other.has(one.image_ids)]
        if len(ids) < 2:
            raise EmbeddingFileError(f"{a} and {b} have {len(ids)} images in common; a comparison needs at least 2.")
        found = _distances(one, other, ids, seed, progress)
        left_out, recipes = len(one) + len(other) - 2 * len(ids), (one.recipe, other.recipe)
    heads = None
    if study is not None:
        names = (a.stem, b.stem) if a.stem != b.stem else (str(a), str(b))
        shared = study.take(np.isin(study.ids, ids))
        scored = [_scored(shared, path, name, seed) for path, name in zip((a, b), names, strict=True)]
        heads = compare(*scored, replicates=replicates, seed=seed, progress=progress)
    return Agreement((a, b), recipes, len(ids), left_out, found, heads)


def _distances(
    one: EmbeddingFile, other: EmbeddingFile, ids: npt.NDArray[np.str_], seed: int, progress: Progress
) -> Distances:
    chosen = np.sort(np.random.default_rng(seed).permutation(len(ids))[:QUERIES])
    k = min(NEIGHBOURS, len(ids) - 1)
    queries = [_unit(file.to_numpy(ids[chosen])) for file in (one, other)]
    nearest = [(np.empty((len(chosen), 0), np.float32), np.empty((len(chosen), 0), np.int64)) for _ in queries]
    sums, cosines = np.zeros((3, one.dim)), np.empty(len(ids))
    shift = one.to_numpy(ids[:1]).astype(np.float64)  # so that sums of squares lose nothing to a large mean
    for (part, (x,)), (_, (y,)) in zip(one.batches(ids, rows=BLOCK), other.batches(ids, rows=BLOCK), strict=True):
        centred = x - shift
        sums += [centred.sum(axis=0), (centred**2).sum(axis=0), ((y.astype(np.float64) - x) ** 2).sum(axis=0)]
        units = _unit(x), _unit(y)
        cosines[part] = np.einsum("ij,ij->i", *units, dtype=np.float64)
        nearest = [
            _nearer(*near, query @ unit.T, part, chosen, k)
            for near, query, unit in zip(nearest, queries, units, strict=True)
        ]
        progress(part.stop, len(ids), "distances")
    mean, square, difference = sums / len(ids)
    sd, rms = np.sqrt(np.maximum(square - mean**2, 0)), np.sqrt(difference)
    over = rms[sd > 0] / sd[sd > 0]
    shared = [len(np.intersect1d(*rows)) for rows in zip(*(rows for _, rows in nearest), strict=True)]
    return Distances(
        over_sd=float(np.median(over)) if len(over) else np.nan,
        over_sd_worst=float(over.max()) if len(over) else np.nan,
        cosine=float(np.median(cosines)),
        cosine_least=float(cosines.min()),
        neighbours=float(np.mean(shared) / k),
        k=k,
        queries=len(chosen),
        constant=int((sd == 0).sum()),
    )


def _unit(x: Floats) -> Floats:
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), np.finfo(np.float32).tiny)


def _nearer(best: Floats, rows: Ints, cosines: Floats, part: slice, own: Ints, k: int) -> tuple[Floats, Ints]:
    """The `k` largest cosines of each query and their rows: of those known, and of a block of others but its own."""
    here = np.flatnonzero((own >= part.start) & (own < part.stop))
    cosines[here, own[here] - part.start] = -np.inf
    block = np.broadcast_to(np.arange(part.start, part.stop), cosines.shape)
    best, rows = np.hstack([best, cosines]), np.hstack([rows, block])
    kept = np.argpartition(best, -k, axis=1)[:, -k:]
    return np.take_along_axis(best, kept, 1), np.take_along_axis(rows, kept, 1)


def _scored(study: Study, path: Path, name: str, seed: int) -> Scored:
    """Scores by a logistic head on one file: of the test split, or cross-validated by patient if there is none."""
    if not study.labels:
        raise HeadError(f"study {study.name!r} has no labels; compare the files without it.")
    split, options = study.table["split"].to_numpy(dtype=str), Options(passes="0", seed=seed)
    tested = {"train", "test"} <= {*split.tolist()}
    learn = split == "train" if tested else np.ones(len(study), bool)
    with Features([path]) as features:
        usable = features.usable(study)
        train = study.take(learn)
        train = train.take(np.argsort(features.files[0].rows_of(train.ids), kind="stable"))  # in the file's order
        weighting = weigh(train.y, train.labels, "none")
        if not weighting.fittable.any():
            raise HeadError(f"no label of study {study.name!r} has positives and negatives in these images to fit on.")
        joined = Joined(usable, train, np.zeros(len(usable), bool), "", study.sha256)
        task, kind = prepare(features, joined, weighting, options, KIND), head_class(KIND)
        if tested:
            fitted = kind.fit(task, kind.settings({}))
            head: Head = fitted.head if isinstance(fitted, Fitted) else fitted
            head.fitted = weighting.fittable
            scored = study.split("test")
            logits = features.logits(head, scored.ids, False)
        else:
            scored, logits = train, out_of_fold(kind, task, {})
        recipe = features.recipes[0]
    about = {
        "split": "test" if tested else f"all images, in {FOLDS} folds by patient",
        "study": study.name,
        "head": f"{KIND} head on {recipe.pass0.describe()}",
        "recipes": [recipe.describe()],
        "weights": [recipe.weights],
    }
    unknown = np.full(len(study.labels), np.nan)
    return Scored(
        tuple(study.labels), scored.y, sigmoid(logits), scored.ids, scored.patients, unknown, name, about,
        recipe.random, scored.table,
    )  # fmt: skip
