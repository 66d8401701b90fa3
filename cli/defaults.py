"""What a command takes when nothing is named: the only study, the newest run. What was chosen is said."""

from __future__ import annotations

from pathlib import Path

from cxrfeat.errors import NotFoundError

from .output import say

STUDIES, CACHE, RUNS = Path("studies"), Path("cache"), Path("runs")


def study_path(given: str | None) -> Path:
    """The study named, else the only one under `studies/`; `sample` stands for the embedded sample.

    A name without a folder or ending is looked up under `studies/`.
    """
    if given == "sample" and not (STUDIES / "sample.csv").is_file():
        from cxrfeat import _sample as sample  # not above: it brings pandas, and `--help` should not wait for that

        return sample.path()
    if given:
        path = Path(given)
        return path if path.is_file() or path.suffix else STUDIES / f"{given}.csv"
    found = sorted(STUDIES.glob("*.csv"))
    if len(found) != 1:
        what = "there is none" if not found else "there are " + ", ".join(p.name for p in found)
        raise NotFoundError(
            f"name a study: under {STUDIES}/ {what}. `cxrfeat study build` makes one, and `sample` is the embedded one."
        )
    say(f"study: {found[0]}")
    return found[0]


def embedding_path(given: str | None, study_name: str | None = None) -> Path:
    """The embedding file named, else the newest under `cache/`, of this study if one is named."""
    if given:
        return Path(given)
    pattern = f"{study_name}-*.h5" if study_name else "*.h5"
    return _newest(list(CACHE.glob(pattern)), "embedding file", f"{CACHE}/{pattern}", "cxrfeat extract")


def run_path(given: str | None) -> Path:
    """The run folder named, else the newest under `runs/`."""
    if given:
        path = Path(given)
        return path if path.exists() or not (RUNS / given).exists() else RUNS / given
    return _newest([p.parent for p in RUNS.glob("*/head.json")], "run", f"{RUNS}/*", "cxrfeat fit-head")


def _newest(found: list[Path], what: str, where: str, command: str) -> Path:
    if not found:
        raise NotFoundError(f"no {what} at {where}; `{command}` makes one.")
    path = max(found, key=lambda p: p.stat().st_mtime)
    say(f"{what}: {path}" + (f" (the newest of {len(found)})" if len(found) > 1 else ""))
    return path
