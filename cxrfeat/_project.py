"""A project folder: `studies/`, `cache/` and `runs/`, and what is taken there when nothing is named.

What was chosen is logged, so that a default is never silent.
"""

from __future__ import annotations

import logging
from pathlib import Path

from cxrfeat.errors import NotFoundError

_log = logging.getLogger(__name__)

STUDIES, CACHE, RUNS = Path("studies"), Path("cache"), Path("runs")


def study_path(given: str | Path | None = None) -> Path:
    """Return the path of what is named as a study, else of the only study file under `studies/`.

    A name without a folder or an ending is looked up under `studies/` first; what is not there is taken as a path.

    Raises
    ------
    NotFoundError
        If none is named and there is not exactly one.
    """
    if given:
        path = Path(given)
        finished = STUDIES / f"{given}.csv"
        if str(given) != path.name or path.suffix or not finished.is_file():
            return path
        if path.exists():
            _log.info("study: %s", finished)
        return finished
    found = sorted(STUDIES.glob("*.csv"))
    if not found:
        raise NotFoundError("No study found. Run `cxrfeat study build`, or name `sample`, the embedded one.")
    if len(found) > 1:
        raise NotFoundError(f"There are several studies, name one: {', '.join(path.stem for path in found)}.")
    _log.info("study: %s", found[0])
    return found[0]


def embedding_path(given: str | Path | None = None, study_name: str | None = None) -> Path:
    """Return the embedding file named, else the newest under `cache/`, of this study if one is named."""
    if given:
        return Path(given)
    pattern = f"{study_name}-*.h5" if study_name else "*.h5"
    return _newest(list(CACHE.glob(pattern)), "embedding file", CACHE / pattern, "cxrfeat extract")


def run_path(given: str | Path | None = None) -> Path:
    """Return the run folder named, else the newest under `runs/`."""
    if given:
        path = Path(given)
        return path if path.exists() or not (RUNS / path).exists() else RUNS / path
    return _newest([p.parent for p in RUNS.glob("*/head.json")], "run", RUNS / "*", "cxrfeat fit-head")


def _newest(found: list[Path], what: str, where: Path, command: str) -> Path:
    if not found:
        raise NotFoundError(f"No {what} found at {where}. Run `{command}`.")
    path = max(found, key=lambda p: p.stat().st_mtime)
    _log.info("%s: %s%s", what, path, f" (the newest of {len(found)})" if len(found) > 1 else "")
    return path
