"""Copies of images under two patients, in two splits or in two studies: found by content, then by likeness."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from cxrfeat import _machine as machine
from cxrfeat import _project as project
from cxrfeat._audit import neighbours, pixels
from cxrfeat._audit.result import FEWEST, Leaks, Row
from cxrfeat._datasets.reading import read_study
from cxrfeat._progress import Progress, silent
from cxrfeat._project import embedding_path
from cxrfeat._recipe import Recipe
from cxrfeat._remote import readers
from cxrfeat._store import EmbeddingFile
from cxrfeat._study import Study
from cxrfeat.errors import NotFoundError, StudyError

_log = logging.getLogger(__name__)

Floats: TypeAlias = npt.NDArray[np.float32]
Pair: TypeAlias = tuple[int, int]

EXPECTED_FALSE = 0.05
"""False pairs that a search may find on average."""
CANDIDATES = 0.1
"""Neighbours of an image, on average, that are no copies of it and are looked at all the same."""
PER_IMAGE = 20
"""Candidates for each image at most."""
HARD = 250
"""Images whose `NEAR`-th to 8th neighbours show how alike two patients can be."""


def leaks(
    study: Study | str | Path | None = None,
    *others: Study | str | Path,
    expected_false: float = EXPECTED_FALSE,
    seed: int = 0,
    progress: Progress = silent,
) -> Leaks:
    """Find images that are in a study twice under two patients, or in two studies.

    Exact copies are found by the SHA-256 of the file and of its pixels. Near copies (re-encoded, resized, cut by a few
    percent, with other brightness, contrast or gamma, equalised) are searched by exact cosine among all pairs, of small
    pictures and of the study's newest embeddings, if there are any, and then compared on pixels. What counts as alike
    is read from the study itself: from how alike its different patients are. That the check was made is recorded
    under `studies/`, and `fit_head` and `evaluate` say where it was not.

    Parameters
    ----------
    study : Study, path or str, optional
        What `read_study` reads; by default the only study.
    *others : Study, path or str
        Studies to compare with it, and with one another.
    expected_false : float
        False pairs that may be found on average.
    seed : int
        Which images the distribution is read from.
    progress : callable
        Called with the images read and their total.

    Returns
    -------
    Leaks
        It prints as a table; `plot()` is a contact sheet, `save()` writes it with the pairs and the ids to drop.

    Raises
    ------
    StudyError
        If two studies have the same name.
    NotFoundError
        If a study is not found.

    Examples
    --------
    >>> import cxrfeat as cxr
    >>> study = cxr.read_study("sample").take(range(30))
    >>> found = cxr.leaks(study)
    >>> len(found.pairs), found.drop()
    (0, [])
    """
    studies = [read_study(one) for one in (study, *others)]
    if len({one.name for one in studies}) < len(studies):
        raise StudyError(f"name studies of different names, not {', '.join(one.name for one in studies)}.")
    found = _search(_Images(studies), expected_false, seed, progress)
    for one in studies:
        mine = [row for row in found.pairs if row["study_a"] == row["study_b"] == one.name]
        recipe = found.recipe.sha256 if found.recipe else None
        about = {"with": [other.name for other in studies if other is not one], "recipe_sha256": recipe}
        project.record_check(one, [(row["image_a"], row["image_b"]) for row in mine], about)
    return found


class _Images:
    """All images of some studies, one after the other: which study, id, patient and split each row has."""

    def __init__(self, studies: Sequence[Study]) -> None:
        self.studies = list(studies)
        self.paths = [path for study in studies for path in study.paths()]
        self.study = np.repeat(np.arange(len(studies)), [len(study) for study in studies])
        self.ids, self.patients, self.splits = (
            np.concatenate([study.table[column].to_numpy(dtype=str) for study in studies])
            for column in ("image_id", "patient_id", "split")
        )
        # A patient of one study is none of another: what is in both studies is a leak whatever it is called.
        both = np.char.add(self.study.astype(str), np.char.add("\x1f", self.patients))
        self.groups = np.unique(both, return_inverse=True)[1].astype(np.int64)

    def __len__(self) -> int:
        return len(self.ids)


def _files(studies: Sequence[Study]) -> tuple[list[Path | None], Recipe | None]:
    """The newest embedding file of each study by the recipe of the first that has one, and the recipe."""
    found: list[Path | None] = []
    recipe: Recipe | None = None
    for study in studies:
        try:
            found.append(embedding_path(None, study, recipe))
            with EmbeddingFile.open(found[-1] or "") as file:
                recipe = file.recipe.pass0
        except NotFoundError:
            _log.info("no embeddings of study %r are here: copies are searched by small pictures alone.", study.name)
            found.append(None)
    return found, recipe


def _search(images: _Images, expected_false: float, seed: int, progress: Progress) -> Leaks:
    rng = np.random.default_rng(seed)
    files, recipe = _files(images.studies)
    with tempfile.TemporaryFile() as scratch:
        # On disk: the pictures of 112,120 images take 1 GB.
        small = np.memmap(scratch, np.uint8, "w+", shape=(len(images), pixels.SIDE, pixels.SIDE))
        hashes, x = _read(images, small, progress)
        read, exact = ~np.isnan(x[:, 0]), _exact(images, hashes)
        cosines: dict[Pair, float] = {}
        same_patient, hard = 0, np.empty((0, 2), np.int64)
        for source in ("pictures", "embeddings"):
            if source == "embeddings":
                x = _stacked(images, files)
            usable = np.flatnonzero(~np.isnan(x[:, 0]))
            if len(np.unique(images.groups[usable])) < FEWEST:
                continue
            # The copy, if there is one, is centred in place; what is searched by is not needed again.
            near = _candidates(x if len(usable) == len(x) else x[usable], usable, images.groups, expected_false, rng)
            same_patient, hard = max(same_patient, near.same_patient), hard if len(hard) else near.hard
            for pair, cosine in near.pairs.items():
                if cosine >= near.strict or read[list(pair)].all():
                    cosines[pair] = max(cosine, cosines.get(pair, -1.0))
        todo = [(a, b) for a, b in cosines if not read[a] or hashes["pixels"][a] != hashes["pixels"][b]]
        compare = [pair for pair in todo if read[list(pair)].all()]
        scores = _compared(small, compare)
        limit = threshold(_compared(small, hard[read[hard].all(axis=1)].tolist()), len(compare), expected_false)
    rows = [(*pair, how, 1.0) for pair, how in exact.items()]
    rows += [(*pair, "near", score) for pair, score in zip(compare, scores, strict=True) if score >= limit]
    rows += [(*pair, "unverified", np.nan) for pair in todo if not read[list(pair)].all()]
    unread = int((~read).sum())
    found = _rows(images, rows, cosines)
    return Leaks(images.studies, found, same_patient, len(compare), limit, expected_false, unread, recipe)


def threshold(null: Sequence[float], tested: int, expected_false: float) -> float:
    """The correlation that `expected_false` of `tested` pairs of different patients exceed on average.

    `null` are correlations of such pairs. On Fisher's scale (atanh) their excess over the upper quartile is taken for
    exponential, the tail of extreme values with shape 0 (Pickands, Ann. Statist. 1975, 3:119-131). That of correlations
    is thinner: the number is a bound. NaN with fewer than `FEWEST` of them.
    """
    z = np.arctanh(np.clip(np.asarray(null, dtype=np.float64), -0.999, 0.999))
    if len(z) < FEWEST:
        return float("nan")
    start = np.quantile(z, 0.75)
    mean_excess = (z[z > start] - start).mean() if (z > start).any() else 0.0
    return float(np.tanh(start + mean_excess * np.log(0.25 * max(tested, len(z)) / expected_false)))


def _read(images: _Images, small: npt.NDArray[np.uint8], progress: Progress) -> tuple[dict[str, list[bytes]], Floats]:
    """Hashes of `file` and `pixels` of every image, empty if it cannot be read, and what is searched, NaN then."""
    hashes: dict[str, list[bytes]] = {"file": [], "pixels": []}
    prints: Floats = np.full((len(images), pixels.COARSE**2), np.nan, np.float32)
    with ThreadPoolExecutor(readers(images.paths, machine.cores())) as pool:
        for row, one in enumerate(pool.map(pixels.look, images.paths)):
            if one is not None:
                small[row], prints[row] = one.small, pixels.fingerprint(one.small)
            hashes["file"].append(one.file if one else b"")
            hashes["pixels"].append(one.pixels if one else b"")
            progress(row + 1, len(images), "reading images")
    return hashes, prints


def _exact(images: _Images, hashes: dict[str, list[bytes]]) -> dict[Pair, str]:
    """Each image with the first of its exact copies of another patient, and what is the same."""
    found: dict[Pair, str] = {}
    for what, contents in hashes.items():
        members: dict[bytes, list[int]] = {}
        for b, content in enumerate(contents):
            earlier = members.setdefault(content, [])
            a = next((a for a in earlier if images.groups[a] != images.groups[b]), None)
            if content and a is not None:
                found.setdefault((a, b), what)
            earlier.append(b)
    return found


def _stacked(images: _Images, files: Sequence[Path | None]) -> Floats:
    """Embeddings of all studies one after the other, float32 (n, dim), NaN where there are none."""
    x = np.full((len(images), 1), np.nan, np.float32)
    for k, path in enumerate(files):
        if path is not None:
            with EmbeddingFile.open(path) as file:
                if x.shape[1] != file.dim:
                    x = np.full((len(images), file.dim), np.nan, np.float32)
                rows = np.flatnonzero(images.study == k)
                rows = rows[file.has(images.ids[rows])]
                x[rows] = file.to_numpy(images.ids[rows])
    return x


class _Near(NamedTuple):
    """Pairs of two patients that are alike, with cosines, and how many of one patient are.

    `strict` is the cosine from which on that is enough without pixels; `hard` are pairs that are no copies, (n, 2).
    """

    pairs: dict[Pair, float]
    strict: float
    same_patient: int
    hard: npt.NDArray[np.int64]


def _candidates(
    x: Floats,
    rows: npt.NDArray[np.int64],
    groups: npt.NDArray[np.int64],
    expected_false: float,
    rng: np.random.Generator,
) -> _Near:
    x, mine = neighbours.whitened(x), groups[rows]
    queries = rng.permutation(len(x))[: neighbours.QUERIES]
    ranks = min(neighbours.FAR, len(np.unique(mine)) - 1)
    places, cosines = neighbours.neighbours(x, mine, queries, ranks)
    # Where few films have a copy, the nearest neighbours themselves say it better than the bound.
    enough = min(neighbours.level(cosines, CANDIDATES), float(np.quantile(cosines[:, 0], 1 - CANDIDATES)))
    found = neighbours.alike(x, enough, most=PER_IMAGE * len(x))
    apart = mine[found.a] != mine[found.b]
    pairs = zip(rows[found.a[apart]].tolist(), rows[found.b[apart]].tolist(), strict=True)
    hard = places[:HARD, neighbours.NEAR - 1 : 8]
    return _Near(
        dict(zip(pairs, found.cosine[apart].tolist(), strict=True)),
        neighbours.level(cosines, expected_false / len(x)),
        int((~apart).sum()),
        rows[np.column_stack([np.repeat(queries[:HARD], hard.shape[1]), hard.ravel()])],
    )


def _compared(small: npt.NDArray[np.uint8], pairs: Iterable[Sequence[int]]) -> list[float]:
    with ThreadPoolExecutor(machine.cores()) as pool:
        return list(pool.map(lambda pair: pixels.similarity(small[pair[0]], small[pair[1]]), pairs))


def _rows(images: _Images, pairs: Iterable[tuple[int, int, str, float]], cosines: dict[Pair, float]) -> list[Row]:
    """Pairs as `Leaks` has them, in the order of the images."""
    found = []
    for a, b, how, similarity in sorted(pairs):
        row: Row = {"how": how, "similarity": similarity, "cosine": cosines.get((a, b), np.nan)}
        for side, at in (("a", a), ("b", b)):
            row[f"study_{side}"], row[f"image_{side}"] = images.studies[images.study[at]].name, str(images.ids[at])
            row[f"split_{side}"] = str(images.splits[at])
        found.append(row | {"patient_same": bool(images.patients[a] == images.patients[b])})
    return found
