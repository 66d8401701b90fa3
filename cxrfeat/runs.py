"""Looking after run folders: the calls behind `cxrfeat runs`, with the command's words."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pandas as pd

from cxrfeat._files import own_hash, sha256
from cxrfeat._project import RUNS, run_folders
from cxrfeat._run import Run, load_run
from cxrfeat.errors import CxrfeatError, HeadError, NotFoundError

__all__ = ["ls", "verify"]

_log = logging.getLogger(__name__)

COLUMNS = ["run", "study", "head", "recipe", "macro_auroc", "low", "high", "split", "date"]


def ls(folder: str | Path = RUNS) -> pd.DataFrame:
    """List the runs in a folder, newest first.

    Parameters
    ----------
    folder : str or Path
        The folder.

    Returns
    -------
    pandas.DataFrame
        Columns `run`, `study`, `head`, `recipe`, `macro_auroc` with the interval `low` to `high` on `split` (NaN before
        `evaluate`), and `date`. Of a run that cannot be opened, `head` says why.

    Examples
    --------
    >>> import cxrfeat as cxr
    >>> cxr.runs.ls()[["run", "study", "head"]].to_string(index=False).split()
    ['run', 'study', 'head', 'sample-densenet121-logistic', 'sample', 'logistic']
    """
    rows = [_row(path) for path in run_folders(Path(folder))]
    return pd.DataFrame(rows, columns=COLUMNS).sort_values("date", ascending=False, ignore_index=True)


def _row(path: Path) -> dict[str, Any]:
    try:
        run = Run.open(path)
    except CxrfeatError as error:
        return {"run": path.name, "head": f"cannot be opened: {error}", "date": ""}
    recipe = " + ".join(recipe.describe() for recipe in run.recipes)
    row = {"run": run.name, "study": run.study_name, "head": run.kind, "recipe": recipe, "date": run.created[:10]}
    file = path / "metrics.json"
    if not file.exists():
        return row
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        old = found.get("format_version", 1) < 2
        if not old and found["sha256"] != own_hash(found):
            raise ValueError("it was changed")
        low, high = found["macro"].get("auroc_bootstrap") or (None, None)
        measured = {"macro_auroc": found["macro"]["auroc"], "low": low, "high": high}
        return row | measured | {"split": found["stands_on" if old else "provenance"].get("split")}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        _log.warning("%s was changed or damaged; run `cxrfeat evaluate` again.", file)
        return row


def verify(run: str | Path | Run | None = None) -> pd.DataFrame:
    """Check the files of a run against the hashes in its `head.json`, and load its head.

    Parameters
    ----------
    run : str, Path or Run, optional
        The folder, or its name under `runs/`; by default the newest.

    Returns
    -------
    pandas.DataFrame
        Columns `file` and `state`: `ok`, `changed`, `missing`, or for the head why it cannot be loaded. A run of format
        version 1 has hashes of the head's own files only; the others are `no hash`.

    Raises
    ------
    NotFoundError
        If there is no such run.
    HeadError
        If `head.json` was changed after it was written, is damaged, foreign, or of a newer version.

    Examples
    --------
    >>> import cxrfeat as cxr
    >>> sorted(set(cxr.runs.verify("sample-densenet121-logistic")["state"]))
    ['ok']
    """
    from cxrfeat._heads import load_head  # not above: listing runs needs no heads

    run = load_run(run)
    rows = [{"file": "head.json", "state": "ok"}]
    for name in dict.fromkeys([*run.files, run.table("study").name, run.table("predictions").name]):
        path, expected = run.path / name, run.files.get(name)
        if not path.is_file():
            state = "missing"
        elif expected is None:
            state = "no hash"
        else:
            state = "ok" if sha256(path) == expected else "changed"
        rows.append({"file": name, "state": state})
    try:
        load_head(run)
    except (HeadError, NotFoundError) as error:
        if all(row["state"] == "ok" for row in rows):
            rows.append({"file": "head", "state": str(error)})
    return pd.DataFrame(rows)
