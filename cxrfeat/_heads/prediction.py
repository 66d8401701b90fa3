"""Loading the head of a run, and predicting every image of a study that has embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cxrfeat._heads.base import Head
from cxrfeat._heads.decision import Calibration
from cxrfeat._heads.ensemble import EnsembleHead
from cxrfeat._heads.features import Features
from cxrfeat._heads.registry import head_class
from cxrfeat._progress import Progress, silent
from cxrfeat._project import embedding_paths
from cxrfeat._run import Run, check_files, load_run, prediction_table
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
    progress: Progress = silent,
) -> pd.DataFrame:
    """Predict the images of a study, by default all of the first file without a split, with the head of a run.

    `embeddings` are by the recipes that the head was trained on, in the same order, by default the study's newest;
    another recipe is a RecipeError. `tta` is by default as the run did it. Embeddings are read
    a few at a time. The table is that of `prediction_table`, calibrated, NaN where a label was not fitted.
    """
    run = load_run(run)
    head = load_head(run)
    with Features(embedding_paths(embeddings, study or run.study())) as features:
        features.require(run.recipes)
        ids: Any = features.files[0].image_ids
        splits: Any = ""
        if study is not None:
            usable = features.usable(study, progress)
            ids, splits = usable.ids, usable.table["split"]
        p = head.from_logits(features.logits(head, ids, run.options.tta if tta is None else tta))
    return prediction_table(ids, splits, head.labels, p)
