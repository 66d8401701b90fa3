"""A run's predictions of another study: by its recipe, joined by names of labels, checked for what it was fitted on."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from cxrfeat._datasets.dataset import DATASETS
from cxrfeat._datasets.derive import map_study
from cxrfeat._datasets.reading import read_study
from cxrfeat._evaluate.scored import Scored, of_run
from cxrfeat._extract import extract
from cxrfeat._heads.features import Features
from cxrfeat._heads.prediction import predict
from cxrfeat._labels import canonical
from cxrfeat._progress import Progress
from cxrfeat._project import embedding_path, study_file
from cxrfeat._recipe import Recipe
from cxrfeat._run import Run
from cxrfeat._store import EmbeddingFile
from cxrfeat._study import Study
from cxrfeat.errors import EmbeddingFileError, LeakageError, NotFoundError

_log = logging.getLogger(__name__)


def open_study(source: Study | str | Path) -> tuple[Study, str]:
    """A study, and the split that is meant where one is: `NAME:SPLIT`, or a study of one split."""
    name, colon, split = str(source).rpartition(":")
    if isinstance(source, str) and colon and (Path(name).exists() or study_file(name)):
        return read_study(name).split(split), split
    study = read_study(source)
    return study, study.splits[0] if isinstance(source, Study) and len(study.splits) == 1 else ""


def scored_on(
    run: Run, study: Study, split: str, allow_contaminated: bool, progress: Progress
) -> tuple[Scored, dict[str, str], list[str]]:
    """Predict another study; also the labels that cannot be compared with the reason, and what to worry about.

    Raises a LeakageError if the run was fitted on some of its images or patients, unless `allow_contaminated`.
    """
    files = [_embeddings(study, recipe if run.options.tta else recipe.pass0, progress) for recipe in run.recipes]
    refused, doubts = _seen(run, study, files[0])
    if refused and not allow_contaminated:
        raise LeakageError(
            f"{' '.join(refused)} `cxrfeat study leaks` lists what to leave out; `allow_contaminated=True` evaluates "
            "it all the same, and every output says so."
        )
    mapped = map_study(study, to=run.labels, name=study.name)
    predictions = predict(run, files, study).set_index("image_id")[list(run.labels)]
    scored = with_usual_names(of_run(run, mapped, predictions, split, f"predictions of study {study.name!r}", refused))
    left = {name: "the run does not predict it" for name in map(canonical, study.labels) if name not in scored.labels}
    unknown = [(truth < 0).all() for truth in scored.truth.T]
    left |= {label: f"not in study {study.name}" for label, none in zip(scored.labels, unknown, strict=True) if none}
    return scored, left, doubts


def with_usual_names(scored: Scored) -> Scored:
    """Predictions under the usual names of their labels, which another study's can be joined to."""
    return replace(scored, labels=tuple(map(canonical, scored.labels)))


def _embeddings(study: Study, recipe: Recipe, progress: Progress) -> Path:
    """Embeddings of all images by a recipe: found by what they are, whatever the file's name, or made."""
    try:
        path = embedding_path(None, study, recipe)
        with Features([path]) as features:
            features.usable(study)
            if len(features.passes) > recipe.passes:
                return path
    except (NotFoundError, EmbeddingFileError):
        _log.info("study %r has no embeddings by %s here; they are made.", study.name, recipe.describe())
    return extract(study, recipe, progress=progress).path


def _seen(run: Run, study: Study, file: Path) -> tuple[list[str], list[str]]:
    """What of a study the run was fitted on or took thresholds from: what is certain, and what may be chance."""
    own = run.study()
    fitted = own.split(*(s for s in own.splits if s in (*run.fitted_on.splits, run.decision.split)))
    rows = set(zip(fitted.ids.tolist(), fitted.patients.tolist(), strict=True))
    same = [i for i, p in zip(study.ids.tolist(), study.patients.tolist(), strict=True) if (i, p) in rows]
    try:
        known = _hashes(embedding_path(None, own, run.recipes[0]), fitted)
        same = list(dict.fromkeys([*same, *(i for digest, i in _hashes(file, study).items() if digest in known)]))
    except NotFoundError:
        _log.info("no embeddings of the run's own study are here: images are compared by id and patient alone.")
    refused: list[str] = []
    doubts: list[str] = []
    if same:
        refused.append(
            f"{len(same):,} images of study {study.name!r} were used in fitting run {run.name!r}, such as {same[0]!r}."
        )
    if shared := set(study.patients.tolist()) & set(fitted.patients.tolist()):
        source = own.provenance.get("dataset")
        alike = source == study.provenance.get("dataset") and source in {d.title for d in DATASETS if not d.generic}
        text = (
            f"{len(shared):,} patient ids of study {study.name!r} are of patients that run {run.name!r} was fitted on"
        )
        (refused if same or alike else doubts).append(f"{text}{'.' if same or alike else ', or of others by chance.'}")
    return refused, doubts


def _hashes(path: Path, study: Study) -> dict[bytes, str]:
    """The images of a study by the SHA-256 of their files, as far as an embedding file knows it."""
    with EmbeddingFile.open(path) as file:
        ids = study.ids[file.has(study.ids)]
        return {one.tobytes(): str(i) for one, i in zip(file.image_sha256(ids), ids, strict=True) if one.any()}
