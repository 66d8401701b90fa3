"""Predicting with a run: probabilities for every image of a study that has embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxrfeat._heads.features import Features
from cxrfeat._heads.files import load_head, prediction_table
from cxrfeat._heads.head import Floats, Head
from cxrfeat._run import Run
from cxrfeat._study import Study


def predict(
    run: Run | str | Path,
    embedding_files: str | Path | Sequence[str | Path],
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
    embedding_files : path or sequence of paths
        Embeddings by the recipes that the head was trained on, in the same order.
    study : Study, optional
        Which images, and their splits. By default every image of the first file, without a split.
    tta : bool, optional
        Mean of the logits over all passes instead of pass 0; by default as the run did it.
    memory : int, optional
        Bytes of embeddings to hold at once.

    Returns
    -------
    pandas.DataFrame
        `image_id`, `split`, and a calibrated probability for each label, NaN where a label was not fitted.

    Raises
    ------
    RecipeError
        If an embedding file was made by another recipe than the head was trained on.
    """
    run = run if isinstance(run, Run) else Run.open(run)
    head = load_head(run)
    paths = [embedding_files] if isinstance(embedding_files, str | Path) else list(embedding_files)
    with Features(paths) as features:
        features.require(run.recipes)
        if study is None:
            ids = features.files[0].image_ids
            splits = [""] * len(ids)
        else:
            usable = features.usable(study)
            ids, splits = usable.ids, list(usable.table["split"])
        mean = run.info.get("options", {}).get("tta", False) if tta is None else tta
        logits = raw_logits(head, features, ids, features.passes if mean else (0,), memory)
    return prediction_table(ids, splits, head.labels, head.from_logits(logits))


def raw_logits(
    head: Head, features: Features, ids: npt.NDArray[np.str_], passes: Sequence[int], memory: int | None = None
) -> Floats:
    """Mean of the raw logits over some passes, float64 (n, labels)."""
    total = np.zeros((len(ids), len(head.labels)))
    for rendering in passes:
        for place, x in features.rows(ids, (rendering,), memory).blocks():
            total[place] += head.logits(x)
    return total / len(passes)
