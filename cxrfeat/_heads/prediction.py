"""Loading the head of a run, and predicting every image of a study that has embeddings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxrfeat._files import write_atomically
from cxrfeat._heads.base import Floats, Head
from cxrfeat._heads.calibration import Calibration
from cxrfeat._heads.ensemble import EnsembleHead
from cxrfeat._heads.features import Features, paths_of
from cxrfeat._heads.registry import head_class
from cxrfeat._run import Run, check_files, load_run
from cxrfeat._study import Study
from cxrfeat.errors import HeadError


def load_head(run: Run | str | Path) -> Head:
    """Load the head of a run; no code from its folder is run, and a changed file is refused with a HeadError."""
    run = load_run(run)
    check_files(run)
    try:
        kind = EnsembleHead if run.options.ensemble else head_class(run.kind)
    except HeadError as error:
        raise HeadError(
            f"{run.path} has a head of kind {run.kind!r}, which this cxrfeat does not know. Upgrade cxrfeat, or "
            "install the package that declares it."
        ) from error
    head = kind.load(run.path, run.labels, run.state)
    head.calibration = Calibration.from_dict(run.calibration, len(head.labels))
    head.fitted = np.array([label not in run.unfitted for label in head.labels])
    return head


def predict(
    run: Run | str | Path,
    embeddings: Any = None,
    study: Study | None = None,
    *,
    tta: bool | None = None,
    memory: int | None = None,
) -> pd.DataFrame:
    """Predict the images of a study, or of an embedding file, with the head of a run.

    Parameters
    ----------
    run : Run or path
        The run folder.
    embeddings : path, EmbeddingFile, Extraction, or several of them
        Embeddings by the recipes that the head was trained on, in the same order. By default the study's newest.
    study : Study, optional
        Which images, and their splits. By default every image of the first file, without a split.
    tta : bool, optional
        Mean of the logits over all passes instead of pass 0; by default as the run did it.
    memory : int, optional
        Bytes of embeddings to hold at once.

    Returns
    -------
    pandas.DataFrame
        `image_id`, `split`, and a calibrated probability for each label, NaN if a label was not fitted.

    Raises
    ------
    RecipeError
        If an embedding file was made by another recipe than the head was trained on.
    """
    run = load_run(run)
    head = load_head(run)
    with Features(paths_of(embeddings, study or run.study())) as features:
        features.require(run.recipes)
        if study is None:
            ids = features.files[0].image_ids
            splits = [""] * len(ids)
        else:
            usable = features.usable(study)
            ids, splits = usable.ids, list(usable.table["split"])
        mean = run.options.tta if tta is None else tta
        logits = raw_logits(head, features, ids, features.passes if mean else (0,), memory)
    return prediction_table(ids, splits, head.labels, head.from_logits(logits))


def raw_logits(
    head: Head, features: Features, ids: npt.NDArray[np.str_], passes: Sequence[int], memory: int | None = None
) -> Floats:
    """Mean of the raw logits over some passes, float64 (n, labels)."""
    total = np.zeros((len(ids), len(head.labels)))
    for one in passes:
        for place, x in features.rows(ids, (one,), memory).blocks():
            total[place] += head.logits(x)
    return total / len(passes)


def prediction_table(ids: Iterable[str], splits: Iterable[str], labels: Sequence[str], p: Floats) -> pd.DataFrame:
    """One row an image: `image_id`, `split`, a probability for each label."""
    table = pd.DataFrame(p, columns=list(labels))
    table.insert(0, "split", list(splits))
    table.insert(0, "image_id", list(ids))
    return table


def write_predictions(path: Path, predictions: pd.DataFrame) -> Path:
    """Write probabilities with 9 significant digits, atomically; empty where a label has none."""
    return write_atomically(path, predictions.to_csv(index=False, float_format="%.9g", lineterminator="\n"))
