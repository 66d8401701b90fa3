"""Predicting with a run, whatever the images are: a study with embeddings, image files, folders of them, arrays."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from cxrfeat import _parquet as parquet
from cxrfeat import _project as project
from cxrfeat import _remote as remote
from cxrfeat._datasets.reading import read_study
from cxrfeat._explain.explainer import weights_of
from cxrfeat._extract import extract
from cxrfeat._extract.images import Image, as_items, embed_items
from cxrfeat._files import check_output
from cxrfeat._heads.prediction import load_head
from cxrfeat._heads.prediction import predict as predict_embeddings
from cxrfeat._images import SUFFIXES
from cxrfeat._progress import Progress, silent
from cxrfeat._remote import Place
from cxrfeat._run import PREDICTIONS, Run, adopt, load_run, record, write_predictions
from cxrfeat._study import Study, is_study_file
from cxrfeat.errors import ImageError, NotFoundError

BEGINS = (b"image_id,split,", b"image,")
"""How a CSV of predictions begins."""

_log = logging.getLogger(__name__)


def predict(
    run: Run | str | Path,
    what: Study | Image | Sequence[Image] | None = None,
    *,
    embeddings: str | Path | Sequence[str | Path] | None = None,
    tta: bool | None = None,
    long: bool = False,
    out: str | Path | None = None,
    save: bool = False,
    overwrite: bool = False,
    weights: str | Sequence[str] | None = None,
    engine: str = "auto",
    progress: Progress = silent,
) -> pd.DataFrame:
    """Predict findings with a run.

    Parameters
    ----------
    run : Run or path
        The run, or its folder.
    what : Study, path, array, or sequence of paths or arrays, optional
        A study with embeddings (also as a CSV file, a name under `studies/`, or `sample`); or image files, folders of
        image files, or grey arrays of uint8. By default the run's own study.
    embeddings : path or sequence of paths, optional
        For a study: one file for each that the head was trained on; by default those under `cache/` that fit, which
        are made for an imported classifier's first study.
    tta : bool, optional
        For a study: the mean over all passes; by default as the run did it.
    long : bool
        One row for each image and label, with the threshold and whether it is reached.
    out : path, optional
        CSV to write the table to.
    overwrite : bool
        Replace a file of another kind in `out`; earlier predictions are replaced without.
    save : bool
        For a study: write the run's own `predictions.csv`, or `predictions-<study>.csv` beside it. The first study
        that an imported classifier predicts becomes its run's own, and can be evaluated.
    weights : path or sequence of paths, optional
        For images: where the backbone's weights file is now, one for each backbone.
    engine : str
        For images; see `extract`.
    progress : callable
        Called with the images done and their total.

    Returns
    -------
    pandas.DataFrame
        `image_id` and `split` for a study, `image` (the path as given) otherwise; and a calibrated probability for each
        label, NaN where a label was not fitted. With `long`: `label`, `probability`, `threshold`, `called` instead.
        Images that could not be used have no row; `table.attrs["failed"]` has the reason by image.

    Raises
    ------
    RecipeError
        If the embeddings were made by another recipe than the head was trained on.
    ImageError
        If no image can be used.
    NotFoundError
        If there is no such run, study, file, or no embeddings.
    OutputError
        If `out` is an input, or a file of another kind without `overwrite`.

    Examples
    --------
    >>> import cxrfeat as cxr
    >>> table = cxr.copy_sample("xrays")
    >>> films = sorted(table.parent.glob("images/*"))[:2]
    >>> found = cxr.predict("sample-densenet121-logistic", films)
    >>> found.shape, found.columns[0]
    ((2, 15), 'image')
    >>> cxr.predict("sample-densenet121-logistic", films, long=True).columns.tolist()
    ['image', 'label', 'probability', 'threshold', 'called']
    """
    run = load_run(run)
    study = _as_study(run, what)
    paths = [embeddings] if isinstance(embeddings, str | Path) else list(embeddings or ())
    if out:
        given = what if isinstance(what, list | tuple) else [what]
        inputs = [*paths, *(one for one in given if isinstance(one, str | Path))]
        # A study may begin with the same columns.
        own = False if is_study_file(out) else parquet.holds(Path(out), PREDICTIONS) or None
        check_output(out, begins=BEGINS, own=own, inputs=inputs, overwrite=overwrite)
    if study is None:
        table = _images(run, what, weights, engine, progress)  # type: ignore[arg-type]
    else:
        paths = paths or _embedded(run, study, engine, progress)
        table = predict_embeddings(run, paths, study, tta=tta, progress=progress)
        table.attrs["failed"] = {}
        adopted = not run.study_name and not set(run.labels).isdisjoint(study.labels)
        if save and not out and adopted:
            usable = study.join(table["image_id"].to_numpy(dtype=str))
            run = adopt(run, usable, table[list(run.labels)].to_numpy())
            table.attrs["path"] = run.table("predictions")
        elif save and not out:
            name = "predictions" if study.name == run.study_name else f"predictions-{study.name}"
            out = run.path / (name + parquet.ending_of(len(table)))
    if run.random:
        _log.warning("RANDOM backbone weights: no number here is a result.")
    table = _long(table, run) if long else table
    if out:
        table.attrs["path"] = write_predictions(Path(out), table)
        record(run, Path(out))
    return table


def _as_study(run: Run, what: object) -> Study | None:
    """The study that is meant, None where images are."""
    if what is None:
        return run.study()
    if isinstance(what, Study):
        return what
    if not isinstance(what, str | Path | remote.Url):
        return None
    known = str(what) == "sample" or project.study_file(str(what)) is not None
    path = remote.place(what)
    return read_study(what) if path.suffix in (".csv", parquet.ENDING) or (known and not path.exists()) else None


def _embedded(run: Run, study: Study, engine: str, progress: Progress) -> list[str | Path]:
    """The embedding files of a study for each of a run's recipes; an imported classifier's are made if they must be."""
    found: list[str | Path] = []
    for recipe in run.recipes:
        try:
            found.append(project.embedding_path(None, study, recipe))
        except NotFoundError:
            if run.study_name:
                raise
            found.append(extract(study, recipe, engine=engine, progress=progress).path)
    return found


def _images(
    run: Run, what: Image | Sequence[Image], weights: str | Sequence[str] | None, engine: str, progress: Progress
) -> pd.DataFrame:
    head, recipes = load_head(run), run.recipes
    items = as_items(what if isinstance(what, np.ndarray) else _files(what))
    count = len(items)
    x: list[np.ndarray] = []
    failed: dict[str, str] = {}
    for recipe, found in zip(recipes, weights_of(run, weights), strict=True):
        values, failures = embed_items(items, recipe, found, engine, progress=progress)
        failed |= {str(path): reason for path, reason in failures.values()}
        usable = [i for i in range(len(items)) if i not in failures]
        x, items = [*(part[usable] for part in x), values], [items[i] for i in usable]
    for path, reason in failed.items():
        _log.warning("%s %s", path, reason)
    if not items:
        raise ImageError(f"none of the {count} images can be used.")
    table = pd.DataFrame(head.probabilities(np.concatenate(x, axis=1)), columns=list(head.labels))
    # As objects: a file's name need not be UTF-8.
    table.insert(0, "image", pd.Series([str(item.path) for item in items], dtype=object))
    table.attrs["failed"] = failed
    return table


def _files(what: str | Place | Sequence[Image]) -> list[Image]:
    """The images named, those in folders included, each once."""
    found: list[Image] = []
    for one in [what] if isinstance(what, str | Path | remote.Url) else what:
        path = remote.place(one) if isinstance(one, str | Path | remote.Url) else None
        inside: list[Image] | None = None
        if isinstance(path, Path) and path.is_dir():
            inside = sorted(below for below in path.rglob("*") if _is_image(below))
        elif isinstance(path, remote.Url) and path.suffix.lower() not in SUFFIXES and not path.is_file():
            inside = [below for below in path.below() if below.suffix.lower() in SUFFIXES]
        if inside == []:
            raise NotFoundError(f"no image files in {path}.")
        found += inside or [one if path is None else path]
    return list({number if isinstance(one, np.ndarray) else one: one for number, one in enumerate(found)}.values())


def _is_image(path: Path) -> bool:
    """Whether a file in a folder is an image by its ending, or a DICOM file without one; hidden files are not."""
    if path.name.startswith(".") or not path.is_file():
        return False
    if path.suffix.lower() in SUFFIXES:
        return True
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _long(table: pd.DataFrame, run: Run) -> pd.DataFrame:
    """One row for each image and label, in the order of the wide table."""
    labels = list(run.labels)
    rows = table.drop(columns=labels).loc[table.index.repeat(len(labels))].reset_index(drop=True)
    rows["label"], rows["probability"] = labels * len(table), table[labels].to_numpy().ravel()
    rows["threshold"] = rows["label"].map(run.thresholds)
    known = rows["probability"].notna() & rows["threshold"].notna()
    rows["called"] = (rows["probability"] >= rows["threshold"]).astype(object).where(known, None)
    rows.attrs = dict(table.attrs)
    return rows


def shortest_names(paths: Iterable[str | Path]) -> dict[str, str]:
    """For each path its shortest ending that no other of them has: a file's name, with as many folders as it takes."""
    endings = {}
    for path in paths:
        parts = Path(path).parts
        endings[str(path)] = [str(Path(*parts[-length:])) for length in range(1, len(parts) + 1)]
    counts = Counter(end for ends in endings.values() for end in ends)
    return {path: next((end for end in ends if counts[end] == 1), ends[-1]) for path, ends in endings.items()}
