"""Writing and loading a head: `head.json` is written last, so that it stands only beside a whole run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cxrfeat._files import sha256, write_atomically
from cxrfeat._heads import kinds
from cxrfeat._heads.calibration import Calibration
from cxrfeat._heads.head import Floats, Head
from cxrfeat._recipe import Recipe
from cxrfeat._run import FORMAT, FORMAT_VERSION, Run
from cxrfeat.errors import HeadError


def save_run(
    out: Path, head: Head, info: Mapping[str, Any], history: pd.DataFrame | None, predictions: pd.DataFrame
) -> Run:
    """Write head, history and predictions, and `head.json` after them; `study.csv` stands there already."""
    out.mkdir(parents=True, exist_ok=True)
    names = head.save(out)
    if history is not None:
        write_atomically(out / "history.csv", history.to_csv(index=False, float_format="%.9g", lineterminator="\n"))
    else:
        (out / "history.csv").unlink(missing_ok=True)
    write_predictions(out / "predictions.csv", predictions)
    full = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "kind": head.kind,
        "labels": list(head.labels),
        "dim": head.dim,
        **info,
        **head.describe(),
        "unfitted": [label for label, fitted in zip(head.labels, head.fitted, strict=True) if not fitted],
        "calibration": head.calibration.to_dict(),
        "files": {name: sha256(out / name) for name in names},
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_atomically(out / "head.json", json.dumps(full, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    return Run.open(out)


def load_head(run: Run | str | Path) -> Head:
    """Load the head of a run; no code from its folder is run.

    Parameters
    ----------
    run : Run or path
        The run folder.

    Raises
    ------
    NotFoundError
        If the folder or the head's own file is missing.
    HeadError
        If a file is damaged, was changed since it was written, or holds more than a head may.
    """
    run = run if isinstance(run, Run) else Run.open(run)
    return load_from(run.path, run.info)


def load_from(folder: Path, info: Mapping[str, Any]) -> Head:
    """Load a head by the content of its `head.json`; what ensembles use for their members."""
    for name, expected in info.get("files", {}).items():
        path = folder / name
        # Only names of this folder: a path that leads out of it would be someone else's file.
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise HeadError(f"{folder / 'head.json'} names a file {name!r} outside the run; it was not loaded.")
        if path.is_file() and sha256(path) != expected:
            raise HeadError(f"{path} was changed after the run was made; it was not loaded. Fit the head again.")
    head = kinds.load(str(info.get("kind")), folder, info)
    head.calibration = Calibration.from_dict(info.get("calibration", {}), len(head.labels))
    unfitted = set(info.get("unfitted", ()))
    head.fitted = np.array([label not in unfitted for label in head.labels])
    return head


def write_predictions(path: Path, predictions: pd.DataFrame) -> Path:
    """Write probabilities with 9 significant digits, atomically; empty where a label has none."""
    return write_atomically(path, predictions.to_csv(index=False, float_format="%.9g", lineterminator="\n"))


def prediction_table(ids: Iterable[str], splits: Iterable[str], labels: Sequence[str], p: Floats) -> pd.DataFrame:
    """One row an image: `image_id`, `split`, a probability for each label."""
    table = pd.DataFrame(p, columns=list(labels))
    table.insert(0, "split", list(splits))
    table.insert(0, "image_id", list(ids))
    return table


def default_folder(runs: Path, study: str, recipes: Sequence[Recipe], heads: Sequence[str], weighting: str) -> Path:
    """A new folder `<study>-<backbone>-<head>[-weighted][-n]` under `runs`."""
    backbones = "+".join(dict.fromkeys(recipe.backbone for recipe in recipes))
    kind = "+".join(head.rpartition(":")[2].lower() for head in heads)
    name = f"{study}-{backbones}-{kind}" + ("" if weighting == "none" else "-weighted")
    taken = {path.name for path in runs.glob(f"{name}*")}
    number = 1
    while (name if number == 1 else f"{name}-{number}") in taken:
        number += 1
    return runs / (name if number == 1 else f"{name}-{number}")
